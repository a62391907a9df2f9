"""When two typed answers are the same. The rules here are the whole judgement; `equal` only compares leaves.

In the trainer process `equal` is `equal_exact` (rationals and identical expressions, nothing else); what
it cannot decide raises `NeedsWorker`, and the same rules run again in a child process with
`numeric.equal`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from ixt_rl.rewards.answers import (
    DOTS,
    INFINITY,
    Based,
    Choice,
    Clock,
    Interval,
    Matrix,
    Quantity,
    Relation,
    Sequence,
    Union,
    Value,
    Words,
    canonical,
    clean,
    is_grouped,
    parse_answer,
    strip_label,
    words,
)
from ixt_rl.rewards.expression import Expr, Num, Op, Sym, contains, rational, symbols
from ixt_rl.rewards.golds import Gold
from ixt_rl.rewards.outcome import Decision, TooLarge, Unreadable

Equal = Callable[[Expr, Expr], bool | None]
MAX_ITEMS = 100
"""Most items of a list, set or tuple that are compared."""

RIGHT, WRONG = True, False
_NUMBER_WORDS = {
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
    "hundred",
    "thousand",
    "million",
    "half",
    "third",
    "quarter",
    "dozen",
}
_SAME_TEXT = [
    {"no solution", "no solutions", "there is no solution", "there are no solutions", "emptyset", "varnothing"},
    {"does not exist", "dne", "limit does not exist", "the limit does not exist"},
    {"none", "none of the above", "none of these"},
    {"infinity", "infty", "inf"},
    {"true", "yes"},
    {"false", "no"},
]
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}


class NeedsWorker(Exception):
    """A leaf comparison that takes more than rational arithmetic."""


class Undecided(Exception):
    """Raised inside the rules when the texts alone leave the answer open."""


def equal_exact(a: Expr, b: Expr) -> bool | None:
    """Equality by rational arithmetic.

    Raises:
        NeedsWorker: the expressions are no rationals and not identical.
    """
    if a == b:
        return True
    values = rational(a), rational(b)
    if values[0] is None or values[1] is None:
        raise NeedsWorker
    return values[0] == values[1]


def equation_exact(a: Expr, b: Expr) -> bool | None:
    """Equations need more than rational arithmetic.

    Raises:
        NeedsWorker: always, unless the two are identical.
    """
    if a == b:
        return True
    raise NeedsWorker


def compare(gold: Gold, answer: str, equal: Equal = equal_exact, proportional: Equal = equation_exact) -> Decision:
    """Judge an answer text against a gold answer.

    Args:
        gold: the typed gold answer.
        answer: the answer alone.
        equal: equality of two expressions; None is undecided.
        proportional: whether two left-hand sides of `... = 0` describe the same equation.

    Raises:
        NeedsWorker: from `equal` or `proportional`.
    """
    try:
        if canonical(gold.text) == canonical(answer):
            return Decision(True, "same text")
        return _Rules(gold, equal, proportional).judge(answer)
    except TooLarge as error:
        return Decision(None, f"too large: {error}")
    except Undecided as open_question:
        return Decision(None, str(open_question))


class _Rules:
    def __init__(self, gold: Gold, equal: Equal, proportional: Equal):
        self.gold, self._equal, self.proportional = gold, equal, proportional

    def judge(self, answer: str) -> Decision:
        by_text = self.by_text(answer)
        if by_text is not None:
            return by_text
        label, rest = strip_label(answer)
        if label and isinstance(self.gold.value, Choice):
            return Decision(self.gold.value.letters == {label}, "choice")
        readings = [self.read(rest)]
        if isinstance(readings[0], Unreadable):
            return Decision(None, f"unreadable: {readings[0]}", settled=False)
        if is_grouped(rest) and isinstance(self.gold.value, Sequence):
            readings.append(parse_answer(rest, grouping=False))
        rule, verdicts = "", []
        for reading in readings:
            if isinstance(reading, Unreadable):
                continue
            rule = f"{self.gold.kind} against {type(reading).__name__.lower()}"
            verdicts.append(self.same(self.gold.value, reading, rest))
        verdict = True if True in verdicts else verdicts[0]
        if verdict is None:
            return Decision(None, f"cannot compute: {rule}", settled=False)
        return Decision(verdict, rule)

    def read(self, text: str) -> Value | Unreadable:
        try:
            return parse_answer(text)
        except Unreadable as error:
            return error

    def by_text(self, answer: str) -> Decision | None:
        """Golds that are text, and the fixed phrases."""
        gold_words, answer_words = words(self.gold.text), words(answer)
        same_phrase = any(gold_words in phrases and answer_words in phrases for phrases in _SAME_TEXT)
        if same_phrase:
            return Decision(True, "same phrase")
        value = self.gold.value
        if not isinstance(value, Words):
            return None
        if gold_words == answer_words and answer_words:
            return Decision(True, "same words")
        both = f" {gold_words} ", f" {answer_words} "
        if answer_words and (both[0] in both[1] or both[1] in both[0]):
            return Decision(None, "ambiguous: one text contains the other")
        if not answer_words:
            return Decision(None, "unreadable: no words", settled=False)
        if any(sign in clean(self.gold.text) for sign in "\\^_"):
            return Decision(None, "unreadable: text with formulas", settled=False)
        return Decision(False, "different words")

    def equal(self, a: Expr, b: Expr) -> bool | None:
        if a == b:
            return True
        unlike = {DOTS, INFINITY, Op("neg", (INFINITY,))}
        if a in unlike or b in unlike:
            return False
        return self._equal(a, b)

    def same(self, gold: Value, answer: Value, text: str = "") -> bool | None:
        """Whether two values are the same; the type of the gold says which comparison."""
        if isinstance(answer, Words):
            return self.prose(gold, text)
        if isinstance(gold, Choice) or isinstance(answer, Choice):
            return self.choice(gold, answer)
        if isinstance(gold, Clock) or isinstance(answer, Clock):
            return self.clock(gold, answer)
        if isinstance(gold, Based) or isinstance(answer, Based):
            return self.based(gold, answer)
        if isinstance(gold, Relation) or isinstance(answer, Relation):
            return self.relation(gold, answer)
        if isinstance(gold, Interval | Union) or isinstance(answer, Interval | Union):
            return self.intervals(gold, answer)
        if isinstance(gold, Matrix) or isinstance(answer, Matrix):
            return self.matrix(gold, answer)
        if isinstance(gold, Sequence) or isinstance(answer, Sequence):
            return self.sequence(gold, answer)
        return self.quantity(gold, answer)  # type: ignore[arg-type]

    def prose(self, gold: Value, text: str) -> bool | None:
        """Words where a value was asked for: wrong, unless the gold's value may be among them."""
        found = words(text).split()
        if isinstance(gold, Quantity) and not symbols(gold.expr):
            value = rational(gold.expr)
            numbers = [Fraction(token.replace(",", "")) for token in re.findall(r"\d[\d,]*(?:\.\d+)?", clean(text))]
            if value is not None and abs(value) not in numbers and not _NUMBER_WORDS.intersection(found):
                return False
        elif isinstance(gold, Choice) and not any(word.upper() in gold.letters for word in found):
            return False
        raise Undecided("ambiguous: the answer is prose")

    def choice(self, gold: Value, answer: Value) -> bool | None:
        if isinstance(gold, Choice) and isinstance(answer, Choice):
            return gold.letters == answer.letters
        choice, other = (gold, answer) if isinstance(gold, Choice) else (answer, gold)
        assert isinstance(choice, Choice)
        if isinstance(other, Quantity) and isinstance(other.expr, Sym) and len(choice.letters) == 1:
            name = other.expr.name
            if name.upper() in choice.letters:
                return gold is choice or _undecided("ambiguous: a letter in the other case")
            if len(name) == 1:
                return False
        if gold is choice:
            raise Undecided("ambiguous: a value where a choice letter was asked for")
        return False if not symbols_of(other) else None

    def clock(self, gold: Value, answer: Value) -> bool | None:
        if isinstance(gold, Clock) and isinstance(answer, Clock):
            if (gold.hour, gold.minute) != (answer.hour, answer.minute):
                if not gold.half == answer.half == "":
                    raise_if = abs(gold.hour - answer.hour) == 12 and gold.minute == answer.minute
                    return _undecided("ambiguous: 12 or 24 hours") if raise_if else False
                return False
            if gold.half != answer.half and gold.half and answer.half:
                return False
            return True if gold.half == answer.half else _undecided("ambiguous: am or pm is missing")
        raise Undecided("ambiguous: a time against something else")

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

    def quantity(self, gold: Quantity, answer: Quantity) -> bool | None:
        if gold.unit == answer.unit:
            return self.close(gold.expr, answer.expr)
        verdict = self.other_units(gold, answer)
        return self.close(gold.expr, answer.expr) if verdict is None else verdict

    def other_units(self, gold: Quantity, answer: Quantity) -> bool | None:
        """Two quantities with different units; None if the bare values decide."""
        hundredth = {"percent": Num(Fraction(1, 100))}
        for unit in ("percent", "degree"):
            sides = [quantity.unit == unit for quantity in (gold, answer)]
            if not any(sides) or any(quantity.unit not in ("", unit) for quantity in (gold, answer)):
                continue
            converted = [
                quantity.expr
                if quantity.unit == ""
                else Op("deg", (quantity.expr,))
                if unit == "degree"
                else Op("mul", (quantity.expr, hundredth["percent"]))
                for quantity in (gold, answer)
            ]
            if self.equal(converted[0], converted[1]):
                return True
            if not self.equal(gold.expr, answer.expr):
                return False
            if unit == "percent" and answer.unit == "percent":
                raise Undecided(f"ambiguous: {answer.unit} where the gold has no unit")
            return True  # the unit that the question asks for may be left out
        if gold.unit and answer.unit:
            raise Undecided(f"ambiguous: {gold.unit} against {answer.unit}")
        return None

    def close(self, gold: Expr, answer: Expr) -> bool | None:
        """Equality, except that a value rounded to what the other side shows is undecided, not wrong."""
        verdict = self.equal(gold, answer)
        if verdict is False and (_rounds_to(gold, answer) or _rounds_to(answer, gold)):
            raise Undecided("ambiguous: equal after rounding")
        return verdict

    def sequence(self, gold: Value, answer: Value) -> bool | None:
        if not isinstance(gold, Sequence) or not isinstance(answer, Sequence):
            return self.one_against_many(gold, answer)
        if any(_has_dots(value) for value in (gold, answer)):
            same = gold.style == answer.style and len(gold.items) == len(answer.items)
            if same and self.ordered(gold.items, answer.items):
                return True
            raise Undecided("ambiguous: items left out by dots")
        if gold.style == answer.style == "ratio":
            return self.ratio(gold, answer)
        unordered = {"set", "list"}
        if gold.style in unordered and answer.style in unordered:
            return self.unordered(gold.items, answer.items)
        if gold.style == answer.style:
            return self.ordered(gold.items, answer.items)
        if {gold.style, answer.style} == {"paren", "bracket"}:  # with two items they are intervals
            return self.ordered(gold.items, answer.items) if len(gold.items) > 2 else False
        if "list" in (gold.style, answer.style) and "ratio" not in (gold.style, answer.style):
            if self.unordered(gold.items, answer.items) is False:
                return False
            raise Undecided("ambiguous: a bare list against an ordered one")
        return False

    def one_against_many(self, gold: Value, answer: Value) -> bool | None:
        many, one = (gold, answer) if isinstance(gold, Sequence) else (answer, gold)
        assert isinstance(many, Sequence)
        if many.style == "set" and len(many.items) == 1:
            return self.same(gold.items[0], answer) if many is gold else self.same(gold, answer.items[0])  # type: ignore[union-attr]
        if many.style == "ratio" and len(many.items) == 2 and isinstance(one, Quantity):
            top, bottom = (item.expr for item in many.items if isinstance(item, Quantity))
            return self.equal(Op("div", (top, bottom)), one.expr)
        return False

    def ratio(self, gold: Sequence, answer: Sequence) -> bool | None:
        if len(gold.items) != len(answer.items):
            return False
        a, b = ([item.expr for item in side.items if isinstance(item, Quantity)] for side in (gold, answer))
        return _all(self.equal(Op("mul", (a[0], b[at])), Op("mul", (b[0], a[at]))) for at in range(1, len(a)))

    def ordered(self, gold: tuple[Value, ...], answer: tuple[Value, ...]) -> bool | None:
        if len(gold) != len(answer):
            return False
        return _all(self.same(a, b) for a, b in zip(gold, answer, strict=True))

    def unordered(self, gold: tuple[Value, ...], answer: tuple[Value, ...]) -> bool | None:
        """The same items in any order. Equality is transitive, so matching greedily finds every match."""
        if len(gold) > MAX_ITEMS or len(answer) > MAX_ITEMS:
            raise TooLarge(f"more than {MAX_ITEMS} items")
        gold, answer = _assigned(gold), _assigned(answer)
        if len(gold) != len(answer):
            return False
        left, unknown = list(answer), False
        for item in gold:
            verdicts = [self.same(item, other) for other in left]
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
            if isinstance(answer, Sequence) and [len(row) for row in transposed] == [len(row) for row in rows[0]]:
                rows[1] = transposed  # (1, 2, 3) for a row vector
            else:
                return False
        pairs = [pair for a, b in zip(*rows, strict=True) for pair in zip(a, b, strict=True)]
        return _all(self.equal(a, b) for a, b in pairs)

    def relation(self, gold: Value, answer: Value) -> bool | None:
        gold_is, answer_is = (isinstance(value, Relation) for value in (gold, answer))
        if gold_is and answer_is:
            return self.two_relations(gold, answer)  # type: ignore[arg-type]
        relation, other = (gold, answer) if gold_is else (answer, gold)
        assert isinstance(relation, Relation)
        if "=" not in relation.operators:
            return self.intervals(gold, answer)
        value = self.assigned_value(relation)
        if value is None:
            return False if isinstance(other, Quantity) and not symbols(other.expr) else None
        return self.same(Quantity(value), other) if gold_is else self.same(other, Quantity(value))

    def assigned_value(self, relation: Relation) -> Expr | None:
        """What `x = 5`, `x = 3 + 2 = 5` or `3 + 2 = 5` states; None for a real equation."""
        if set(relation.operators) != {"="}:
            return None
        sides = list(relation.sides)
        if isinstance(name := sides[0], Sym) and name.name not in ("e", "i", "pi", "inf"):
            del sides[0]
            if any(name.name in symbols(side) for side in sides):
                return None
        elif isinstance(sides[-1], Sym) and len(sides) == 2 and not symbols(sides[0]):
            sides.pop()
        elif any(symbols(side) for side in sides):
            return None
        if not all(self.equal(side, sides[-1]) for side in sides[:-1]):
            raise Undecided("ambiguous: a chain of equals signs that does not hold")
        return sides[-1]

    def two_relations(self, gold: Relation, answer: Relation) -> bool | None:
        if "=" not in gold.operators and "=" not in answer.operators:
            return self.inequalities(gold, answer)
        if len(gold.sides) != 2 or len(answer.sides) != 2 or gold.operators != answer.operators:
            values = [self.assigned_value(relation) for relation in (gold, answer)]
            return self.equal(values[0], values[1]) if values[0] and values[1] else None
        named = [relation.sides[0] for relation in (gold, answer)]
        if all(isinstance(name, Sym) for name in named):
            verdict = self.equal(gold.sides[1], answer.sides[1])
            if verdict and named[0] != named[1]:
                raise Undecided("ambiguous: another name on the left")
            if verdict is not False or named[0] == named[1]:
                return verdict
        zeros = [Op("add", (r.sides[0], Op("neg", (r.sides[1],)))) for r in (gold, answer)]
        verdict = self.proportional(zeros[0], zeros[1])
        if verdict is False and not all(_is_polynomial(side) for side in zeros):
            raise Undecided("ambiguous: equations in different forms")
        if verdict is False and _degree(zeros[0]) != _degree(zeros[1]):
            raise Undecided("ambiguous: equations of different degree")
        return verdict

    def inequalities(self, gold: Relation, answer: Relation) -> bool | None:
        as_sets = [_as_interval(relation) for relation in (gold, answer)]
        if as_sets[0] is not None and as_sets[1] is not None:
            return self.intervals(gold, answer)
        if gold.operators == answer.operators and self.ordered(_sides(gold), _sides(answer)):
            return True
        flipped = tuple(_FLIPPED[operator] for operator in reversed(answer.operators))
        if gold.operators == flipped and self.ordered(_sides(gold), tuple(reversed(_sides(answer)))):
            return True
        raise Undecided("ambiguous: inequalities in different forms")

    def intervals(self, gold: Value, answer: Value) -> bool | None:
        """Unions part by part; `1 < x < 2` is (1, 2), and a pair in parentheses may be an interval."""
        parts = [_parts(gold), _parts(answer)]
        if parts[0] is None or parts[1] is None:
            return False
        if len(parts[0]) != len(parts[1]):
            raise Undecided("ambiguous: unions of different length")
        left = list(parts[1])
        for part in parts[0]:
            verdicts = [self.interval(part, other) for other in left]
            if True not in verdicts:
                return None if None in verdicts else False
            left.pop(verdicts.index(True))
        return True

    def interval(self, a: Interval | Sequence, b: Interval | Sequence) -> bool | None:
        if isinstance(a, Sequence) or isinstance(b, Sequence):
            return self.unordered(a.items, b.items) if isinstance(a, Sequence) and isinstance(b, Sequence) else False
        closed = (a.low_closed, a.high_closed) == (b.low_closed, b.high_closed)
        return closed and _all([self.equal(a.low, b.low), self.equal(a.high, b.high)])


