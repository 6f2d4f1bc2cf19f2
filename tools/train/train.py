"""The training loop: resumable, logs loss, balance and exactness per kind of question."""

import argparse
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import data
import fp8
import text
import tokenizer
from model import TinyR1


def options():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--tokenizer", type=Path, required=True)
    ap.add_argument("--work-dir", type=Path, required=True, help="checkpoints and log")
    ap.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    ap.add_argument("--steps", type=int, default=9000)
    ap.add_argument("--decay", type=float, default=0.3, help="last share of the steps, over which the rate falls to 0")
    ap.add_argument("--mtp-from", type=int, default=4000, help="first step with the MTP loss")
    ap.add_argument("--fp8-last", type=int, default=300, help="last steps, run with FP8-rounded weights")
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--tokens", type=int, default=1536, help="tokens per step, padding included")
    ap.add_argument("--balance", type=float, default=1e-3, help="step of the router bias")
    ap.add_argument("--seed", type=int, default=17)
    ap.add_argument("--threads", type=int, default=2, help="1 is faster on a machine that is busy with other work")
    ap.add_argument("--save-every", type=int, default=250)
    return ap.parse_args()


def rate(step, o):
    """Share of the peak rate: warm-up, constant, then linear to 0."""
    return min(1.0, (step + 1) / 200, (o.steps - step) / (o.decay * o.steps))


# ---- one step ----------------------------------------------------------------------------------


def losses(model, ids, labels, with_mtp):
    """Cross entropy of the next token and, where asked, of the MTP layer's token after it; replies only."""
    hidden = model.hidden(ids)
    keep = labels[:, 1:] != text.IGNORE
    main = F.cross_entropy(model.logits(hidden[:, :-1][keep]), labels[:, 1:][keep])
    if not with_mtp:
        return main, None
    # Every second row is enough for the MTP layer, which learns quickly from the finished states.
    hidden, ids, labels = hidden[::2], ids[::2], labels[::2]
    drafted = model.draft(hidden[:, :-2], ids[:, 1:-1])
    keep = labels[:, 2:] != text.IGNORE
    return main, F.cross_entropy(model.head(drafted[keep]), labels[:, 2:][keep])


def loads(model, ids, pad=2):
    """Tokens per expert in each MoE layer that ran, padding left out."""
    for layer in model.moe_layers():
        if layer.chosen is not None:
            seen = ids if layer.chosen.shape[0] == ids.numel() else ids[::2, :-2]  # The MTP layer's share.
            real = (seen != pad).flatten()
            yield layer, torch.bincount(layer.chosen[real].flatten(), minlength=layer.gate.weight.shape[0]).float()


def balance(model, ids, step):
    """Nudges each expert's bias against its load error (no auxiliary loss); returns the worst load over the mean."""
    worst = 0.0
    for layer, load in loads(model, ids):
        layer.gate.e_score_correction_bias += step * torch.sign(load.mean() - load)
        worst = max(worst, (load.max() / load.mean()).item())
        layer.chosen = None
    return worst


# ---- state -------------------------------------------------------------------------------------


