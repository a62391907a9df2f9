"""The problems of GSM8K with the fewest steps, for configs/real/gsm8k.yaml: a fifth of them.

    .venv/bin/python examples/easiest_gsm8k.py data/gsm8k_train.jsonl runs

A step is a `<<...>>` of the human solution. Problems are ordered by their steps, then by the length of the question;
those whose solution shows no step are left out, because nobody has counted theirs. Half of the fifth becomes
`gsm8k_easiest_solutions.jsonl`, to learn the form from, the other half `gsm8k_easiest.jsonl`, to be solved. Two in five
of the former have a `prompt` that tells the answer, as the template `math` does: a model that is fine-tuned on plain
prompts alone no longer reads what it is told.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

STEP = re.compile(r"<<[^>]*>>")
TOLD = (False, True, False, False, True)
"""Which of five prompts tell the answer."""


def easiest(rows: list[dict[str, Any]], share: float) -> list[dict[str, Any]]:
    """The share of all rows with the fewest steps: question, solution (without the marks of steps), answer, steps."""
    found = [
        {
            "question": row["question"],
            "solution": STEP.sub("", row["answer"]),
            "answer": row["answer"].rpartition("####")[2].strip(),
            "steps": len(STEP.findall(row["answer"])),
        }
        for row in rows
    ]
    found = [row for row in found if row["steps"]]
    return sorted(found, key=lambda row: (row["steps"], len(row["question"])))[: round(share * len(rows))]


def asked(row: dict[str, Any], told: bool) -> str:
    """What the template `math` turns into its prompt or, `told`, into the one that tells the answer."""
    return f"{row['question']}\nThe correct final answer is {row['answer']}." if told else row["question"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="GSM8K as JSON lines: question, answer")
    parser.add_argument("out", type=Path, help="folder that the two files go into")
    parser.add_argument("--share", type=float, default=0.2, help="of all problems (default: a fifth)")
    given = parser.parse_args()
    rows = easiest([json.loads(line) for line in given.file.open(encoding="utf-8") if line.strip()], given.share)
    if len(rows) < 2:
        raise SystemExit(f"{given.file}: {len(rows)} problems whose solution shows a step, <<...>>; two are needed")
    given.out.mkdir(parents=True, exist_ok=True)
    solutions = [{**row, "prompt": asked(row, TOLD[place % len(TOLD)])} for place, row in enumerate(rows[::2])]
    for name, half in (("gsm8k_easiest_solutions", solutions), ("gsm8k_easiest", rows[1::2])):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in half)
        (given.out / f"{name}.jsonl").write_text(text, encoding="utf-8")
        steps = ", ".join(
            f"{count} of {steps}" for steps, count in sorted(Counter(row["steps"] for row in half).items())
        )
        print(f"{given.out / name}.jsonl: {len(half)} problems; by steps: {steps}")


if __name__ == "__main__":
    main()
