"""When two equations, inequalities, intervals or sets of numbers are the same."""

from __future__ import annotations

from ixt_rl.rewards.math.expr import Expr, difference, symbols
from ixt_rl.rewards.math.polynomials import degree, is_name
from ixt_rl.rewards.math.regions import FLIPPED, as_intervals, canonical_region, parts_of
from ixt_rl.rewards.math.rounding import rounds_to
from ixt_rl.rewards.math.rules_base import Undecided, all_of, has_style
from ixt_rl.rewards.math.rules_collections import CollectionRules
from ixt_rl.rewards.math.values import Interval, Quantity, Relation, Sequence, SetOp, Value


class RelationRules(CollectionRules):
    """Comparisons of relations, and of the sets of numbers that they may be."""

    def relation(self, gold: Value, answer: Value) -> bool | None:
        if isinstance(gold, Relation) and isinstance(answer, Relation):
            return self.two_relations(gold, answer)
        relation, other = (gold, answer) if isinstance(gold, Relation) else (answer, gold)
        assert isinstance(relation, Relation)
        if "=" not in relation.operators:
            if isinstance(other, Quantity) or has_style("list", other):
                return self.inequality_against(other)
            return self.intervals(gold, answer)
        value = self.assigned_value(relation)
        if value is None:
            return self.equation_against(relation, other)
        return self.same(Quantity(value), other) if relation is gold else self.same(other, Quantity(value))

    def inequality_against(self, other: Value) -> bool | None:
        if isinstance(other, Quantity) and not symbols(other.expr):
            return False
        raise Undecided("ambiguous: an inequality against a value")

    def equation_against(self, relation: Relation, other: Value) -> bool | None:
        """A real equation where a value stands on the other side."""
        if isinstance(other, Sequence) and other.style in ("set", "list") and len(other.items) != 1:
            return False
        if isinstance(other, Quantity) and not symbols(other.expr):
            if any(not symbols(side) and self.equal(side, other.expr) is not False for side in relation.sides):
                raise Undecided("ambiguous: an equation whose one side is the value")
            return False
        return None

    def assigned_value(self, relation: Relation) -> Expr | None:
        """What `x = 5`, `m + n = 205`, `x = 3 + 2 = 5` or `3 + 2 = 5` states; None for a real equation."""
        if set(relation.operators) != {"="}:
            return None
        sides = list(relation.sides)
        if is_name(sides[0]):
            names = symbols(sides.pop(0))
            if any(names & symbols(side) for side in sides):
                return None
        elif is_name(sides[-1]) and len(sides) == 2 and not symbols(sides[0]):
            sides.pop()
        elif any(symbols(side) for side in sides):
            return None
        if not all(self.equal(side, sides[-1]) for side in sides[:-1]):
            rounded = all(not symbols(side) and rounds_to(side, sides[-1]) for side in sides[:-1])
            if rounded:
                return sides[0]
            raise Undecided("ambiguous: a chain of equals signs that does not hold")
        return sides[-1]

    def two_relations(self, gold: Relation, answer: Relation) -> bool | None:
        if "=" not in gold.operators and "=" not in answer.operators:
            return self.inequalities(gold, answer)
        if len(gold.sides) != 2 or len(answer.sides) != 2 or gold.operators != answer.operators:
            values = [self.assigned_value(relation) for relation in (gold, answer)]
            return self.equal(values[0], values[1]) if values[0] and values[1] else None
        named = [relation.sides[0] for relation in (gold, answer)]
        if all(is_name(name) for name in named):
            verdict = self.with_constant(gold.sides[1], answer.sides[1])
            if verdict is False and named[0] == named[1]:
                return self.close(Quantity(gold.sides[1]), Quantity(answer.sides[1]))
            if verdict and named[0] != named[1]:
                raise Undecided("ambiguous: another name on the left")
            if verdict is not False or named[0] == named[1]:
                return verdict
        zeros = [difference(*r.sides) for r in (gold, answer)]
        verdict = self.leaves.proportional(zeros[0], zeros[1])
        if verdict is False:
            degrees = [degree(side) for side in zeros]
            if None in degrees:
                raise Undecided("ambiguous: equations in different forms")
            if degrees[0] != degrees[1]:
                raise Undecided("ambiguous: equations of different degree")
        return verdict

    def inequalities(self, gold: Relation, answer: Relation) -> bool | None:
        as_sets = [as_intervals(relation) for relation in (gold, answer)]
        if as_sets[0] is not None and as_sets[1] is not None:
            return self.intervals(gold, answer)
        pairs = [tuple(Quantity(side) for side in relation.sides) for relation in (gold, answer)]
        if gold.operators == answer.operators and self.ordered(pairs[0], pairs[1]):
            return True
        flipped = tuple(FLIPPED[operator] for operator in reversed(answer.operators))
        if gold.operators == flipped and self.ordered(pairs[0], tuple(reversed(pairs[1]))):
            return True
        raise Undecided("ambiguous: inequalities in different forms")

    def set_operation(self, gold: Value, answer: Value) -> bool | None:
        same_kind = isinstance(gold, SetOp) and isinstance(answer, SetOp) and gold.name == answer.name
        if same_kind and self.ordered(gold.parts, answer.parts):  # type: ignore[union-attr]
            return True
        if isinstance(answer, Quantity) and not symbols(answer.expr):
            return False
        return None

    def intervals(self, gold: Value, answer: Value) -> bool | None:
        """Unions part by part; `1 < x < 2` is (1, 2), and a pair in parentheses may be an interval."""
        parts = [parts_of(gold), parts_of(answer)]
        if parts[0] is None or parts[1] is None:
            return False
        regions = [canonical_region(side) for side in parts if side is not None]
        if regions[0] is not None and regions[1] is not None:
            if regions[0] != regions[1] and any(map(_may_be_point, (gold, answer))):
                return False
            return regions[0] == regions[1]
        if len(parts[0]) != len(parts[1]):
            raise Undecided("ambiguous: unions of different length")
        left = list(parts[1])
        for part in parts[0]:
            verdicts = [self.interval(part, other) for other in left]
            if True not in verdicts:
                return None if None in verdicts else False
            left.pop(verdicts.index(True))
        return True

    def interval(self, a: Value, b: Value) -> bool | None:
        if isinstance(a, Interval) and isinstance(b, Interval):
            closed = (a.low_closed, a.high_closed) == (b.low_closed, b.high_closed)
            return closed and all_of([self.equal(a.low, b.low), self.equal(a.high, b.high)])
        if isinstance(a, Sequence) and isinstance(b, Sequence):
            return self.unordered(a.items, b.items)
        return False


def _may_be_point(value: Value) -> bool:
    return isinstance(value, Sequence) and value.style == "paren"
