#!/usr/bin/env python3
"""Routed experts of R1's geometry: kt-kernel's CPU operator beside our bench_experts, in turn.

Both sides run layers of `rows` tokens that all choose the same eight experts, which change from layer to
layer, over 2 GiB of weights or more. Each round times one side and then the other with the same number of threads;
the process of the side that waits is stopped, so that a spinning pool takes nothing from the other.
A figure is the median of the rounds. Needs torch, kt-kernel and gguf: see README.md here.
"""

import argparse
import ctypes
import json
import os
import signal
import statistics
import subprocess
import sys
import time

HIDDEN, INNER, TOP_K = 7168, 2048, 8
GROUP = 32
# kt-kernel's method: (its class, our nearest format, its bytes of one expert)
WEIGHTS = 3 * HIDDEN * INNER
METHODS = {
    "RAWINT4": ("AMXInt4_KGroup_MOE", "int4-g32", WEIGHTS * (0.5 + 2 / GROUP)),
    "AMXINT4": ("AMXInt4_MOE", "int4-g128", WEIGHTS * 0.5),
    "FP8": ("AMXFP8_MOE", "fp8", WEIGHTS * 1.0),
    "BF16": ("AMXBF16_MOE", "bf16", WEIGHTS * 2.0),
    "MOE_INT4": ("Int4_KERNEL_MOE", "int4-g128", WEIGHTS * 0.5),
}
SOURCES = 4  # distinct experts; the operator packs its own copy of each of its experts


