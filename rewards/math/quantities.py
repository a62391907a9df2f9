"""Reads an expression with its unit: `\\$5`, `50\\%`, `30^\\circ`, `5 cm`, `5 \\mathrm{~m}/\\mathrm{s}^2`."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from ixt_rl.rewards.math.expr import TWO, Expr, Num, Op, negated
from ixt_rl.rewards.math.outcome import Unreadable
from ixt_rl.rewards.math.tokens import Token, Tokens, spell
from ixt_rl.rewards.math.units import (
    CURRENCIES,
    DEGREE,
    NONE,
    SINGLE_LETTERS,
    Unit,
    open_nouns,
    read_unit,
)
from ixt_rl.rewards.math.values import Quantity, Sequence, Value
from ixt_rl.rewards.math.vocabulary import CHANGES_NUMBER, SCALES, singular

ReadExpr = Callable[[Tokens], Expr]

_TEMPERATURE = re.compile(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?\s*\{?\s*⟦?\s*(C|F|Celsius|Fahrenheit)\s*⟧?\s*\}?")
_OPERATIONS: dict[str, Callable[[Expr], Expr]] = {
    "squared": lambda expr: Op("pow", (expr, TWO)),
    "cubed": lambda expr: Op("pow", (expr, Num(Fraction(3)))),
    "factorial": lambda expr: Op("factorial", (expr,)),
    "below zero": negated,
    "degrees below zero": negated,
}


def read_quantity(tokens: Tokens, read: ReadExpr, nouns: frozenset[str], gold: bool) -> Value:
    """An expression with its unit.

    Raises:
        Unreadable: the expression, or words after it that are on no list.
    """
    tokens, currency = _currency(tokens)
    at = _unit_start(tokens)
    if at is None:
        return Quantity(*_with_degrees(read(tokens), currency))
    head, tail = tokens[:at], tokens[at:]
    if not head:
        raise Unreadable("a unit without a value")
    parts = _parts(tail)
    if parts is not None:
        first = read_quantity([*head, *parts[0]], read, nouns, gold)
        second = read_quantity(parts[1], read, nouns, gold)
        items = [*_items(first), *_items(second)]
        if any(item.unit.counted for item in items):
            raise Unreadable("two quantities side by side")
        return Sequence("compound", tuple(items))
    text = spell(tail)
    temperature = _TEMPERATURE.fullmatch(text)
    if temperature:
        return Quantity(read(head), Unit(((f"deg{temperature[1][0].upper()}", 1),)))
    plain = re.sub(r"\s+", " ", text.replace("⟦", " ").replace("⟧", " ")).strip(" .")
    if plain in _OPERATIONS:
        return Quantity(*_with_degrees(_OPERATIONS[plain](read(head)), currency))
    fraction = re.fullmatch(r"(?:out of|in|in every|of every)\s+([1-9]\d*)", plain)
    if fraction:
        return Quantity(Op("div", (read(head), Num(Fraction(fraction[1])))))
    scale, rest = _scaled(plain)
    unit = _unit(rest, currency, nouns, gold) if rest else currency
    if unit is None:
        raise Unreadable(f"words after the number: {plain[:40]!r}")
    expr, unit = _with_degrees(read(head), unit)
    if unit == DEGREE and _in_degrees(expr) != expr:
        expr, unit = _in_degrees(expr), NONE
    if scale != 1:
        expr = Op("mul", (expr, Num(Fraction(scale))))
    return Quantity(expr, unit)


def _items(value: Value) -> list[Quantity]:
    if isinstance(value, Sequence):
        return [item for item in value.items if isinstance(item, Quantity)]
    assert isinstance(value, Quantity)
    return [value]


def _currency(tokens: Tokens) -> tuple[Tokens, Unit]:
    """Without a currency's sign before the number (and after a minus)."""
    signs = 1 if tokens and tokens[0].text in ("-", "+") else 0
    at = signs
    name = ""
    while at < len(tokens) and tokens[at].text.strip() in (*CURRENCIES, "US", "A", "C") and at - signs < 2:
        name = CURRENCIES.get(tokens[at].text.strip(), name)
        at += 1
    if not name or at >= len(tokens):
        return tokens, NONE
    if tokens[at].kind != "num" and tokens[at].text not in ("-", "\\frac", "(", "{", "\\sqrt"):
        return tokens, NONE
    return [*tokens[:signs], *tokens[at:]], Unit(((name, 1),))


