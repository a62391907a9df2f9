"""What every rule has: the comparisons of expressions, three-valued answers, and `Undecided`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from fractions import Fraction
from typing import Protocol

from ixt_rl.rewards.math.expr import DOTS, INFINITY, MINUS_INFINITY, Expr, Sym
from ixt_rl.rewards.math.units import Unit
from ixt_rl.rewards.math.values import Quantity, Relation, Sequence, Value


class Undecided(Exception):
    """Raised inside the rules when the texts alone leave the answer open."""


class Leaves(Protocol):
    """Comparisons of expressions; None is undecided."""

    def equal(self, a: Expr, b: Expr) -> bool | None:
        """Whether two expressions have the same value everywhere."""

    def proportional(self, a: Expr, b: Expr) -> bool | None:
        """Whether `a = 0` and `b = 0` are the same equation."""

    def up_to_constant(self, a: Expr, b: Expr) -> bool | None:
        """Whether two expressions differ by a constant."""

    def factor(self, a: Unit, b: Unit) -> Fraction | None:
        """How many of `b` one `a` is; None for units of different kinds."""


class Comparison(ABC):
    """What the comparisons of all types share.

    Args:
        leaves: how expressions are compared.
        tolerance: largest relative difference of a decimal from the gold.
    """

    def __init__(self, leaves: Leaves, tolerance: float = 0.0):
        self.leaves, self.tolerance = leaves, tolerance
        self.by_units = False  # whether a unit decided, which math-verify does not read

    def equal(self, a: Expr, b: Expr) -> bool | None:
        if a == b:
            return True
        unlike = (DOTS, INFINITY, MINUS_INFINITY)
        if a in unlike or b in unlike:
            return False
        return self.leaves.equal(a, b)

    def maybe(self, gold: Value, answer: Value) -> bool | None:
        """`same`, with None for what the texts leave open."""
        try:
            return self.same(gold, answer)
        except Undecided:
            return None

    @abstractmethod
    def same(self, gold: Value, answer: Value, text: str = "") -> bool | None:
        """Whether two values of any types are the same; parts of a value are compared by it.

        Raises:
            Undecided: the texts leave it open.
        """


def undecided(reason: str) -> bool | None:
    """Raise `Undecided` where an expression is wanted."""
    raise Undecided(reason)


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Three-valued and: False if any is False, else None if any is None."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


def has_style(style: str, *values: Value) -> bool:
    """Whether one of the values is a sequence of this style."""
    return any(isinstance(value, Sequence) and value.style == style for value in values)


def name_of(item: Value) -> str:
    """`x` of `x = 5`; empty for everything else."""
    if isinstance(item, Relation) and item.operators == ("=",) and isinstance(item.sides[0], Sym):
        return item.sides[0].name
    return ""


def right_side(item: Value) -> Value:
    """`5` of `x = 5`; what is no relation stands for itself."""
    return Quantity(item.sides[1]) if isinstance(item, Relation) else item
