"""When two lists, tuples, sets, ratios, matrices, congruences or quantities of several parts are the same."""

from __future__ import annotations

from ixt_rl.rewards.math.expr import DOTS, Expr, Num, Op, rational
from ixt_rl.rewards.math.outcome import TooLarge
from ixt_rl.rewards.math.rules_base import Undecided, all_of, has_style, name_of, right_side, undecided
from ixt_rl.rewards.math.rules_quantities import QuantityRules
from ixt_rl.rewards.math.values import Matrix, Quantity, Relation, Sequence, Value

MAX_ITEMS = 100
"""Most items of a list, set or tuple that are compared."""


class CollectionRules(QuantityRules):
    """Comparisons of several values, item by item."""

    def row(self, gold: Value, answer: Value) -> bool | None:
        """A value with its condition; without it the answer is undecided where the value is right."""
        if has_style("row", gold) and has_style("row", answer):
            assert isinstance(gold, Sequence) and isinstance(answer, Sequence)
            value = self.same(gold.items[0], answer.items[0])
            if value is not True:
                return value
            condition = self.maybe(gold.items[1], answer.items[1])
            return True if condition or gold.items[1] == answer.items[1] else None
        bare = [
            side.items[0] if isinstance(side, Sequence) and side.style == "row" else side for side in (gold, answer)
        ]
        if self.same(bare[0], bare[1]) is False:
            return False
        raise Undecided("ambiguous: a condition on one side only")

    def congruence(self, gold: Value, answer: Value) -> bool | None:
        if not (isinstance(gold, Sequence) and isinstance(answer, Sequence)) or gold.style != answer.style:
            congruence, other = (gold, answer) if has_style("congruence", gold) else (answer, gold)
            assert isinstance(congruence, Sequence)
            if self.maybe(congruence.items[0], other) is False:
                return False
            raise Undecided("ambiguous: a congruence against a value")
        if self.same(gold.items[1], answer.items[1]) is not True:
            raise Undecided("ambiguous: another modulus")
        residues = [_residues(side) for side in (gold, answer)]
        if residues[0] is None or residues[1] is None:
            return True if self.maybe(gold.items[0], answer.items[0]) else None
        return residues[0] == residues[1]

    def compound(self, gold: Value, answer: Value) -> bool | None:
        """`5 ft 3 in` as one quantity in the unit of its first part."""
        sides = [self.single(side) for side in (gold, answer)]
        if sides[0] is None or sides[1] is None:
            return False
        if not all(side.unit.powers for side in sides if side):
            raise Undecided("ambiguous: a quantity of several parts against a number")
        return self.quantity(sides[0], sides[1])

    def single(self, value: Value) -> Quantity | None:
        if isinstance(value, Quantity):
            return value
        if not isinstance(value, Sequence) or value.style not in ("compound", "list"):
            return None
        items = [item for item in value.items if isinstance(item, Quantity)]
        if len(items) < len(value.items):
            return None
        total = items[0].expr
        for item in items[1:]:
            factor = self.leaves.factor(item.unit, items[0].unit)
            if factor is None:
                return None
            total = Op("add", (total, Op("mul", (item.expr, Num(factor)))))
        return Quantity(total, items[0].unit)

    def sequence(self, gold: Value, answer: Value) -> bool | None:
        if not isinstance(gold, Sequence) or not isinstance(answer, Sequence):
            return self.one_against_many(gold, answer)
        if any(item == Quantity(DOTS) for value in (gold, answer) for item in value.items):
            same = gold.style == answer.style and len(gold.items) == len(answer.items)
            if same and self.ordered(gold.items, answer.items):
                return True
            raise Undecided("ambiguous: items left out by dots")
        if gold.style == answer.style == "ratio":
            return self.ratio(gold, answer)
        named = _by_name(gold), _by_name(answer)
        if named[0] and named[1] and named[0].keys() == named[1].keys():
            return all_of(self.maybe(value, named[1][name]) for name, value in named[0].items())
        unordered = {"set", "list"}
        if gold.style in unordered and answer.style in unordered:
            return self.members(gold, answer)
        if gold.style == answer.style:
            return self.ordered(gold.items, answer.items)
        if {gold.style, answer.style} == {"paren", "bracket"}:  # with two items they are intervals
            return self.ordered(gold.items, answer.items) if len(gold.items) > 2 else False
        if "list" in (gold.style, answer.style) and "ratio" not in (gold.style, answer.style):
            return self.list_against_tuple(gold, answer)
        return False

    def members(self, gold: Sequence, answer: Sequence) -> bool | None:
        """The same items in any order. Between braces an item counts once; in a list, repeats leave it open: they may
        be a root's multiplicity."""
        found = self.unordered(gold.items, answer.items)
        if found is not False:
            return found
        once = [self.distinct(side.items) for side in (gold, answer)]
        if [len(items) for items in once] == [len(gold.items), len(answer.items)]:
            return False
        found = self.unordered(*once)
        if found is False or (found and gold.style == answer.style == "set"):
            return found
        raise Undecided("ambiguous: an item more than once")

    def distinct(self, items: tuple[Value, ...]) -> tuple[Value, ...]:
        """The items without those that are surely equal to an earlier one."""
        kept: list[Value] = []
        for item in items:
            if not any(self.maybe(one, item) is True for one in kept):
                kept.append(item)
        return tuple(kept)

    def list_against_tuple(self, gold: Sequence, answer: Sequence) -> bool | None:
        """`x = 1, y = 2` is the tuple (1, 2); a list without names leaves the order open."""
        listed, other = (gold, answer) if gold.style == "list" else (answer, gold)
        named = {name_of(item): item for item in listed.items if name_of(item)}
        if len(named) == len(listed.items) and len(named) > 1 and sorted(named) != [name_of(i) for i in other.items]:
            values = tuple(right_side(named[name]) for name in sorted(named))
            return True if self.ordered(values, other.items) else undecided("ambiguous: which value is which")
        if self.unordered(gold.items, answer.items) is False:
            return False
        raise Undecided("ambiguous: a bare list against an ordered one")

    def one_against_many(self, gold: Value, answer: Value) -> bool | None:
        many, one = (gold, answer) if isinstance(gold, Sequence) else (answer, gold)
        assert isinstance(many, Sequence)
        if many.style == "set" and len(many.items) == 1:
            return self.same(gold.items[0], answer) if many is gold else self.same(gold, answer.items[0])  # type: ignore[union-attr]
        if many.style == "ratio" and len(many.items) == 2 and isinstance(one, Quantity):
            top, bottom = (item.expr for item in many.items if isinstance(item, Quantity))
            return self.equal(Op("div", (top, bottom)), one.expr)
        conditions = [item for item in many.items if isinstance(item, Relation) and item.operators != ("=",)]
        values = [item for item in many.items if item not in conditions]
        if many.style == "list" and conditions and len(values) == 1 and self.maybe(values[0], one) is not False:
            raise Undecided("ambiguous: a condition on one side only")
        return False

    def ratio(self, gold: Sequence, answer: Sequence) -> bool | None:
        if len(gold.items) != len(answer.items):
            return False
        a, b = ([item.expr for item in side.items if isinstance(item, Quantity)] for side in (gold, answer))
        if any(rational(expr) == 0 for expr in (*a, *b)):
            return self.ordered(gold.items, answer.items)
        return all_of(self.equal(Op("mul", (a[0], b[at])), Op("mul", (b[0], a[at]))) for at in range(1, len(a)))

    def ordered(self, gold: tuple[Value, ...], answer: tuple[Value, ...]) -> bool | None:
        if len(gold) != len(answer):
            return False
        return all_of(self.maybe(a, b) for a, b in zip(gold, answer, strict=True))

    def unordered(self, gold: tuple[Value, ...], answer: tuple[Value, ...]) -> bool | None:
        """The same items in any order. Equality is transitive, so matching greedily finds every match."""
        if len(gold) > MAX_ITEMS or len(answer) > MAX_ITEMS:
            raise TooLarge(f"more than {MAX_ITEMS} items")
        gold, answer = _assigned(gold), _assigned(answer)
        if len(gold) != len(answer):
            return False
        left, unknown = list(answer), False
        for item in gold:
            verdicts = [self.maybe(item, other) for other in left]
            if True in verdicts:
                left.pop(verdicts.index(True))
            elif None in verdicts:
                unknown = True
            else:
                return False
        return None if unknown else True

    def matrix(self, gold: Value, answer: Value) -> bool | None:
        rows = [_rows(gold), _rows(answer)]
        if rows[0] is None or rows[1] is None:
            return False
        if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
            transposed = [list(column) for column in zip(*rows[1], strict=True)]
            vector = any(isinstance(side, Sequence) for side in (gold, answer)) or 1 in (len(rows[0]), len(rows[1]))
            if not vector or [len(row) for row in transposed] != [len(row) for row in rows[0]]:
                return False
            if not any(isinstance(side, Sequence) for side in (gold, answer)):
                return None if self.pairs(rows[0], transposed) else False  # a row where a column was asked for
            rows[1] = transposed  # (1, 2, 3) for a row vector
        return self.pairs(rows[0], rows[1])

    def pairs(self, gold: list[list[Expr]], answer: list[list[Expr]]) -> bool | None:
        cells = [pair for a, b in zip(gold, answer, strict=True) for pair in zip(a, b, strict=True)]
        return all_of(self.equal(a, b) for a, b in cells)