def _unit_start(tokens: Tokens) -> int | None:
    """Where the unit begins: the first word, text, percent or spaced unit letter after a value, outside of brackets."""
    depth = 0
    for at, token in enumerate(tokens):
        if token.kind in ("op", "cmd"):
            if depth == 0 and at and (token.text in ("%", "\\%") or token.text in CURRENCIES):
                return at
            if depth == 0 and at and token.text == "\\Omega" and tokens[at - 1].kind == "num":
                return at
            if depth == 0 and at and token.text == "^" and _TEMPERATURE.fullmatch(spell(tokens[at:])):
                return at
            if depth == 0 and at and token.text == "(" and _only_words(tokens[at:]):
                return at
            depth += (token.text in ("(", "[", "{", "\\{")) - (token.text in (")", "]", "}", "\\}"))
        elif depth == 0 and at and _ends_value(tokens[at - 1]):
            if token.kind == "text" and token.text.strip():
                return at
            said = token.text.lower()
            if token.kind == "word" and (len(said) > 3 or said in CHANGES_NUMBER or _is_unit_tail(tokens[at:])):
                return at
            if token.text in ("min", "sec") and tokens[at - 1].kind == "num" and _is_unit_tail(tokens[at:]):
                return at
            letter = token.kind == "id" and token.text in SINGLE_LETTERS and token.spaced
            if letter and tokens[at - 1].kind == "num" and _is_unit_tail(tokens[at:]):
                return at
    return None


def _ends_value(token: Token) -> bool:
    return token.kind in ("num", "id", "text") or token.text in (")", "]", "}", "|", "\\pi", "!", "\\circ", "\\}")


def _is_unit_tail(tokens: Tokens) -> bool:
    if any(token.text in ("(", "{") for token in tokens[1:2]):
        return False
    plain = spell(tokens).replace("⟦", " ").replace("⟧", " ")
    numbers = re.split(r"(?<![\^{\d-])\s*\d+(?:\.\d+)?\s*", plain)
    _, rest = _scaled(numbers[0].strip(" ."))
    return not rest or read_unit(rest) is not None or rest in _OPERATIONS


def _only_words(tokens: Tokens) -> bool:
    """Whether these are words in parentheses, such as `(erasers)`."""
    inner = tokens[1:-1]
    return (
        len(tokens) > 2
        and tokens[-1].text == ")"
        and all(token.kind in ("word", "text", "id") for token in inner)
        and any(token.kind in ("word", "text") for token in inner)
    )


def _parts(tail: Tokens) -> tuple[Tokens, Tokens] | None:
    """`ft 3 in` as a unit and a further quantity; None when no number follows the unit."""
    for at, token in enumerate(tail):
        if token.kind == "num" and at and tail[at - 1].text not in ("^", "{", "-", "_", "/"):
            said = tail[at - 1].text.strip()
            if said in ("of", "in", "every", "in every", "out of"):
                return None
            return tail[:at], tail[at:]
    return None


def _scaled(text: str) -> tuple[int, str]:
    """`million dollars` as (10^6, `dollars`)."""
    scale, words = 1, text.split()
    while words and (words[0].lower() in SCALES or singular(words[0].lower()) in ("hundred", "thousand", "dozen")):
        scale *= SCALES.get(words[0].lower(), SCALES.get(singular(words[0].lower()), 1))
        words.pop(0)
    if scale > 1 and words[:1] == ["of"]:
        words.pop(0)
    return scale, " ".join(words)


def _unit(text: str, currency: Unit, nouns: frozenset[str], gold: bool) -> Unit | None:
    inside = re.fullmatch(r"\(\s*(.*?)\s*\)", text)
    text = inside[1] if inside else text
    if text in CURRENCIES:
        return Unit(((CURRENCIES[text], 1),))
    unit = read_unit(text, nouns)
    if unit is None and gold:
        unit = Unit(tuple((f"#{noun}", 1) for noun in sorted(open_nouns(text)))) if open_nouns(text) else None
    if unit is None:
        return None
    names = dict(unit.powers)
    if "degree" in names and ("degC" in names or "degF" in names):
        names.pop("degree")
        unit = Unit(tuple(names.items()))
    return currency if currency.powers and (unit.counted or unit == currency) else unit


def _in_degrees(expr: Expr) -> Expr:
    """`\\cos 58 degrees` is the cosine of an angle, no angle."""
    if (
        isinstance(expr, Op)
        and expr.name in ("sin", "cos", "tan", "cot", "sec", "csc")
        and isinstance(expr.args[0], Num)
    ):
        return Op(expr.name, (Op("deg", expr.args),))
    return Op("mul", (expr.args[0], _in_degrees(expr.args[1]))) if isinstance(expr, Op) and expr.name == "mul" else expr


def _with_degrees(expr: Expr, unit: Unit) -> tuple[Expr, Unit]:
    """`30^\\circ` is 30 with the unit degree."""
    if isinstance(expr, Op) and expr.name == "deg":
        return expr.args[0], DEGREE
    if isinstance(expr, Op) and expr.name == "neg" and isinstance(expr.args[0], Op) and expr.args[0].name == "deg":
        return negated(expr.args[0].args[0]), DEGREE
    return expr, unit
