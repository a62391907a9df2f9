"""When two typed values are the same. The rules here are the whole judgement; `leaves` only compares expressions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Protocol

from ixt_rl.rewards.math.expr import (
    DOTS,
    INFINITY,
    MINUS_INFINITY,
    Expr,
    Num,
    Op,
    Sym,
    difference,
    rational,
    rename,
    substitute,
    symbols,
)
from ixt_rl.rewards.math.outcome import TooLarge
from ixt_rl.rewards.math.polynomials import degree, is_name
from ixt_rl.rewards.math.regions import FLIPPED, as_intervals, canonical_region, parts_of
from ixt_rl.rewards.math.rounding import rounds_to, within
from ixt_rl.rewards.math.spelling import clean
from ixt_rl.rewards.math.units import MONEY, NONE, SINGLE_LETTERS, Unit, read_unit
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
from ixt_rl.rewards.math.vocabulary import CHANGES_NUMBER, NUMBER_WORDS, PHRASES, plain_words

MAX_ITEMS = 100
"""Most items of a list, set or tuple that are compared."""


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


def phrase_kind(text: str) -> int | None:
    """Which fixed phrase a text is, if it is one."""
    return PHRASES.get(text)


class Rules:
    """The comparison of two values.

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
        if _has_style("row", gold, answer):
            return self.row(gold, answer)
        if _has_style("congruence", gold, answer):
            return self.congruence(gold, answer)
        if _has_style("compound", gold, answer):
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

    # ----------------------------------------------------------------------------- notations and names

    def either(self, gold: Value, answer: Value) -> bool | None:
        """Several notations: one of the gold's has to match, and all of the answer's that can be compared."""
        if isinstance(gold, Either):
            verdicts = [self.maybe(form, answer) for form in gold.forms]
            return True if True in verdicts else None if None in verdicts else False
        assert isinstance(answer, Either)
        verdicts = [self.maybe(gold, form) for form in answer.forms]
        if True in verdicts and False in verdicts:
            raise Undecided("ambiguous: two notations that differ")
        return True if True in verdicts else None if None in verdicts else False

    def labelled(self, gold: Value, answer: Value) -> bool | None:
        """A label is no part of the value; but two different function names are a question."""
        names = [re.sub(r"\(.*", "", side.label) if isinstance(side, Labelled) else "" for side in (gold, answer)]
        bare = [side.value if isinstance(side, Labelled) else side for side in (gold, answer)]
        for at, side in enumerate((gold, answer)):
            if _name(side):
                names[at], bare[at] = _name(side), _right_side(side)
        verdict = self.same(bare[0], bare[1])
        simple = all(len(name) == 1 for name in names)
        if verdict and simple and names[0] != names[1]:
            raise Undecided("ambiguous: another name on the left")
        return verdict

    def family(self, gold: Value, answer: Value) -> bool | None:
        """Solutions with a parameter; how it is called is free, and the words that name its range may be left out."""
        sides = [side.value if isinstance(side, Family) else side for side in (gold, answer)]
        names = [side.parameter if isinstance(side, Family) else "" for side in (gold, answer)]
        if not names[0]:
            names[0] = next(iter(_symbols(gold)), "")
        if not names[1]:
            names[1] = next(iter(_symbols(answer)), "")
        renamed = _renamed(sides[1], {names[1]: names[0]}) if names[0] and names[1] else sides[1]
        if self.same(sides[0], renamed):
            domains = {side.domain for side in (gold, answer) if isinstance(side, Family)}
            return True if len(domains) == 1 else None
        raise Undecided("ambiguous: another parametrisation")

    def mixed(self, gold: Value, answer: Value) -> bool | None:
        """Words with formulas: part by part, or undecided."""
        if isinstance(gold, Mixed) and isinstance(answer, Mixed):
            pairs = list(zip(gold.parts, answer.parts, strict=False))
            alike = len(gold.parts) == len(answer.parts) and all(type(a) is type(b) for a, b in pairs)
            if alike:
                verdict = _all(
                    plain_words(a.text.split()) == plain_words(b.text.split())
                    if isinstance(a, Words) and isinstance(b, Words)
                    else self.maybe(a, b)
                    for a, b in pairs
                )
                return True if verdict else None
        return True if gold == answer else None

    def words(self, gold: Value, answer: Value, text: str) -> bool | None:
        empty = Sequence("set", ())
        for side, other in ((gold, answer), (answer, gold)):
            if isinstance(side, Words) and phrase_kind(side.text) == 0 and other == empty:
                return True
        if isinstance(gold, Words):
            if isinstance(answer, Words):
                return True if gold.text == answer.text else None
            return False
        return self.prose(gold, text)

    def prose(self, gold: Value, text: str) -> bool | None:
        """Words where a value was asked for: wrong, unless the gold's value may be among them."""
        plain = clean(text).lower()
        found = re.findall(r"[^\W\d_]+", plain)
        if phrase_kind(" ".join(found)) is not None and not re.search(r"\d", plain):
            return False
        if isinstance(gold, Quantity) and not symbols(gold.expr):
            value = rational(gold.expr)
            numbers = [Fraction(token.replace(",", "")) for token in re.findall(r"\d[\d,]*(?:\.\d+)?", plain)]
            said = CHANGES_NUMBER.union(NUMBER_WORDS).intersection(found)
            if value is not None and abs(value) not in numbers and not said:
                return False
        elif isinstance(gold, Choice) and not any(word.upper() in gold.letters for word in found):
            return False
        raise Undecided("ambiguous: the answer is prose")

    def choice(self, gold: Value, answer: Value) -> bool | None:
        if isinstance(gold, Choice) and isinstance(answer, Choice):
            return gold.letters == answer.letters
        choice, other = (gold, answer) if isinstance(gold, Choice) else (answer, gold)
        assert isinstance(choice, Choice)
        if isinstance(other, Relation) and other.operators == ("=",) and is_name(other.sides[0]):
            other = Quantity(other.sides[1])
        if isinstance(other, Sequence) and other.style in ("paren", "set", "list", "bracket"):
            listed = [_letters(item) for item in other.items]
            letters = "".join(listed) if all(len(item) == 1 for item in listed) else ""
        else:
            letters = _letters(other)
        if letters:
            if frozenset(letters) == choice.letters and len(letters) == len(choice.letters):
                return True
            if frozenset(letters.upper()) == choice.letters:
                return gold is choice or _undecided("ambiguous: a letter in the other case")
            return False
        if gold is choice:
            raise Undecided("ambiguous: a value where a choice letter was asked for")
        return False if not _symbols(other) else None

    def clock(self, gold: Value, answer: Value) -> bool | None:
        a, b = _as_clock(gold), _as_clock(answer)
        if a is None or b is None:
            raise Undecided("ambiguous: a time against something else")
        if (a.hour, a.minute) != (b.hour, b.minute):
            if abs(a.hour - b.hour) != 12 or a.minute != b.minute or (a.half and b.half):
                return False
            late = max(a, b, key=lambda clock: clock.hour)
            early = min(a, b, key=lambda clock: clock.hour)
            if not late.half and early.half:
                return early.half == "p"
            return _undecided("ambiguous: 12 or 24 hours")
        if a.half and b.half:
            return a.half == b.half
        return True if a.half == b.half else _undecided("ambiguous: am or pm is missing")

    def based(self, gold: Value, answer: Value) -> bool | None:
        if isinstance(gold, Based) and isinstance(answer, Based):
            if gold.base == answer.base:
                return gold.digits.lstrip("0") == answer.digits.lstrip("0")
            values = _decimal_value(gold), _decimal_value(answer)
            return _undecided("ambiguous: bases") if None in values or values[0] == values[1] else False
        based, other = (gold, answer) if isinstance(gold, Based) else (answer, gold)
        assert isinstance(based, Based)
        value = rational(other.expr) if isinstance(other, Quantity) else None
        if value is not None and re.fullmatch(r"-?\d+(\.\d+)?", based.digits) and value == Fraction(based.digits):
            # The question names the base, so a gold's subscript may be left out of an answer.
            return based is gold or _undecided("ambiguous: a base where none was given")
        decimal = _decimal_value(based)
        if value is not None and decimal is not None and value != decimal:
            return False
        raise Undecided("ambiguous: digits in a base against a value")

    # --------------------------------------------------------------------------------------- quantities

    def quantity(self, gold: Quantity, answer: Quantity) -> bool | None:
        letter = self.unit_or_variable(gold, answer)
        if letter is not None:
            return letter
        if gold.unit == answer.unit:
            return self.close(gold, answer)
        return self.other_units(gold, answer)

    def unit_or_variable(self, gold: Quantity, answer: Quantity) -> bool | None:
        """`5 m` may be five metres or a product; None where this is no question."""
        for side, other in ((gold, answer), (answer, gold)):
            found = _letter_unit(side)
            if found is None or (symbols(other.expr) and not other.unit.powers):
                continue
            number, unit = found
            if unit == other.unit:
                return self.equal(number, other.expr)
            if other.unit.powers and not other.unit.counted and side is gold:
                return self.quantity(Quantity(number, unit), other)
            if not other.unit.powers:
                if self.equal(number, other.expr) is False:
                    return False
                raise Undecided("ambiguous: a unit's letter, or a variable")
        return None

    def other_units(self, gold: Quantity, answer: Quantity) -> bool | None:
        """Two quantities with different units, one of which may have none."""
        units = {gold.unit.name, answer.unit.name}
        bare = not gold.unit.powers or not answer.unit.powers
        if bare and "percent" in units:
            return self.percent(gold, answer)
        if "degree" in units and (bare or "radian" in units):
            return self.degrees(gold, answer)
        if bare:
            verdict = self.close(gold, answer)
            if verdict and answer.unit.name == "molar" and not gold.unit.powers:
                raise Undecided("ambiguous: M for molar, or for million")
            small = units & {"cent", "pence"}
            if small and not verdict and not gold.unit.powers:  # the question's unit may be the dollar
                verdict = self.equal(gold.expr, Op("div", (answer.expr, Num(Fraction(100)))))
            if verdict and not gold.unit.powers and small:
                raise Undecided(f"ambiguous: {answer.unit} where the gold has no unit")
            return verdict
        if {"degC", "degF"} == units:
            celsius = Op(
                "div", (Op("mul", (difference(answer.expr, Num(Fraction(32))), Num(Fraction(5)))), Num(Fraction(9)))
            )
            fahrenheit = Op(
                "add", (Op("div", (Op("mul", (answer.expr, Num(Fraction(9)))), Num(Fraction(5)))), Num(Fraction(32)))
            )
            return self.equal(gold.expr, celsius if gold.unit.name == "degC" else fahrenheit)
        counted = gold.unit.counted or answer.unit.counted
        if counted or "percent" in units:
            if self.close(gold, answer) is False:
                return False
            raise Undecided(f"ambiguous: {gold.unit} against {answer.unit}")
        factor = self.leaves.factor(answer.unit, gold.unit)
        if factor is None:
            if units & MONEY and len(units & MONEY) == 1 and self.equal(gold.expr, answer.expr):
                raise Undecided(f"ambiguous: {gold.unit} against {answer.unit}")
            self.by_units = True
            return False
        verdict = self.close(gold, Quantity(Op("mul", (answer.expr, Num(factor)))))
        self.by_units = factor != 1
        return verdict

    def percent(self, gold: Quantity, answer: Quantity) -> bool | None:
        """A percentage is its value; the sign may be left out where the gold has it."""
        scaled = [
            Op("div", (side.expr, Num(Fraction(100)))) if side.unit.powers else side.expr for side in (gold, answer)
        ]
        if self.equal(scaled[0], scaled[1]):
            return True
        if self.equal(gold.expr, answer.expr) is not True:
            return self.close(Quantity(scaled[0]), Quantity(scaled[1]))
        if answer.unit.powers:
            raise Undecided("ambiguous: percent where the gold has no unit")
        return True

    def degrees(self, gold: Quantity, answer: Quantity) -> bool | None:
        """Degrees are converted to radians; their sign may be left out."""
        sides = [Op("deg", (side.expr,)) if side.unit.name == "degree" else side.expr for side in (gold, answer)]
        if self.equal(sides[0], sides[1]):
            return True
        if {gold.unit.name, answer.unit.name} == {"degree", "radian"}:
            return self.close(Quantity(sides[0]), Quantity(sides[1]))
        return self.close(gold, answer)

    def close(self, gold: Quantity, answer: Quantity) -> bool | None:
        """Equality; but a value rounded to what the other side shows is undecided, not wrong."""
        verdict = self.with_constant(gold.expr, answer.expr)
        if verdict and answer.approximate and not gold.approximate:
            shown = answer.expr
            if not (isinstance(shown, Num) and shown.decimals):
                raise Undecided("ambiguous: an approximate value")
        if verdict is False:
            if self.tolerance and within(gold.expr, answer.expr, self.tolerance):
                return True
            if rounds_to(gold.expr, answer.expr) or rounds_to(answer.expr, gold.expr):
                raise Undecided("ambiguous: equal after rounding")
        return verdict

    def with_constant(self, gold: Expr, answer: Expr) -> bool | None:
        """Equality; a constant of integration may be called differently and absorb numbers."""
        answer = _same_case(answer, gold)
        constant = _constant(gold)
        if constant is None:
            return self.equal(gold, answer)
        other = _constant(answer)
        if other is None:
            verdict = self.equal(gold, answer)
            if verdict is False and self.leaves.up_to_constant(_without(gold, constant), answer):
                raise Undecided("ambiguous: the constant of integration is missing")
            return verdict
        return self.leaves.up_to_constant(_without(gold, constant), _without(answer, other))

    # --------------------------------------------------------------------------------------- collections

    def row(self, gold: Value, answer: Value) -> bool | None:
        """A value with its condition; without it the answer is undecided where the value is right."""
        if _has_style("row", gold) and _has_style("row", answer):
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
            congruence, other = (gold, answer) if _has_style("congruence", gold) else (answer, gold)
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
            return _all(self.maybe(value, named[1][name]) for name, value in named[0].items())
        unordered = {"set", "list"}
        if gold.style in unordered and answer.style in unordered:
            return self.unordered(gold.items, answer.items)
        if gold.style == answer.style:
            return self.ordered(gold.items, answer.items)
        if {gold.style, answer.style} == {"paren", "bracket"}:  # with two items they are intervals
            return self.ordered(gold.items, answer.items) if len(gold.items) > 2 else False
        if "list" in (gold.style, answer.style) and "ratio" not in (gold.style, answer.style):
            return self.list_against_tuple(gold, answer)
        return False

    def list_against_tuple(self, gold: Sequence, answer: Sequence) -> bool | None:
        """`x = 1, y = 2` is the tuple (1, 2); a list without names leaves the order open."""
        listed, other = (gold, answer) if gold.style == "list" else (answer, gold)
        named = {_name(item): item for item in listed.items if _name(item)}
        if len(named) == len(listed.items) and len(named) > 1 and sorted(named) != [_name(i) for i in other.items]:
            values = tuple(_right_side(named[name]) for name in sorted(named))
            return True if self.ordered(values, other.items) else _undecided("ambiguous: which value is which")
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
        return _all(self.equal(Op("mul", (a[0], b[at])), Op("mul", (b[0], a[at]))) for at in range(1, len(a)))

    def ordered(self, gold: tuple[Value, ...], answer: tuple[Value, ...]) -> bool | None:
        if len(gold) != len(answer):
            return False
        return _all(self.maybe(a, b) for a, b in zip(gold, answer, strict=True))

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
        return _all(self.equal(a, b) for a, b in cells)

    # ------------------------------------------------------------------------------ relations and sets

    def relation(self, gold: Value, answer: Value) -> bool | None:
        if isinstance(gold, Relation) and isinstance(answer, Relation):
            return self.two_relations(gold, answer)
        relation, other = (gold, answer) if isinstance(gold, Relation) else (answer, gold)
        assert isinstance(relation, Relation)
        if "=" not in relation.operators:
            if isinstance(other, Quantity) or _has_style("list", other):
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
            return closed and _all([self.equal(a.low, b.low), self.equal(a.high, b.high)])
        if isinstance(a, Sequence) and isinstance(b, Sequence):
            return self.unordered(a.items, b.items)
        return False


