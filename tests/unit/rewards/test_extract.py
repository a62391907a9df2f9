from __future__ import annotations

import time

import pytest

from ixt_rl.rewards import final_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{5} is wrong ... it is \boxed{6}", "6"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed 5", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{5} or \boxed{6}", "5, 6"),
        (r"$\boxed{1}$, $\boxed{2}$", "1, 2"),
        (r"an unmatched { before \boxed{3}", "3"),
        (r"\fbox{9}", "9"),
        (r"first \boxed{5} and then \boxed{6", None),
        (r"\boxed{", None),
        (r"\boxed{}", None),
        ("no answer", None),
        ("#### 18", None),
    ],
)
def test_last_box(text, answer):
    assert final_answer(text, "last_box") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("steps\n#### 18", "18"),
        ("#### 1\n#### 2\nand more", "2"),
        ("steps\nA: 18", "18"),
        ("price: $5\n**Answer:** 18", "18"),
        ("The answer is 5. I am sure.", "5"),
        ("The final answer is 3.14.", "3.14"),
        (r"#### 3 but really \boxed{4}", "4"),
        ("nothing here", None),
        ("", None),
    ],
)
def test_auto(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    "text", [r"\boxed{" * 150_000, "{" * 10**6, r"\boxed{1} " * 10**5, "*" * 10**6, "A:" * 500_000]
)
def test_time_is_linear(text):
    start = time.perf_counter()
    final_answer(text)
    assert time.perf_counter() - start < 5
