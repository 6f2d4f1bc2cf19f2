"""Drives a server with `aider`, asked one question from the command line.

usage: aider_client.py build/bin/moraine models/tiny-r1
"""

import re
import sys
import tempfile
from importlib.metadata import version

from served import KEY, check, run, serving

FLAGS = "--no-git --no-check-update --no-show-release-notes --no-show-model-warnings --analytics-disable --no-pretty --yes-always"


def main():
    with serving() as url, tempfile.TemporaryDirectory() as home:
        print(f"aider-chat {version('aider-chat')}, {url}", flush=True)

        def aider(key, *arguments):
            command = [sys.executable, "-m", "aider", "--model", "openai/tiny-r1", *FLAGS.split(), *arguments]
            return run(command, home, OPENAI_API_BASE=f"{url}/v1", OPENAI_API_KEY=key)

        # Its own long system prompt is in the way of arithmetic: that it is answered is what counts.
        for streams in ("--stream", "--no-stream"):
            text, well = aider(KEY, "--edit-format", "ask", streams, "--message", "What is 348 + 275?")
            counts = re.search(r"Tokens: (\d+) sent, (\d+) received", text)
            check(f"ask {streams}", well and counts and int(counts[2]) > 20, counts and counts[0])
            check("thinking apart", re.search(r"THINKING.*ANSWER", text, re.DOTALL))
        text, _ = aider("wrong", "--edit-format", "ask", "--message", "Hello")
        check("a wrong key is said", "AuthenticationError" in text)


main()
