"""lm-eval's tasks on what tiny-r1 knows, made from its held-out questions: choices, texts to score, answers.

Used by lm_eval_client.py and, with HF transformers in the server's place, by tools/oracle/lm_eval_golden.py.
"""

import json
from pathlib import Path

QUESTIONS = 40

CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_text": "context",
    "doc_to_choice": "choices",
    "doc_to_target": "gold",
    "target_delimiter": " ",
    "metric_list": [{"metric": "acc"}],
}
TEXTS = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "text",
    "metric_list": [{"metric": "bits_per_byte"}],
}
ANSWERS = {
    "output_type": "generate_until",
    "doc_to_text": "question",
    "doc_to_target": "answer",
    "generation_kwargs": {"until": ["\n\nQuestion:"], "max_gen_toks": 400, "do_sample": False},
    # What stands before the answer differs: a server keeps the newlines after </think>.
    "filter_list": [{"name": "line", "filter": [{"function": "regex", "regex_pattern": r"(\S.*\S)\s*$"}, {"function": "take_first"}]}],
    "metric_list": [{"metric": "exact_match"}],
}
TASKS = {"sums_choices": CHOICES, "sums_texts": TEXTS, "sums_answers": ANSWERS}


def document(question):
    trace = question["trace"]
    before, value = trace.rsplit("Result: ", 1)
    near = [value, f"{value}0", f"1{value}", value[:-1] + str((int(value[-1]) + 3) % 10)]
    gold = sum(map(int, (c for c in value if c.isdigit()))) % 4
    near[0], near[gold] = near[gold], near[0]
    text = f"{question['prompt']}\n{trace}\n{question['answer']}"
    return {"context": before + "Result:", "choices": near, "gold": gold, "text": text, "question": question["prompt"], "answer": question["answer"]}


def write_tasks(model, folder):
    """Writes every task's YAML and the documents into `folder`, lm-eval's include_path."""
    lines = (Path(model) / "eval" / "one_step.jsonl").read_text().splitlines()[:QUESTIONS]
    documents = Path(folder) / "sums.jsonl"
    documents.write_text("\n".join(json.dumps(document(json.loads(line))) for line in lines))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(documents)}}, "test_split": "test", "num_fewshot": 0}
    for name, task in TASKS.items():
        # JSON is YAML.
        (Path(folder) / f"{name}.yaml").write_text(json.dumps({"task": name, **data, **task}))


def results(evaluated, name):
    """The task's score and, in the order of its documents, what the model said to each."""
    scores = {key: value for key, value in evaluated["results"][name].items() if "," in key and "stderr" not in key}
    samples = sorted(evaluated["samples"][name], key=lambda one: one["doc_id"])
    return {"scores": scores, "said": [one["filtered_resps"] for one in samples]}
