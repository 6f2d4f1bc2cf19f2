"""Drives a server with `llama-benchy`: prompts and answers of exact lengths, two at once, cached prefixes.

usage: llama_benchy_client.py build/bin/moraine models/tiny-r1
"""

import functools
import http.server
import json
import os
import random
import sys
import tempfile
import threading
from importlib.metadata import version
from pathlib import Path

from served import KEY, check, run, serving


class Book(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def book_url(folder):
    """The text prompts are cut from, served here so that nothing is fetched from elsewhere."""
    draw = random.Random(1)
    lines = [f"What is {draw.randint(1, 999)} + {draw.randint(1, 999)}?" for _ in range(4000)]
    (Path(folder) / "book.txt").write_text("\n".join(lines))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Book, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/book.txt"


def main():
    with serving() as url, tempfile.TemporaryDirectory() as folder:
        print(f"llama-benchy {version('llama-benchy')}, {url}", flush=True)
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "llama_benchy", "--base-url", f"{url}/v1", "--api-key", KEY]
        command += ["--model", "tiny-r1", "--tokenizer", os.path.abspath(sys.argv[2]), "--book-url", book_url(folder)]
        command += "--pp 128 --tg 32 --depth 0 256 --concurrency 1 2 --runs 2 --exact-tg --enable-prefix-caching".split()
        # tiny-r1 answers sums only, not the question about France.
        command += ["--skip-coherence", "--exit-on-first-fail", "--format", "json", "--save-result", str(result)]
        text, well = run(command, folder)
        check("ends well", well and "rror" not in text, "" if well else text[-2000:])
        rows = json.loads(result.read_text())["benchmarks"]
        check("every combination", len(rows) == 6, len(rows))
        for row in rows:
            rates = {name: row[name]["mean"] for name in ("pp_throughput", "tg_throughput") if row.get(name)}
            where = f"depth {row['context_size']}, {row['concurrency']} at once"
            check(where, rates and all(rate > 0 for rate in rates.values()), rates)


main()
