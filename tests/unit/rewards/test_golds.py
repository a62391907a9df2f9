"""Kinds of gold answers, and what is no gold."""

from __future__ import annotations

import pytest

from ixt_rl.errors import DataError
from ixt_rl.rewards import MathReward, check_golds, parse_gold, typed_golds, verify


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("18", "number"), (18, "number"), (27.0, "number"), (r"\frac{1}{2004!}", "number"), (r"90^\circ", "number"),
        ("x^2+1", "expression"), ("x=5", "equation"), ("f(2) < f(1)", "inequality"), ("(1, 2)", "tuple"),
        ("[1, 2]", "interval"), ("(1, 2]", "interval"), (r"(-\infty, 3)", "interval"), (r"\{1, 2\}", "set"),
        (r"[0,1] \cup [2,3]", "set"), ("1, 2", "list"), ("A", "choice"), (r"\text{(C)}", "choice"),
        (r"\text{east}", "text"),
        ("No solution", "text"), ("4:30 pm", "clock"), ("204_5", "based"), ("3:1", "ratio"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "matrix"), ("work\n#### 1,234", "number"),
        (r"so \boxed{x+1}", "expression"),
    ],
)  # fmt: skip
def test_kinds(text, kind):
    assert parse_gold(text).kind == kind


@pytest.mark.parametrize(
    "bad",
    ["", "   ", "{", r"\frac{1}{2", "(1, 2", "NaN", float("nan"), float("inf"), None, True, [], ["5", ""], "1" * 5000,
     "2^" * 9 + "2",
     r"cut off \boxed{5", r"\foo{7}"],
)  # fmt: skip
def test_unusable_golds_are_refused_with_row_value_and_remedy(bad):
    with pytest.raises(DataError) as error:
        parse_gold(bad, row=7)
    assert "row 7" in error.value.what and error.value.reason and error.value.remedy


def test_check_golds_names_every_bad_row():
    rows = [{"answer": "1"}, {"answer": "{"}, {"answer": "2"}, {"answer": "nan"}]
    with pytest.raises(DataError, match="2 of 4") as error:
        check_golds(rows)
    assert "row 1" in str(error.value) and "row 3" in str(error.value)
    assert [gold.kind for gold in check_golds(["1", "A"])] == ["number", "choice"]
    with pytest.raises(DataError, match="no field 'gold'"):
        check_golds(rows, field="gold")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (r"\left[\begin{array}{cc}1 & 2\\3 & 4\end{array}\right]", "matrix"),
        (r"\begin{cases} x & x>0 \\ -x & x \le 0 \end{cases}", "system"),
        (r"\left\{\begin{array}{l}x=1\\y=2\end{array}\right.", "system"),
        (r"\begin{aligned} x&=1\\ y&=2 \end{aligned}", "list"), (r"\sum_{k=1}^{n} k^2", "expression"),
        (r"\int_0^1 x\,dx", "number"), (r"\lim_{x\to 0}\frac{\sin x}{x}", "number"), (r"1<x\le4:(1,4]", "inequality"),
        (r"\frac{200}{3} \approx 66.67", "number"), (r"\approx 3.14", "number"), (r"\{x \mid x>2\}", "inequality"),
        (r"\mathbf{v}=(1,2)", "tuple"), (r"\hat{p}=0.4", "equation"), (r"y''+y=0", "equation"),
        (r"30^\circ 15'", "number"), (r"2, 4, 8, \ldots", "list"), (r"\mathbb R", "interval"),
        (r"\mathbb{R}\setminus\{2\}", "set"), (r"3\pm\sqrt2", "list"), (r"k\pi, k\in\mathbb Z", "expression"),
        (r"0.\overline{3}", "number"), (r"\nicefrac{1}{2}", "number"), (r"x\equiv 3\pmod 5", "congruence"),
        (r"x=1 \quad y=2", "list"), ("26 adults, 3 children", "list"), ("center (1,2), radius 3", "mixed"),
        (r"\forall x\, P(x)", "formula"), ("10^16", "number"), (1e16, "number"), (10**30, "number"),
    ],
)  # fmt: skip
def test_golds_as_the_suites_write_them_are_typed(text, kind):
    gold = parse_gold(text)
    assert gold.kind == kind
    assert verify(gold.text, text).label == "right"


def test_numbers_are_taken_as_they_are():
    assert verify("0.00001", 1e-5).label == "right" and verify("e-5", 1e-5).label != "right"
    assert verify("10000000000000000", 1e16).label == "right"
    assert verify("1000000000000000000000000000001", 10**30).label == "wrong"


def test_several_accepted_answers():
    gold = parse_gold([r"\frac{1}{2}", "0.5 m", ["half"]])
    assert len(gold.alternatives) == 3 and gold.kind == "number"
    assert verify("50 cm", gold).label == verify("1/2", gold).label == "right"
    assert verify("1/3", gold).label == "wrong"
    assert verify(r"3^{8999}\sqrt{18}", ["5", r"3^{9000}\sqrt{2}"]).label == "right"  # by a worker


def test_bad_golds_are_dropped_and_counted():
    kept, golds, report = typed_golds([{"answer": "1"}, {"answer": "{"}, {"answer": "x+1"}, {"answer": ""}])
    assert kept == [0, 2] and [gold.kind for gold in golds] == ["number", "expression"]
    assert [row for row, _, _ in report.dropped] == [1, 3]
    assert report.summary["kinds"] == {"number": 1, "expression": 1} and report.summary["dropped"] == 2
    assert sum(report.summary["reasons"].values()) == 2
    reward = MathReward(workers=1, on_bad_gold="drop")
    assert reward([""] * 2, [r"\boxed{1}"] * 2, answer=["1", "{"]) == [1.0, None]
    assert reward.counts["bad_gold"] == reward.counts["undecided/bad gold"] == 1
    with pytest.raises(DataError, match="row 1"):
        MathReward(workers=1)([""] * 2, [r"\boxed{1}"] * 2, answer=["1", "{"])