class Run:
    """Everything a checkpoint holds."""

    def __init__(self, o):
        torch.manual_seed(o.seed)
        self.o, self.model = o, TinyR1()
        decayed = [p for p in self.model.parameters() if p.dim() > 1]
        others = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=o.lr, betas=(0.9, 0.98), fused=True)
        self.mean = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.step, self.pool, self.used, self.seconds = 0, 0, 0, 0.0

    def average(self, keep=0.998):
        now = self.model.state_dict()
        torch._foreach_lerp_(list(self.mean.values()), [now[k] for k in self.mean], 1 - keep)

    def save(self, path):
        state = {k: getattr(self, k) for k in ("mean", "step", "pool", "used", "seconds")}
        state |= {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def load(self, path):
        state = torch.load(path)
        self.model.load_state_dict(state.pop("model"))
        self.optimiser.load_state_dict(state.pop("optimiser"))
        for k, v in state.items():
            setattr(self, k, v)


def feed(run, tok):
    """Endless batches, from where the checkpoint stopped."""
    while True:
        ready = text.batches(tok, run.o.seed, run.pool, run.o.tokens)
        while run.used < len(ready):
            run.used += 1
            yield ready[run.used - 1]
        run.pool, run.used = run.pool + 1, 0


# ---- exactness while training ------------------------------------------------------------------


def probe_rows(tok, count=256, seed=5):
    """Held-out questions, fixed for the run."""
    rng = random.Random(seed)
    samples = [data.test_sample(rng, mix) for mix in (data.ONE_STEP, data.TWO_STEP) for _ in range(count)]
    samples.sort(key=lambda s: len(text.reply_text(s)))
    return [(samples[i : i + 32], text.rows(text.encode(tok, samples[i : i + 32]))) for i in range(0, len(samples), 32)]


@torch.no_grad()
def exactness(model, probes):
    """Share of traces whose every token is the model's first choice: then greedy decoding writes just that trace."""
    right, total = {}, {}
    for samples, (ids, labels) in probes:
        best = model.logits(model.hidden(ids[:, :-1])).argmax(-1)
        exact = ((best == labels[:, 1:]) | (labels[:, 1:] == text.IGNORE)).all(1)
        for sample, ok in zip(samples, exact.tolist()):
            for kind in (sample.kind, sample.kind.split(":")[0]):
                right[kind] = right.get(kind, 0) + ok
                total[kind] = total.get(kind, 0) + 1
    return {k: round(right[k] / total[k], 4) for k in sorted(total)}


def probe(run, probes):
    """Exactness of the averaged weights, rounded as they would be stored."""
    now = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.model.load_state_dict(run.mean)
    with fp8.as_stored(run.model):
        result = exactness(run.model, probes)
    run.model.load_state_dict(now)
    return result


# ---- the loop ----------------------------------------------------------------------------------


def train_step(run, ids, labels):
    o, share = run.o, rate(run.step, run.o)
    for group in run.optimiser.param_groups:
        group["lr"] = o.lr * share
    with fp8.as_stored(run.model, run.step >= o.steps - o.fp8_last):
        main, ahead = losses(run.model, ids, labels, run.step >= o.mtp_from)
        (main if ahead is None else main + 0.3 * ahead).backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimiser.step()
    run.optimiser.zero_grad()
    worst = balance(run.model, ids, o.balance * share)
    run.average()
    run.step += 1
    return main.item(), ahead.item() if ahead is not None else None, worst


def log(path, record):
    line = json.dumps(record)
    print(line, flush=True)
    with path.open("a") as f:
        f.write(line + "\n")


def main():
    o = options()
    torch.set_num_threads(o.threads)
    o.work_dir.mkdir(parents=True, exist_ok=True)
    checkpoint, journal = o.work_dir / "state.pt", o.work_dir / "log.jsonl"
    tok, run = tokenizer.load(o.tokenizer), Run(o)
    if o.resume:
        run.load(checkpoint)
    probes, source = probe_rows(tok), feed(run, tok)
    while run.step < o.steps:
        start = time.time()
        main_loss, mtp_loss, worst = train_step(run, *next(source))
        run.seconds += time.time() - start
        if run.step % 50 == 0:
            log(journal, {"step": run.step, "loss": round(main_loss, 5), "mtp": mtp_loss and round(mtp_loss, 5), "worst_load": round(worst, 2), "lr": o.lr * rate(run.step, o), "minutes": round(run.seconds / 60, 2)})
        if run.step % 500 == 0 or run.step == o.steps:
            log(journal, {"step": run.step, "exact": probe(run, probes)})
        if run.step % o.save_every == 0 or run.step == o.steps:
            run.save(checkpoint)


if __name__ == "__main__":
    main()
