"""Drives a server with Simon Willison's `llm`: a chat, one that goes on, one with options, the models listed.

usage: llm_client.py build/bin/moraine models/tiny-r1
"""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from served import KEY, check, run, serving

MODELS = """\
- model_id: moraine
  model_name: tiny-r1
  api_base: {url}/v1
  api_key_name: moraine
  reasoning: true
"""


def main():
    with serving() as url, tempfile.TemporaryDirectory() as folder:
        print(f"llm {version('llm')}, {url}", flush=True)
        (Path(folder) / "extra-openai-models.yaml").write_text(MODELS.format(url=url))

        def llm(*arguments):
            return run([sys.executable, "-m", "llm", *arguments], folder, LLM_USER_PATH=folder)

        check("key kept", llm("keys", "set", "moraine", "--value", KEY)[1])
        check("models", "OpenAI Chat: moraine" in llm("models")[0])
        text, well = llm("-m", "moraine", "What is 348 + 275?")
        check("chat, streamed", well and "623" in text, repr(text))
        text, well = llm("-m", "moraine", "--no-stream", "-o", "temperature", "0", "What is 5 + 4?")
        check("chat, whole", well and "= 9" in text, repr(text))
        text, well = llm("-c", "And 348 - 275?")
        check("the conversation goes on", well and "= 73" in text, repr(text))
        logged = json.loads(llm("logs", "-n", "1", "--json")[0])[0]
        details = json.loads(logged["token_details"])
        check("usage", details["completion_tokens_details"]["reasoning_tokens"] > 20, logged["output_tokens"])
        text, well = llm("-m", "moraine", "--key", "wrong", "Hello")
        check("a wrong key is said", not well and "API key" in text, text.strip()[:80])


main()
