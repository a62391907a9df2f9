from __future__ import annotations

import pytest

from ixt_rl.errors import DataError
from ixt_rl.rewards import check_golds, parse_gold


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