def _undecided(reason: str) -> bool | None:
    raise Undecided(reason)


def _all(verdicts) -> bool | None:
    """Three-valued and: False if any is False, else None if any is None."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


def symbols_of(value: Value) -> set[str]:
    """Variables of a quantity; empty for everything else."""
    return symbols(value.expr) if isinstance(value, Quantity) else set()


def _sides(relation: Relation) -> tuple[Value, ...]:
    return tuple(Quantity(side) for side in relation.sides)


def _assigned(items: tuple[Value, ...]) -> tuple[Value, ...]:
    """`x = 1, x = 2` are the values 1 and 2, when all name the same variable."""
    names = {item.sides[0] if isinstance(item, Relation) and item.operators == ("=",) else None for item in items}
    if len(names) == 1 and isinstance(next(iter(names)), Sym):
        return tuple(Quantity(item.sides[1]) for item in items if isinstance(item, Relation))
    return items


def _has_dots(value: Value) -> bool:
    return isinstance(value, Sequence) and any(item == Quantity(DOTS) for item in value.items)


def _decimal_value(based: Based) -> Fraction | None:
    try:
        return Fraction(int(based.digits, based.base)) if based.base <= 36 else None
    except ValueError:
        return None


def _rounds_to(exact: Expr, shown: Expr) -> bool:
    """Whether `shown` is a decimal of 3 or more significant digits that `exact` rounds to."""
    sign, shown = (-1, shown.args[0]) if isinstance(shown, Op) and shown.name == "neg" else (1, shown)
    if not isinstance(shown, Num) or shown.decimals < 2 or abs(shown.value) * 10**shown.decimals < 100:
        return False
    value = _approximate(exact)
    if value is None:
        return False
    half = Fraction(1, 2 * 10**shown.decimals)
    return abs(value - sign * shown.value) <= half


def _approximate(expr: Expr) -> Fraction | None:
    value = rational(expr)
    if value is not None or symbols(expr) or contains(expr, "apply:"):
        return value
    from mpmath import mp  # only a constant that took the worker to compare comes here

    from ixt_rl.rewards.numeric import Absorbed, NoValue, evaluate

    try:
        number = evaluate(expr, {})
    except (NoValue, Absorbed):
        return None
    return Fraction(str(mp.nstr(number, 15))) if mp.im(number) == 0 and abs(number) < 10**9 else None


def _rows(value: Value) -> list[list[Expr]] | None:
    """A matrix's rows; an ordered sequence is a column."""
    if isinstance(value, Matrix):
        return [list(row) for row in value.rows]
    if isinstance(value, Sequence) and value.style in ("paren", "bracket"):
        column = [[item.expr] for item in value.items if isinstance(item, Quantity)]
        return column if len(column) == len(value.items) else None
    return None


