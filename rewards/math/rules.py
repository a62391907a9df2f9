"""When two typed values are the same. The rules are the whole judgement; `leaves` only compares expressions.

    rules_base --> rules_notations ----------------------------------------> rules
               --> rules_quantities --> rules_collections --> rules_relations -->

Each file knows those to its left. `Rules.same` looks at the types and asks the comparison of that type, which comes
back to `same` for the parts.
"""

from __future__ import annotations

from fractions import Fraction

from ixt_rl.rewards.math.expr import rename, substitute, symbols
from ixt_rl.rewards.math.rules_base import Leaves, Undecided, has_style
from ixt_rl.rewards.math.rules_collections import MAX_ITEMS
from ixt_rl.rewards.math.rules_notations import NotationRules, phrase_kind
from ixt_rl.rewards.math.rules_relations import RelationRules
from ixt_rl.rewards.math.units import NONE
from ixt_rl.rewards.math.values import (
    Based,
    Choice,
    Clock,
    Either,
    Family,
    Formula,
    Interval,
    Labelled,
    Matrix,
    Mixed,
    Quantity,
    Relation,
    Sequence,
    SetOp,
    Union,
    Value,
    Words,
)


class Rules(NotationRules, RelationRules):
    """The comparison of two values of any types."""

    def same(self, gold: Value, answer: Value, text: str = "") -> bool | None:
        """Whether two values are the same; the type of the gold says which comparison.

        Raises:
            Undecided: the texts leave it open.
        """
        if isinstance(gold, Either) or isinstance(answer, Either):
            return self.either(gold, answer)
        if isinstance(gold, Formula | Mixed) or isinstance(answer, Formula | Mixed):
            return self.mixed(gold, answer)
        if isinstance(gold, Words) or isinstance(answer, Words):
            return self.words(gold, answer, text)
        if isinstance(gold, Family) or isinstance(answer, Family):
            return self.family(gold, answer)
        if isinstance(gold, Labelled) or isinstance(answer, Labelled):
            return self.labelled(gold, answer)
        if isinstance(gold, Choice) or isinstance(answer, Choice):
            return self.choice(gold, answer)
        if isinstance(gold, Clock) or isinstance(answer, Clock):
            return self.clock(gold, answer)
        if isinstance(gold, Based) or isinstance(answer, Based):
            return self.based(gold, answer)
        gold, answer = _flat(gold), _flat(answer)
        plain = _vector(gold) != gold or _vector(answer) != answer
        gold, answer = _vector(gold, plain), _vector(answer, plain)
        if has_style("row", gold, answer):
            return self.row(gold, answer)
        if has_style("congruence", gold, answer):
            return self.congruence(gold, answer)
        if has_style("compound", gold, answer):
            return self.compound(gold, answer)
        if isinstance(gold, Relation) or isinstance(answer, Relation):
            return self.relation(gold, answer)
        if isinstance(gold, SetOp) or isinstance(answer, SetOp):
            return self.set_operation(gold, answer)
        if isinstance(gold, Interval | Union) or isinstance(answer, Interval | Union):
            return self.intervals(gold, answer)
        if isinstance(gold, Matrix) or isinstance(answer, Matrix):
            return self.matrix(gold, answer)
        if isinstance(gold, Sequence) or isinstance(answer, Sequence):
            return self.sequence(gold, answer)
        assert isinstance(gold, Quantity) and isinstance(answer, Quantity)
        return self.quantity(gold, answer)


def _flat(value: Value) -> Value:
    """A system of equations is a list of them; a case distinction is the set of its rows."""
    if isinstance(value, Sequence) and value.style == "rows":
        return Sequence("list", value.items)
    return value


def _vector(value: Value, plain: bool = False) -> Value:
    """`2i + 3j` in unit vectors is the tuple (2, 3); `plain`: also where they are not written as vectors."""
    if not isinstance(value, Quantity):
        return value
    if plain and {"j", "k"} & symbols(value.expr):
        value = Quantity(rename(value.expr, {letter: f"unit {letter}" for letter in "ijk"}))
    used = {name for name in symbols(value.expr) if name.startswith("unit ")}
    if not used:
        return value
    axes = ("unit i", "unit j", "unit k") if "unit k" in used else ("unit i", "unit j")
    components = [substitute(value.expr, {axis: Fraction(int(axis == chosen)) for axis in axes}) for chosen in axes]
    return Sequence("paren", tuple(Quantity(component) for component in components))


__all__ = ["MAX_ITEMS", "NONE", "Leaves", "Rules", "Undecided", "phrase_kind"]
