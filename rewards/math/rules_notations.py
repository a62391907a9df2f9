"""When choices, times, digits in a base, words, and values with a name or a parameter are the same."""

from __future__ import annotations

import re
from fractions import Fraction

from ixt_rl.rewards.math.expr import Expr, Op, Sym, rational, rename, symbols
from ixt_rl.rewards.math.polynomials import is_name
from ixt_rl.rewards.math.rules_base import Comparison, Undecided, all_of, name_of, right_side, undecided
from ixt_rl.rewards.math.spelling import clean
from ixt_rl.rewards.math.values import (
    Based,
    Choice,
    Clock,
    Either,
    Family,
    Labelled,
    Mixed,
    Quantity,
    Relation,
    Sequence,
    Value,
    Words,
)
from ixt_rl.rewards.math.vocabulary import CHANGES_NUMBER, NUMBER_WORDS, PHRASES, plain_words


class NotationRules(Comparison):
    """Comparisons of what is written in a notation of its own."""

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
            if name_of(side):
                names[at], bare[at] = name_of(side), right_side(side)
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
                verdict = all_of(
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
                return gold is choice or undecided("ambiguous: a letter in the other case")
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
            return undecided("ambiguous: 12 or 24 hours")
        if a.half and b.half:
            return a.half == b.half
        return True if a.half == b.half else undecided("ambiguous: am or pm is missing")

    def based(self, gold: Value, answer: Value) -> bool | None:
        if isinstance(gold, Based) and isinstance(answer, Based):
            if gold.base == answer.base:
                return gold.digits.lstrip("0") == answer.digits.lstrip("0")
            values = _decimal_value(gold), _decimal_value(answer)
            return undecided("ambiguous: bases") if None in values or values[0] == values[1] else False
        based, other = (gold, answer) if isinstance(gold, Based) else (answer, gold)
        assert isinstance(based, Based)
        value = rational(other.expr) if isinstance(other, Quantity) else None
        if value is not None and re.fullmatch(r"-?\d+(\.\d+)?", based.digits) and value == Fraction(based.digits):
            # The question names the base, so a gold's subscript may be left out of an answer.
            return based is gold or undecided("ambiguous: a base where none was given")
        decimal = _decimal_value(based)
        if value is not None and decimal is not None and value != decimal:
            return False
        raise Undecided("ambiguous: digits in a base against a value")


def phrase_kind(text: str) -> int | None:
    """Which fixed phrase a text is, if it is one."""
    return PHRASES.get(text)


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


def _as_clock(value: Value) -> Clock | None:
    if isinstance(value, Clock):
        return value
    if isinstance(value, Sequence) and value.style == "ratio" and len(value.items) == 2:
        parts = [rational(item.expr) for item in value.items if isinstance(item, Quantity)]
        if all(part is not None and part.denominator == 1 for part in parts):
            hour, minute = (int(part) for part in parts if part is not None)
            return Clock(hour, minute) if 0 <= hour <= 24 and 0 <= minute < 60 else None
    return None


def _decimal_value(based: Based) -> Fraction | None:
    try:
        return Fraction(int(based.digits, based.base)) if based.base <= 36 else None
    except ValueError:
        return None