def _by_name(value: Sequence) -> dict[str, Value]:
    """`x = 1, y = 2` by name; empty where an item has none or two have the same."""
    found = {name_of(item): right_side(item) for item in value.items}
    return found if value.style == "list" and "" not in found and len(found) == len(value.items) else {}


def _assigned(items: tuple[Value, ...]) -> tuple[Value, ...]:
    """`x = 1, x = 2` and `x = 1, 2` are the values 1 and 2, when all name the same variable."""
    names = {name_of(item) for item in items}
    if len(items) > 1 and name_of(items[0]) and names <= {name_of(items[0]), ""}:
        rest = items[1:]
        if all(name_of(item) or isinstance(item, Quantity) for item in rest):
            return tuple(right_side(item) for item in items)
    return items


def _residues(value: Value) -> set[int] | None:
    """The residues of a congruence as integers."""
    assert isinstance(value, Sequence)
    modulus = value.items[1]
    first = value.items[0]
    items = first.items if isinstance(first, Sequence) else (first,)
    found = [rational(item.expr) if isinstance(item, Quantity) else None for item in items]
    size = rational(modulus.expr) if isinstance(modulus, Quantity) else None
    if size is None or size <= 0 or any(value is None or value.denominator != 1 for value in found):
        return None
    return {int(value) % int(size) for value in found if value is not None}


def _rows(value: Value) -> list[list[Expr]] | None:
    """A matrix's rows; an ordered sequence is a column."""
    if isinstance(value, Matrix):
        return [list(row) for row in value.rows]
    if isinstance(value, Sequence) and value.style in ("paren", "bracket"):
        column = [[item.expr] for item in value.items if isinstance(item, Quantity)]
        return column if len(column) == len(value.items) else None
    return None
