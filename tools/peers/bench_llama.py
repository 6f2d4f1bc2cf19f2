#!/usr/bin/env python3
"""Whole engines in turn: llama.cpp's llama-bench on a GGUF, `moraine bench` on a checkpoint of the same geometry.

usage: bench_llama.py LLAMA_BENCH GGUF MORAINE MODEL [--prompt 512] [--tokens 24] [--threads 2] [--rounds 3]
                      [--before COMMAND]

Prints a Markdown row for prefill and one for decode: tokens a second of each, the median of the rounds, and ours over
theirs with the lowest and the highest. llama.cpp runs with and without repacked weights; its better figure counts.
COMMAND goes before both, for machines where a run must be announced.
"""

import argparse
import json
import shlex
import statistics
import subprocess


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("llama_bench")
    parser.add_argument("gguf")
    parser.add_argument("moraine")
    parser.add_argument("model")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", default="")
    return parser.parse_args()


def run(options, command):
    return subprocess.run(
        shlex.split(options.before) + command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout


def theirs(options, repack):
    command = [options.llama_bench, "-m", options.gguf, "-p", str(options.prompt), "-n", str(options.tokens)]
    command += ["-t", str(options.threads), "-r", "1", "--repack", str(repack), "-o", "json"]
    try:
        tests = json.loads(run(options, command))
    except subprocess.CalledProcessError as error:
        print(f"# llama-bench --repack {repack} ended with {error.returncode}", flush=True)
        return (0, 0)
    return (next(t["avg_ts"] for t in tests if t["n_prompt"]), next(t["avg_ts"] for t in tests if t["n_gen"]))


def ours(options):
    command = [options.moraine, "bench", options.model, "--json", "--ctx", str(options.prompt + options.tokens)]
    command += ["--prompt-tokens", str(options.prompt), "--tokens", str(options.tokens), "--threads", str(options.threads)]
    result = json.loads(run(options, command).splitlines()[-1])
    return result["prefill_tok_s"], result["decode_tok_s"]


def main():
    options = parse()
    rounds = []
    for _ in range(options.rounds):
        repacked, plain, we = theirs(options, 1), theirs(options, 0), ours(options)
        if repacked == plain == (0, 0):
            raise SystemExit("bench_llama: llama-bench gave no figure")
        rounds.append([(max(a, b), c) for a, b, c in zip(repacked, plain, we)])
        print(f"# theirs {repacked} repacked, {plain} plain; ours {we}", flush=True)
    for name, pairs in zip((f"prefill, {options.prompt} tokens", f"decode, {options.tokens} tokens"), zip(*rounds)):
        ratios = sorted(our / their for their, our in pairs)
        their, our = (statistics.median(column) for column in zip(*pairs))
        print(f"| {name} | {their:.2f} | {our:.2f} | {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} ({len(ratios)}) |")


if __name__ == "__main__":
    main()
