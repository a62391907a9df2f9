"""Right answers spelled otherwise are accepted: by rule, on golds made here and on those of MATH where at hand."""

from __future__ import annotations

from collections import Counter

import pytest

from ixt_rl.rewards import MathReward, final_answer, parse_gold
from tests.unit.rewards.respelled import RESPELLINGS

GOLDS = [
    "42", "-7", "123456", "0.125", r"\frac{3}{8}", r"-\frac{14}{3}", r"\frac43", "3\\sqrt{13}", r"\sqrt{51}",
    r"\frac{\pi}{2}", r"1-12\pi", r"90^\circ", r"\frac{\sqrt{21}}{5}", "x^2+2x-1", r"\left(3, \frac{\pi}{2}\right)",
    "(2,-1)", "1,-2", "-4, 0, 5", r"\{1, 2, 3\}", "[2,5)", r"(-\infty,2)\cup(3,\infty)", r"x\in[-2,7]", "y=2x+3",
    r"10,\!080", r"\$18.90", r"50\%", r"\begin{pmatrix} 1 & -2 \\ 3 & 4 \end{pmatrix}", r"\text{Evelyn}",
    r"\text{(C)}", r"864\mbox{ inches}^2", r"12\text{ cm}", "1+2i", r"4\cdot 10^{5}", r"\frac{1}{2}\cdot 3^{7}",
    "2:3", "204_5", r"3\frac{1}{2}", r"1\pm\sqrt{5}", r"\infty",
]  # fmt: skip


def respelled(golds):
    return [
        (name, gold, other) for gold in golds for name, rule in RESPELLINGS.items() if (other := rule(gold)) != gold
    ]


def verdicts_on(cases):
    return MathReward(workers=1).judge([case[2] for case in cases], [parse_gold(case[1]) for case in cases])


def test_respellings_of_all_kinds_of_golds_are_right():
    cases = respelled(GOLDS)
    wanted = set(RESPELLINGS) - {case[0] for case in cases}
    assert not wanted, f"no gold for the rules {wanted}"
    missed = [(case, v.evidence) for case, v in zip(cases, verdicts_on(cases), strict=True) if v.score != 1.0]
    assert missed == []


@pytest.mark.long(
    "tests/unit/rewards/test_respelled.py::test_respellings_of_all_kinds_of_golds_are_right",
    "tests/unit/rewards/test_math_reward.py::test_accepts_all_gold_solutions_of_math500",
)
def test_respellings_of_all_golds_of_math(benchmark):
    golds = [row["answer"] for row in benchmark("math500.jsonl")]
    golds += [final_answer(row["solution"], "boxed") for row in benchmark("math_rest.jsonl")]
    cases = respelled(dict.fromkeys(golds))
    counts = Counter(verdict.label for verdict in verdicts_on(cases))
    assert counts["wrong"] == 0 and counts["undecided"] <= 0.02 * len(cases)
