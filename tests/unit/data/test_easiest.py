"""The easiest problems of GSM8K, by the steps of the human solutions."""

from __future__ import annotations

import importlib.util
from pathlib import Path

FILE = Path(__file__).resolve().parents[3] / "examples" / "easiest_gsm8k.py"


def test_fewest_steps_first_and_what_nobody_counted_left_out():
    spec = importlib.util.spec_from_file_location("easiest_gsm8k", FILE)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    rows = [
        {"question": "two steps", "answer": "1+1=<<1+1=2>>2, 2*3=<<2*3=6>>6.\n#### 6"},
        {"question": "uncounted", "answer": "It is 5.\n#### 5"},
        {"question": "one step, long", "answer": "2+2=<<2+2=4>>4.\n#### 4"},
        {"question": "one step", "answer": "9-2=<<9-2=7>>7.\n#### 1,007"},
    ]
    found = example.easiest(rows, share=0.5)
    assert [(row["question"], row["steps"]) for row in found] == [("one step", 1), ("one step, long", 1)]
    assert found[0]["solution"] == "9-2=7.\n#### 1,007" and found[0]["answer"] == "1,007"
    assert [row["steps"] for row in example.easiest(rows, share=1.0)] == [1, 1, 2]