# --------------------------------------------------------------------------------------------- on values


def _undecided(reason: str) -> bool | None:
    raise Undecided(reason)


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """Three-valued and: False if any is False, else None if any is None."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _has_style(style: str, *values: Value) -> bool:
    return any(isinstance(value, Sequence) and value.style == style for value in values)


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


def _symbols(value: Value) -> set[str]:
    """Variables of a value."""
    if isinstance(value, Quantity):
        return symbols(value.expr)
    if isinstance(value, Relation):
        return set().union(*(symbols(side) for side in value.sides[1:]))
    if isinstance(value, Sequence):
        return set().union(*(_symbols(item) for item in value.items)) if value.items else set()
    if isinstance(value, Labelled | Family):
        return _symbols(value.value)
    return set()


def _renamed(value: Value, names: dict[str, str]) -> Value:
    if isinstance(value, Quantity):
        return Quantity(rename(value.expr, names), value.unit, value.approximate)
    if isinstance(value, Relation):
        return Relation(tuple(rename(side, names) for side in value.sides), value.operators)
    if isinstance(value, Sequence):
        return Sequence(value.style, tuple(_renamed(item, names) for item in value.items))
    if isinstance(value, Labelled):
        return Labelled(value.label, _renamed(value.value, names))
    return value


def _letters(value: Value) -> str:
    """`ABD` of a product of single letters; empty for everything else."""
    if not isinstance(value, Quantity) or value.unit.powers:
        return next(iter(value.letters)) if isinstance(value, Choice) and len(value.letters) == 1 else ""
    return _product_letters(value.expr)


def _product_letters(expr: Expr) -> str:
    if isinstance(expr, Sym):
        return expr.name if len(expr.name) == 1 else ""
    if isinstance(expr, Op) and expr.name == "mul":
        parts = [_product_letters(arg) for arg in expr.args]
        return "".join(parts) if all(parts) else ""
    return ""


def _letter_unit(value: Quantity) -> tuple[Expr, Unit] | None:
    """(5, metre) of a product `5 m`."""
    expr = value.expr
    if value.unit.powers or not isinstance(expr, Op) or expr.name != "mul" or not isinstance(expr.args[1], Sym):
        return None
    letter = expr.args[1].name
    if letter not in SINGLE_LETTERS or symbols(expr.args[0]):
        return None
    unit = read_unit(letter)
    return None if unit is None else (expr.args[0], unit)


def _as_clock(value: Value) -> Clock | None:
    if isinstance(value, Clock):
        return value
    if isinstance(value, Sequence) and value.style == "ratio" and len(value.items) == 2:
        parts = [rational(item.expr) for item in value.items if isinstance(item, Quantity)]
        if all(part is not None and part.denominator == 1 for part in parts):
            hour, minute = (int(part) for part in parts if part is not None)
            return Clock(hour, minute) if 0 <= hour <= 24 and 0 <= minute < 60 else None
    return None


def _constant(expr: Expr) -> str | None:
    """The name of an additive constant of integration: `C` or `c` alone as a term, and nowhere else."""
    if not isinstance(expr, Op) or expr.name != "add":
        return None
    for term in expr.args:
        bare = term.args[0] if isinstance(term, Op) and term.name == "neg" else term
        if isinstance(bare, Sym) and bare.name in ("C", "c", "K", "C_1", "c_1", "C_0"):
            rest = [other for other in expr.args if other is not term]
            if all(bare.name not in symbols(other) for other in rest) and any(symbols(other) for other in rest):
                return bare.name
    return None


def _without(expr: Expr, name: str) -> Expr:
    """The sum without its constant of integration."""
    assert isinstance(expr, Op)
    kept = tuple(arg for arg in expr.args if name not in symbols(arg))
    return kept[0] if len(kept) == 1 else Op("add", kept)


def _same_case(answer: Expr, gold: Expr) -> Expr:
    """Constants of the answer in the gold's case: `c` for `C`."""
    mine, theirs = symbols(gold), symbols(answer)
    names = {name: name.swapcase() for name in theirs - mine if name[0] in "Cc" and name.swapcase() in mine - theirs}
    return rename(answer, names) if names else answer


