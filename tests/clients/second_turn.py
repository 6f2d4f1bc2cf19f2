"""How soon a long chat goes on: the time to the first token of its second turn, and of its third after a restart of the
server, over that of its first. Standard library only; prints one JSON object a round and the medians last.

usage: second_turn.py MORAINE MODEL [--tokens 8192] [--answer 100] [--rounds 3] [--no-disk] [-- FLAGS OF SERVE]

A turn is a system text of --tokens tokens and a question; the answer that stands in the next turn's history is a text of
--answer tokens (what a reasoning model shows of one: its reasoning is not sent again). The model may be one of `moraine
synth` with the tokenizer.json and tokenizer_config.json of another in its folder.
"""

import argparse
import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import tempfile
import time

WORDS = "rain on the hill fell soft and long while seven carts went down to the old mill near a river".split()
WARM_UP = [{"role": "user", "content": "warm up " * 150}]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=600)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Server:
    def __init__(self, args, folder):
        self.socket = os.path.join(folder, "s.sock")
        command = [args.moraine, "serve", args.model, "--uds", self.socket, "--slots", "1"]
        command += ["--ctx", str(args.tokens + 2048)]
        command += [] if args.no_disk else ["--prefix-disk", "8GiB"]
        environment = dict(os.environ, XDG_CACHE_HOME=folder)
        self.log = open(os.path.join(folder, "log"), "ab")
        self.process = subprocess.Popen(command + args.flags, env=environment, stderr=self.log, stdout=self.log)
        while True:
            if self.process.poll() is not None:
                raise SystemExit(open(self.log.name).read())
            try:
                if self.get("/health").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)

    def get(self, path, body=None):
        connection = UnixConnection(self.socket)
        headers = {"Content-Type": "application/json"}
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        return connection.getresponse()

    def count(self, text):
        return json.load(self.get("/tokenize", {"prompt": text}))["count"]

    def turn(self, messages, tokens):
        """Seconds to the first token as a client waits for them, milliseconds a token after it, and the usage."""
        body = {"messages": messages, "temperature": 0, "max_tokens": tokens, "ignore_eos": True}
        begin = time.monotonic()
        response = self.get("/v1/chat/completions", body)
        answer = json.load(response)
        seconds = time.monotonic() - begin
        if response.status != 200:
            raise SystemExit(answer)
        decode_ms = answer["timings"]["predicted_ms"]
        return seconds - decode_ms / 1000, decode_ms / max(1, tokens - 1), answer["usage"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def text_of(server, tokens, rng):
    """About `tokens` tokens of words, never more."""
    words = [rng.choice(WORDS) for _ in range(tokens)]
    while (count := server.count(" ".join(words))) > tokens:
        words = words[: max(1, len(words) * tokens // count - 1)]
    return " ".join(words)


def chat(args, seed):
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(args, folder)
        messages = [
            {"role": "system", "content": text_of(server, args.tokens, rng)},
            {"role": "user", "content": "What went down to the mill?"},
        ]
        server.turn(WARM_UP, 4)
        first, decode, usage = server.turn(messages, args.decode)
        result = {"prompt_tokens": usage["prompt_tokens"], "first_s": first, "decode_ms": decode}
        for name in ("second", "restart"):
            if name == "restart":
                if args.no_disk:
                    break
                server.stop()
                server = Server(args, folder)
                server.turn(WARM_UP, 4)
            messages.append({"role": "assistant", "content": text_of(server, args.answer, rng)})
            messages.append({"role": "user", "content": f"And on day {len(messages)}?"})
            seconds, _, usage = server.turn(messages, 1)
            computed = usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
            result.update({f"{name}_s": seconds, f"{name}_computed": computed, f"{name}_share": seconds / first})
        server.stop()
        return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("moraine")
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--answer", type=int, default=100)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-disk", action="store_true")
    parser.add_argument("flags", nargs="*")
    args = parser.parse_args()
    rounds = [chat(args, seed) for seed in range(args.rounds)]
    for one in rounds:
        print(json.dumps({k: round(v, 4) for k, v in one.items()}))
    median = {k: round(statistics.median(r[k] for r in rounds), 4) for k in rounds[0]}
    print(json.dumps({"median": median}))


main()
