"""A server for a client to talk to, on a free port and with a key, and the line each check prints."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading

KEY = "key-of-the-client-test"


def check(what, condition, shown=""):
    print(f"{'ok  ' if condition else 'FAIL'} {what} {shown}", flush=True)
    if not condition:
        sys.exit(1)


def start(binary, model, *flags):
    """The server's process and its address, HOST:PORT. It may still be loading."""
    server = subprocess.Popen(
        [binary, "serve", model, "--listen", "127.0.0.1:0", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MORAINE_API_KEY": KEY},
    )
    for line in server.stderr:
        if found := re.search(r"listening on (\S+)", line):
            address = found.group(1)
        if "ready" in line:
            break
    threading.Thread(target=server.stderr.read, daemon=True).start()
    return server, address


@contextlib.contextmanager
def serving(*flags):
    """The address of a server of the binary and the model that the command line names; it ends well."""
    binary, model = sys.argv[1:3]
    server, address = start(binary, model, *flags)
    try:
        yield f"http://{address}"
        server.terminate()
        check("SIGTERM", server.wait(timeout=20) == 0)
    finally:
        server.kill()


def free_port():
    """One that nobody listens on now, for a program that cannot choose its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(command, folder, **environment):
    """What a program prints on both channels, and whether it ended well; at most five minutes. Runs in `folder`, its home."""
    ended = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        cwd=folder,
        env={**os.environ, "HOME": folder, **environment},
    )
    return ended.stdout, ended.returncode == 0
