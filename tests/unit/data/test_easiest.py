"""The easiest problems of GSM8K, by the steps of the human solutions."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ixt_rl.conditioning.prompts import load_template

FILE = Path(__file__).resolve().parents[3] / "examples" / "easiest_gsm8k.py"
SPEC = importlib.util.spec_from_file_location("easiest_gsm8k", FILE)
assert SPEC is not None and SPEC.loader is not None
EXAMPLE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(EXAMPLE)


def test_fewest_steps_first_and_what_nobody_counted_left_out():
    rows = [
        {"question": "two steps", "answer": "1+1=<<1+1=2>>2, 2*3=<<2*3=6>>6.\n#### 6"},
        {"question": "uncounted", "answer": "It is 5.\n#### 5"},
        {"question": "one step, long", "answer": "2+2=<<2+2=4>>4.\n#### 4"},
        {"question": "one step", "answer": "9-2=<<9-2=7>>7.\n#### 1,007"},
    ]
    found = EXAMPLE.easiest(rows, share=0.5)
    assert [(row["question"], row["steps"]) for row in found] == [("one step", 1), ("one step, long", 1)]
    assert found[0]["solution"] == "9-2=7.\n#### 1,007" and found[0]["answer"] == "1,007"
    assert [row["steps"] for row in EXAMPLE.easiest(rows, share=1.0)] == [1, 1, 2]


def test_a_told_prompt_is_the_one_of_the_template_that_the_run_file_names():
    template, row = load_template("math", ""), {"question": "What is 1 + 1?", "answer": "2"}
    assert template.ask(EXAMPLE.asked(row, True)) == template.render(row["question"], row["answer"])[1]
    assert template.ask(EXAMPLE.asked(row, False)) == template.ask(row["question"])
    assert sum(EXAMPLE.TOLD) / len(EXAMPLE.TOLD) == 0.4
