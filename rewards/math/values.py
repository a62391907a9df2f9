"""Typed answers: what kind of thing an answer is."""

from __future__ import annotations

from dataclasses import dataclass

from ixt_rl.rewards.math.expr import Expr, symbols
from ixt_rl.rewards.math.units import NONE, Unit


@dataclass(frozen=True)
class Quantity:
    """An expression with the unit it was written with; `approximate` after a sign of approximation."""

    expr: Expr
    unit: Unit = NONE
    approximate: bool = False


@dataclass(frozen=True)
class Based:
    """Digits in a stated base: 204_5."""

    digits: str
    base: int


@dataclass(frozen=True)
class Sequence:
    """Several values.

    Args:
        style: paren, bracket, set (braces), list (bare, unordered), ratio (a:b), compound (5 ft 3 in), rows (a system
            or a case distinction), row (a value and where it holds), congruence (a value and its modulus).
    """

    style: str
    items: tuple[Value, ...]


@dataclass(frozen=True)
class Interval:
    """An interval that can be read as nothing else."""

    low: Expr
    high: Expr
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True)
class Union:
    """A union of intervals and finite sets."""

    parts: tuple[Value, ...]


@dataclass(frozen=True)
class SetOp:
    """Sets that are no union of intervals and numbers: `name` is minus, cap or a set's name, such as Z."""

    name: str
    parts: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """Rows of expressions."""

    rows: tuple[tuple[Expr, ...], ...]


@dataclass(frozen=True)
class Relation:
    """`a = b`, or a chain `a < b <= c`; one more side than operators (`=`, `<`, `<=`, `>`, `>=`, `!=`)."""

    sides: tuple[Expr, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Labelled:
    """A value under a name that is no part of it: `S = \\{1, 2\\}`, `P(X=2) = 0.3`, `slope: 5`."""

    label: str
    value: Value


@dataclass(frozen=True)
class Family:
    """Values with a parameter that runs through a set: `\\pi/3 + 2k\\pi, k \\in Z`."""

    value: Value
    parameter: str
    domain: str


@dataclass(frozen=True)
class Either:
    """One answer in several notations: `1 < x \\le 4 : (1, 4]`, `200/3 \\approx 66.67`."""

    forms: tuple[Value, ...]


@dataclass(frozen=True)
class Choice:
    """One or several letters of a multiple-choice question."""

    letters: frozenset[str]


@dataclass(frozen=True)
class Clock:
    """A time of day."""

    hour: int
    minute: int
    half: str = ""


@dataclass(frozen=True)
class Words:
    """Text, compared as lower-case words."""

    text: str


@dataclass(frozen=True)
class Mixed:
    """Words and formulas in turn: `center (1,2), radius 3`."""

    parts: tuple[Value, ...]


@dataclass(frozen=True)
class Formula:
    """A formula of known commands that is compared by its spelling and, in the child process, by math-verify."""

    text: str


Value = (
    Quantity | Based | Sequence | Interval | Union | SetOp | Matrix | Relation | Labelled | Family | Either | Choice
    | Clock | Words | Mixed | Formula
)  # fmt: skip


def kind_of(value: Value) -> str:
    """The name of a value's type, as it is shown in reports."""
    if isinstance(value, Quantity):
        return "expression" if symbols(value.expr) else "number"
    if isinstance(value, Relation):
        return "equation" if set(value.operators) == {"="} else "inequality"
    if isinstance(value, Sequence):
        return {"paren": "tuple", "bracket": "interval", "compound": "number", "rows": "system",
                "row": "system"}.get(value.style, value.style)  # fmt: skip
    if isinstance(value, Labelled | Family):
        return kind_of(value.value)
    if isinstance(value, Either):
        return kind_of(value.forms[0])
    names: dict[type, str] = {
        Interval: "interval", Union: "set", SetOp: "set", Matrix: "matrix", Choice: "choice", Clock: "clock",
        Based: "based", Words: "text", Mixed: "mixed", Formula: "formula",
    }  # fmt: skip
    return names[type(value)]
