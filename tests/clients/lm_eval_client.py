"""Drives a server with lm-eval: local-completions scores choices and texts, local-chat-completions answers.
Scores and what they are made of equal those of HF transformers on the same model (tests/goldens/lm-eval).

usage: lm_eval_client.py build/bin/moraine models/tiny-r1
"""

import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from lm_eval_tasks import results, write_tasks
from served import KEY, check, serving

GOLDEN = Path(__file__).parent.parent / "goldens" / "lm-eval" / "tiny-r1.json"
# In nats, of a whole choice or text: the server's f32 sums run in another order than the oracle's.
LOGLIKELIHOOD = 2e-3


def evaluate(folder, name, model, arguments, **more):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    tasks = TaskManager(include_path=folder, include_defaults=False)
    evaluated = simple_evaluate(model=model, model_args=arguments, tasks=[name], task_manager=tasks, bootstrap_iters=0, **more)
    return results(evaluated, name)


def same_number(got, want):
    return abs(got - want) <= LOGLIKELIHOOD


def same_text(got, want):
    return same_number(got[0], want[0])


def same_choice(got, want):
    return all(same_number(a[0], b[0]) and a[1] == b[1] for a, b in zip(got, want, strict=True))


def compare(name, got, want, same):
    differing = [i for i, (a, b) in enumerate(zip(got["said"], want["said"], strict=True)) if not same(a, b)]
    check(f"{name}: all {len(want['said'])} as HF's", not differing, differing)
    check(f"{name}: score", all(same_number(got["scores"][key], value) for key, value in want["scores"].items()), got["scores"])


def main():
    golden = json.loads(GOLDEN.read_text())["tasks"]
    # Before lm-eval is imported: it asks no hub, and keeps nothing in the user's folders.
    with tempfile.TemporaryDirectory() as folder, serving("--activations", "f32", "--kv-type", "f32") as url:
        os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=folder, TQDM_DISABLE="1", OPENAI_API_KEY=KEY)
        print(f"lm-eval {version('lm-eval')}, {url}", flush=True)
        write_tasks(sys.argv[2], folder)
        text = {"model": "tiny-r1", "base_url": f"{url}/v1/completions", "auth_token": KEY, "num_concurrent": 4}
        # lm-eval takes a first token whose id is 0 for none, and the last one in its place.
        text["custom_prefix_token_id"] = 0
        choices = evaluate(folder, "sums_choices", "local-completions", text)
        compare("sums_choices", choices, golden["sums_choices"], same_choice)
        compare("sums_texts", evaluate(folder, "sums_texts", "local-completions", text), golden["sums_texts"], same_text)
        chat = {"model": "tiny-r1", "base_url": f"{url}/v1/chat/completions", "num_concurrent": 4}
        answers = evaluate(folder, "sums_answers", "local-chat-completions", chat, apply_chat_template=True)
        compare("sums_answers", answers, golden["sums_answers"], lambda a, b: a == b)


# Its workers import this file again.
if __name__ == "__main__":
    main()
