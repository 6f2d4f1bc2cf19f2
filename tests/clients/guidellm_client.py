"""Drives a server with `guidellm`: chats one after another, completions four at once, none with an error.

usage: guidellm_client.py build/bin/moraine models/tiny-r1
"""

import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from served import KEY, check, run, serving

RUNS = {
    "chat": "kind=synchronous",
    "completions": "kind=concurrent,streams=4",
}


def main():
    with serving() as url, tempfile.TemporaryDirectory() as folder:
        print(f"guidellm {version('guidellm')}, {url}", flush=True)
        tokenizer = f"kind=huggingface_auto,model={os.path.abspath(sys.argv[2])}"
        for name, profile in RUNS.items():
            result = Path(folder) / f"{name}.json"
            path = "/v1/chat/completions" if name == "chat" else "/v1/completions"
            backend = f"kind=openai_http,target={url},model=tiny-r1,api_key={KEY},request_format={path}"
            command = [sys.executable, "-m", "guidellm", "run", "--backend", backend, "--profile", profile]
            command += ["--constraint", "kind=max_requests,count=8", "--tokenizer", tokenizer, "--disable-console"]
            command += ["--data", "kind=synthetic_text,prompt_tokens=64,output_tokens=32", "--output", f"kind=json,path={result}"]
            text, well = run(command, folder)
            check(f"{name} ends well", well, "" if well else text[-2000:])
            metrics = json.loads(result.read_text())["benchmarks"][0]["metrics"]
            totals = metrics["request_totals"]
            check(f"{name}: 8 requests, no error", totals["successful"] == 8 and totals["errored"] == 0, totals)
            check(f"{name}: 32 tokens each", metrics["output_token_count"]["successful"]["min"] >= 32)


main()