def _parts(value: Value) -> list[Interval | Sequence] | None:
    """The intervals and finite sets that a value is the union of; None if it is no set of numbers."""
    if isinstance(value, Union):
        found = [_parts(part) for part in value.parts]
        if any(part is None for part in found):
            return None
        return [part for parts in found if parts for part in parts]
    if isinstance(value, Interval):
        return [value]
    if isinstance(value, Relation):
        return _as_interval(value)  # type: ignore[return-value]
    if isinstance(value, Sequence) and value.style in ("paren", "bracket") and len(value.items) == 2:
        low, high = value.items
        if isinstance(low, Quantity) and isinstance(high, Quantity):
            closed = value.style == "bracket"
            return [Interval(low.expr, high.expr, closed, closed)]
    return [value] if isinstance(value, Sequence) and value.style == "set" else None


def _as_interval(relation: Relation) -> list[Interval] | None:
    """`1 < x <= 2`, `x > 3`, `3 > x` and `x != 3` as intervals; None for anything else."""
    minus_infinity = Op("neg", (INFINITY,))
    sides, operators = relation.sides, relation.operators
    if len(sides) == 3 and all(operator in (">", ">=") for operator in operators):
        sides, operators = sides[::-1], tuple(_FLIPPED[operator] for operator in reversed(operators))
    if len(sides) == 3:
        increasing = all(operator in ("<", "<=") for operator in operators)
        between = isinstance(sides[1], Sym) and not symbols(sides[0]) and not symbols(sides[2])
        found = [Interval(sides[0], sides[2], operators[0] == "<=", operators[1] == "<=")]
        return found if increasing and between else None
    if len(sides) != 2:
        return None
    if not isinstance(sides[0], Sym) or not symbols(sides[0]):
        sides, operators = sides[::-1], (_FLIPPED[operators[0]],)
    if not isinstance(sides[0], Sym) or not symbols(sides[0]) or symbols(sides[1]):
        return None
    bound, operator = sides[1], operators[0]
    if operator == "!=":
        return [Interval(minus_infinity, bound, False, False), Interval(bound, INFINITY, False, False)]
    if operator in ("<", "<="):
        return [Interval(minus_infinity, bound, False, operator == "<=")]
    return [Interval(bound, INFINITY, operator == ">=", False)] if operator in (">", ">=") else None


def _is_polynomial(expr: Expr) -> bool:
    return _degree(expr) is not None


def _degree(expr: Expr) -> int | None:
    """Total degree as written (an upper bound); None if it is no polynomial."""
    if not symbols(expr):
        return 0
    if isinstance(expr, Sym):
        return 1
    assert isinstance(expr, Op)
    degrees = [_degree(arg) for arg in expr.args]
    if expr.name in ("add", "neg"):
        return None if None in degrees else max(degree for degree in degrees if degree is not None)
    if expr.name == "mul":
        return None if None in degrees else sum(degree for degree in degrees if degree is not None)
    if expr.name == "div":
        return degrees[0] if not symbols(expr.args[1]) else None
    if expr.name == "pow" and degrees[0] is not None:
        exponent = rational(expr.args[1])
        whole = exponent is not None and exponent.denominator == 1 and 0 <= exponent <= 1000
        return degrees[0] * int(exponent) if whole and exponent is not None else None
    return None
