"""A judge that is a function: is the final answer of a GSM8K solution right?

    ixt-rl annotate gsm8k_model_solutions.jsonl checked \
        --judge python:examples/annotate_gsm8k.py:final_answer_is_right --rubric verifier --prefix verifier \
        --field problem=question --field reference=ground_truth --field solution=175b_verification.solution

It gets the rubric's fields as text. What it returns is read as a model's answer would be: a `Verdict`, a number, a
label, a bool, None for undecided, or a mapping of axes to such values. What it raises makes its own row undecided.
"""

from __future__ import annotations

from collections.abc import Mapping

from ixt_rl.rewards import final_answer, verify
from ixt_rl.types import Verdict


def final_answer_is_right(fields: Mapping[str, str]) -> Verdict:
    """Compares the final answers of the solution and of the reference; no answer is a wrong one."""
    answer = final_answer(fields["solution"])
    if not answer:
        return Verdict(0.0, "wrong", "no final answer")
    return verify(answer, final_answer(fields["reference"]))
