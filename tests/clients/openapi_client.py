"""Holds a server to its own openapi.json with schemathesis: requests made from it, well and badly; no 5xx, no other answer than it says.

usage: openapi_client.py build/bin/moraine models/tiny-r1 [SCHEMATHESIS ARGUMENTS]
       e.g. --max-examples 500 for a longer hunt, --seed N to repeat one
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request

RUN = ["--phases", "examples,coverage,fuzzing", "--checks", "all", "--continue-on-failure",
       "--request-timeout", "60", "--max-response-time", "60"]
BOUNDED = ["--max-examples", "60", "--seed", "1"]  # a minute, the same one each time
LONGEST_S = 600


def main():
    binary, model, *more = sys.argv[1:]
    server = subprocess.Popen([binary, "serve", model, "--listen", "127.0.0.1:0", "--ui"], stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while "moraine: ready" not in said:
            line = server.stderr.readline()
            if not line:
                sys.exit(f"the server did not start:\n{said}")
            said += line
        address = re.search(r"listening on (\S+)", said).group(1)
        threading.Thread(target=server.stderr.read, daemon=True).start()
        folders = [os.path.dirname(__file__), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, folders)), "SCHEMATHESIS_HOOKS": "openapi_hooks"}
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://{address}/openapi.json", *RUN, *(more or BOUNDED)]
        with tempfile.TemporaryDirectory() as folder:
            result = subprocess.run(command, cwd=folder, env=environment, timeout=LONGEST_S)
        with urllib.request.urlopen(f"http://{address}/health") as health:
            if health.status != 200:
                sys.exit("the server is not well any more")
        server.terminate()
        code = server.wait(timeout=20)
        sys.exit(result.returncode or code)
    finally:
        server.kill()


main()
