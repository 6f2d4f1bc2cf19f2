"""What lm-eval says of models/tiny-r1 run by HF transformers in f32, for tests/clients/lm_eval_client.py.

usage: lm_eval_golden.py MODEL OUT.json      (besides requirements.txt: lm-eval[hf]==0.4.13)
"""

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "clients"), str(ROOT / "tools" / "train")]
from check_hf import hf_model  # noqa: E402
from lm_eval_tasks import TASKS, results, write_tasks  # noqa: E402


def tokenizer(folder):
    """Not AutoTokenizer: it rebuilds DeepSeek's pre-tokenizer and gets it wrong."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    special = {name: config[name]["content"] for name in ("bos_token", "eos_token", "pad_token")}
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), chat_template=config["chat_template"], **special)


def main():
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.manual_seed(1)
    model = HFLM(
        pretrained=hf_model(folder), tokenizer=tokenizer(folder), device="cpu", batch_size=1, max_length=2048, think_end_token="</think>"
    )
    with tempfile.TemporaryDirectory() as tasks:
        write_tasks(folder, tasks)
        manager = TaskManager(include_path=tasks, include_defaults=False)
        said = {}
        for name in TASKS:
            evaluated = simple_evaluate(
                model=model, tasks=[name], task_manager=manager, bootstrap_iters=0, apply_chat_template=name == "sums_answers"
            )
            said[name] = results(evaluated, name)
    made_with = {package: version(package) for package in ("lm-eval", "torch", "transformers", "tokenizers")}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"made_with": made_with, "tasks": said}) + "\n")


main()