def _name(item: Value) -> str:
    if isinstance(item, Relation) and item.operators == ("=",) and isinstance(item.sides[0], Sym):
        return item.sides[0].name
    return ""


def _by_name(value: Sequence) -> dict[str, Value]:
    """`x = 1, y = 2` by name; empty where an item has none or two have the same."""
    found = {_name(item): _right_side(item) for item in value.items}
    return found if value.style == "list" and "" not in found and len(found) == len(value.items) else {}


def _right_side(item: Value) -> Value:
    return Quantity(item.sides[1]) if isinstance(item, Relation) else item


def _assigned(items: tuple[Value, ...]) -> tuple[Value, ...]:
    """`x = 1, x = 2` and `x = 1, 2` are the values 1 and 2, when all name the same variable."""
    names = {_name(item) for item in items}
    if len(items) > 1 and _name(items[0]) and names <= {_name(items[0]), ""}:
        rest = items[1:]
        if all(_name(item) or isinstance(item, Quantity) for item in rest):
            return tuple(_right_side(item) for item in items)
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


def _decimal_value(based: Based) -> Fraction | None:
    try:
        return Fraction(int(based.digits, based.base)) if based.base <= 36 else None
    except ValueError:
        return None


def _rows(value: Value) -> list[list[Expr]] | None:
    """A matrix's rows; an ordered sequence is a column."""
    if isinstance(value, Matrix):
        return [list(row) for row in value.rows]
    if isinstance(value, Sequence) and value.style in ("paren", "bracket"):
        column = [[item.expr] for item in value.items if isinstance(item, Quantity)]
        return column if len(column) == len(value.items) else None
    return None


def _may_be_point(value: Value) -> bool:
    return isinstance(value, Sequence) and value.style == "paren"


__all__ = ["NONE", "Leaves", "Rules", "Undecided", "phrase_kind"]