def resident_bytes():
    with open("/proc/self/statm") as statm:
        _, resident, shared = map(int, statm.read().split()[:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def repeated(matrices, count):
    """The address of `count` matrices side by side that take the pages of the few given in turn."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    size = matrices[0].numel() * matrices[0].element_size()
    file = os.memfd_create("matrices")
    with open(file, "wb", closefd=False) as out:
        for matrix in matrices:
            out.write(ctypes.string_at(matrix.data_ptr(), size))
    prot_read, map_shared, map_private, map_fixed, map_anonymous = 1, 1, 2, 0x10, 0x20
    base = libc.mmap(None, count * size, 0, map_private | map_anonymous, -1, 0)
    for i in range(count):
        at = base + i * size
        if libc.mmap(at, size, prot_read, map_shared | map_fixed, file, i % len(matrices) * size) != at:
            raise OSError(ctypes.get_errno(), "mmap")
    return base


class KtLayer:
    """One layer of kt-kernel's experts with random weights."""

    def __init__(self, method, threads, gib, max_rows):
        import torch
        import kt_kernel

        self.torch = torch
        torch.manual_seed(0)
        torch.set_num_threads(threads)
        self.method = method
        self.version = kt_kernel.__version__
        self.variant = kt_kernel.__cpu_variant__
        extension = kt_kernel.kt_kernel_ext
        class_name, _, expert_bytes = METHODS[method]
        operator = getattr(extension.moe, class_name)  # an AttributeError says that this build lacks it
        self.experts = max(2 * TOP_K, int(gib * 2**30 / expert_bytes) + 1)
        pool = extension.WorkerPoolConfig()
        pool.subpool_count = 1
        pool.subpool_numa_map = [0]
        pool.subpool_thread_count = [threads]
        self.infer = extension.CPUInfer(pool)
        self.mask = torch.zeros(self.experts, dtype=torch.uint8)
        config = extension.moe.MOEConfig(self.experts, TOP_K, HIDDEN, INNER, self.mask.data_ptr())
        config.layer_idx = 0
        config.pool = self.infer.backend_
        config.max_len = max(max_rows, 32)
        self._hand_over(config)
        before = resident_bytes()
        self.moe = operator(config)
        self.logical = torch.arange(self.experts, dtype=torch.int64)
        self.infer.submit(self.moe.load_weights_task(self.logical.data_ptr()))
        self.infer.sync()
        self.packed_bytes = resident_bytes() - before
        self.next = 0
        self.buffers = {}

    def _source(self, rows, columns):
        torch = self.torch
        if self.method in ("BF16", "AMXINT4", "MOE_INT4"):
            return (torch.randn(rows, columns) / columns**0.5).bfloat16(), None
        if self.method == "FP8":
            # Exponents below 8 only: no NaN.
            weights = torch.randint(0, 256, (rows, columns), dtype=torch.uint8) & 0xBF
            return weights, (0.5 + torch.rand(rows // 128, columns // 128)) / columns**0.5
        weights = torch.randint(0, 256, (rows, columns // 2), dtype=torch.uint8)
        scales = (0.5 + torch.rand(rows, columns // GROUP)) / (4.6 * columns**0.5)
        return weights, scales.bfloat16()

    def _hand_over(self, config):
        shapes = {"gate": (INNER, HIDDEN), "up": (INNER, HIDDEN), "down": (HIDDEN, INNER)}
        self.sources = [{n: self._source(*shape) for n, shape in shapes.items()} for _ in range(SOURCES)]
        if self.method in ("AMXINT4", "MOE_INT4"):  # quantised by the operator, from experts in one block
            for name in shapes:
                setattr(config, name + "_proj", repeated([s[name][0] for s in self.sources], self.experts))
            return
        for name in shapes:
            chosen = [self.sources[e % SOURCES][name] for e in range(self.experts)]
            setattr(config, name + "_projs", [[w.data_ptr() for w, _ in chosen]])
            setattr(config, name + "_scales", [[0 if s is None else s.data_ptr() for _, s in chosen]])
        if self.method != "BF16":
            config.quant_config.bits = 8 if self.method == "FP8" else 4
            config.quant_config.group_size = 128 if self.method == "FP8" else GROUP
            config.quant_config.zero_point = False

    def _buffer(self, rows):
        torch = self.torch
        if rows not in self.buffers:
            self.buffers[rows] = (
                torch.tensor([rows], dtype=torch.int32),
                torch.randn(rows, HIDDEN).bfloat16().contiguous(),
                torch.full((rows, TOP_K), 0.3),
                torch.empty(rows, HIDDEN, dtype=torch.bfloat16),
            )
        return self.buffers[rows]

    def run(self, rows, sleep=0.0):
        """Seconds of one layer. sync() spins; `sleep` keeps the caller off the core for that long."""
        torch = self.torch
        count, inputs, gains, outputs = self._buffer(rows)
        chosen = [(self.next + k) % self.experts for k in range(TOP_K)]
        self.next = (self.next + TOP_K) % self.experts
        ids = torch.tensor([chosen] * rows, dtype=torch.int64)
        start = time.perf_counter()
        self.infer.submit(
            self.moe.forward_task(
                count.data_ptr(), TOP_K, ids.data_ptr(), gains.data_ptr(), inputs.data_ptr(),
                outputs.data_ptr(), False,
            )
        )
        if sleep:
            time.sleep(sleep)
        self.infer.sync()
        self.chosen = chosen
        return time.perf_counter() - start

    def measure(self, rows, seconds):
        """The best median of three ways to wait: sync() at once, or after most of the time that took."""
        first = self.run(rows)
        slow = first > seconds / 3  # one layer each way, the first included
        medians = [first] if slow else []
        share, sleep = 0.45, 0.45 * first if slow else 0.0
        while len(medians) < 3:
            times, end = [], time.perf_counter() + (0 if slow else seconds / 3)
            while not times or time.perf_counter() < end:
                times.append(self.run(rows, sleep))
            medians.append(statistics.median(times))
            sleep, share = share * min(medians) if not slow else 0.8 * min(medians), 0.8
        return min(medians)

    def error(self):
        """Relative error of one token against the dequantised weights (AMXINT4: against bf16 ones)."""
        torch = self.torch
        self.run(1)
        _, inputs, gains, outputs = self._buffer(1)
        expected = torch.zeros(HIDDEN)
        for expert in self.chosen:
            gate, up, down = (self._dequantised(expert, n) for n in ("gate", "up", "down"))
            x = inputs[0].float()
            expected += gains[0, 0] * (down @ (torch.nn.functional.silu(gate @ x) * (up @ x)))
        return ((outputs[0].float() - expected).norm() / expected.norm()).item()

    def _dequantised(self, expert, name):
        torch = self.torch
        weights, scales = self.sources[expert % SOURCES][name]
        if self.method == "FP8":
            wide = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
            return weights.view(torch.float8_e4m3fn).float() * wide
        if self.method == "RAWINT4":
            nibbles = torch.stack([weights & 15, weights >> 4], -1).reshape(weights.shape[0], -1)
            return (nibbles.float() - 8) * scales.float().repeat_interleave(GROUP, 1)
        return weights.float()


def kt_process(method, threads, gib, rows):
    """Answers each line "seconds" with the seconds of one layer for each of `rows`, as JSON."""
    # The operator prints to stdout; answers go where stdout was.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    layer = KtLayer(method, threads, gib, max(rows))
    about = {
        "version": layer.version, "variant": layer.variant, "experts": layer.experts,
        "packed_gb": layer.packed_bytes / 1e9, "error": layer.error(),
    }
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps([layer.measure(n, float(line)) for n in rows]), file=answers, flush=True)


class Kt:
    def __init__(self, args, method, threads):
        self.log = open(os.path.join(args.logs, f"kt-{method}-{threads}.log"), "w+")
        command = [sys.executable, os.path.abspath(__file__), "--kt-process", method, "--threads", str(threads),
                   "--gib", str(args.gib), "--rows", args.rows]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        text=True)
        self.about = self._answer()
        self.process.send_signal(signal.SIGSTOP)

    def _answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().strip().splitlines() or ["no message"]
        raise RuntimeError(f"exit status {code}: {lines[-1]}")

    def measure(self, seconds):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        times = self._answer()
        self.process.send_signal(signal.SIGSTOP)
        return times

    def close(self):
        self.process.kill()
        self.process.wait()


def measure_ours(args, form, threads, rows):
    prefill = [n for n in rows if n > 1]
    command = [args.bench, "--json", "--formats", form, "--threads", str(threads), "--gib", str(args.gib),
               "--seconds", str(args.seconds), "--tokens", "1"]
    if prefill:
        command += ["--prefill", ",".join(map(str, prefill))]
    output = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    times = {}
    for row in output["rows"]:
        if row["phase"] == "decode":
            times[row["tokens"]] = row["layer_us"] * 1e-6
        else:
            times[row["tokens"]] = 2 * row["tokens"] * TOP_K * WEIGHTS / (row["gflops"] * 1e9)
    return [times[n] for n in rows]


def compare(args, method, threads):
    """Lines of the table: one for each number of rows."""
    rows = [int(n) for n in args.rows.split(",")]
    form = METHODS[method][1]
    kt = Kt(args, method, threads)
    end = time.monotonic() + args.limit
    try:
        about = kt.about
        print(f"# kt-kernel {about['version']}, its {about['variant']} build, {METHODS[method][0]}: "
              f"{about['experts']} experts, {about['packed_gb']:.2f} GB packed, error {about['error']:.2g}",
              file=sys.stderr)
        if about["packed_gb"] < 0.9 * args.gib * 1.0737:
            raise RuntimeError("the operator did not copy the weights: caches may hold its four sources")
        theirs, ours = [], []
        while len(ours) < args.rounds and (not ours or time.monotonic() < end):
            theirs.append(kt.measure(args.seconds))
            ours.append(measure_ours(args, form, threads, rows))
    finally:
        kt.close()
    for i, n in enumerate(rows):
        a = statistics.median(r[i] for r in theirs)
        b = statistics.median(r[i] for r in ours)
        ratios = [t[i] / o[i] for t, o in zip(theirs, ours)]
        yield (f"| {method} | {form} | {threads} | {n} | {1e3 * a:.2f} | {1e3 * b:.2f} "
               f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} ({len(ratios)}) |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="RAWINT4,AMXINT4,FP8,BF16,MOE_INT4")
    parser.add_argument("--threads", default="1,2", help="settings, each for both sides")
    parser.add_argument("--rows", default="1,16,128", help="rows of each expert; 1 is decode")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="time of each figure in a round")
    parser.add_argument("--limit", type=float, default=600, help="seconds from loading on in which a method starts rounds")
    parser.add_argument("--gib", type=float, default=2.0, help="weights of each side")
    parser.add_argument("--bench", default="build/bin/bench_experts")
    parser.add_argument("--logs", default="/tmp", help="folder for what kt-kernel prints")
    parser.add_argument("--kt-process", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.kt_process:
        rows = [int(n) for n in args.rows.split(",")]
        return kt_process(args.kt_process, int(args.threads), args.gib, rows)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no stopped process stays behind
    print("| kt-kernel | ours | threads | rows each | theirs, ms | ours, ms | theirs / ours | rounds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for threads in map(int, args.threads.split(",")):
        for method in args.methods.split(","):
            try:
                for line in compare(args, method, threads):
                    print(line, flush=True)
            except RuntimeError as error:
                print(f"{method}, {threads} threads: {error}", flush=True)


if __name__ == "__main__":
    main()
