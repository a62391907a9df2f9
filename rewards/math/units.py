"""Units from a closed list: read from an answer's end, compared by name, converted by pint.

"m/s^2", "square feet", "miles per hour", "apples" --read_unit--> Unit --factor--> exact ratio of two units
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from ixt_rl.rewards.math.vocabulary import CHANGES_NUMBER, COUNTABLE, UNIT_NAMES, singular


@dataclass(frozen=True)
class Unit:
    """A product of powers of named units, by name; things that are counted start with `#`."""

    powers: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return " ".join(name.lstrip("#") + (f"^{power}" if power != 1 else "") for name, power in self.powers)

    @property
    def counted(self) -> bool:
        """Whether it names things that are counted, or nothing."""
        return all(name.startswith("#") for name, _ in self.powers)

    @property
    def name(self) -> str:
        """The single unit of power 1; empty for every other one."""
        return self.powers[0][0] if len(self.powers) == 1 and self.powers[0][1] == 1 else ""


NONE = Unit()
PERCENT, DEGREE, RADIAN = (Unit(((name, 1),)) for name in ("percent", "degree", "radian"))
CURRENCIES = {"\\$": "dollar", "$": "dollar", "€": "euro", "£": "pound_sterling", "¥": "yen", "₹": "rupee",
              "₽": "ruble", "\\textdollar": "dollar", "\\euro": "euro", "\\pounds": "pound_sterling", "Rs": "rupee",
              "US\\$": "dollar", "USD": "dollar", "EUR": "euro", "GBP": "pound_sterling",
              "RM": "ringgit"}  # fmt: skip
MONEY = set(CURRENCIES.values()) | {"cent", "pence", "yuan", "peso", "rupee", "ruble"}

_PREFIXES = {"k": "kilo", "M": "mega", "G": "giga", "T": "tera", "m": "milli", "μ": "micro", "u": "micro", "n": "nano",
             "p": "pico", "c": "centi", "d": "deci", "h": "hecto"}  # fmt: skip
_SYMBOLS = {"m": "meter", "g": "gram", "s": "second", "L": "liter", "l": "liter", "N": "newton", "J": "joule",
            "W": "watt", "V": "volt", "A": "ampere", "Hz": "hertz", "Pa": "pascal", "mol": "mole",
            "eV": "electron_volt", "cal": "calorie", "F": "farad", "T": "tesla", "C": "coulomb", "H": "henry",
            "Wb": "weber", "Ω": "ohm", "bar": "bar", "M": "molar", "K": "kelvin", "pc": "parsec"}  # fmt: skip
_ALONE = {"h": "hour", "Omega": "ohm", "Å": "angstrom", "ly": "light_year", "rad": "radian", "°": "degree"}
_PREFIXED = {"meter", "gram", "second", "liter", "newton", "joule", "watt", "volt", "ampere", "hertz", "pascal", "mole",
             "calorie", "electron_volt", "farad", "tesla", "coulomb", "ohm", "molar", "henry",
             "parsec"}  # fmt: skip
SINGLE_LETTERS = frozenset("msghNJWVLlKACFTHM")
"""Unit symbols of one letter, which may be variables too."""


@cache
def _names() -> tuple[dict[str, str], dict[str, str]]:
    """(long names in lower case, symbols as they are) -> pint's name."""
    long: dict[str, str] = {}
    short = {**_ALONE, **_SYMBOLS}
    for name, spellings in UNIT_NAMES.items():
        long |= dict.fromkeys(spellings, name)
    for symbol, name in _SYMBOLS.items():
        for prefix, long_prefix in _PREFIXES.items():
            if name in _PREFIXED:
                short.setdefault(prefix + symbol, long_prefix + name)
                long.setdefault(long_prefix + name, long_prefix + name)
                long.setdefault(long_prefix + name.replace("meter", "metre").replace("liter", "litre"),
                                long_prefix + name)  # fmt: skip
    short |= {"min": "minute", "cd": "candela"}
    return long, short


_WORD = re.compile(r"\s*(?:(?P<word>[^\W\d_]+(?:-[^\W\d_]+)?|%|°|\\%)|(?P<op>\^|\*\*|[/*()·])|(?P<num>-?\s*\d+))")
_ADJECTIVES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_AFTER = {"squared": 2, "cubed": 3}
_FILLERS = {"of", "the", "a", "an", "each", "total"}
_KINDS = {"different", "distinct", "possible", "unique"}
"""Words before what is counted that leave the number as it is."""


@lru_cache(maxsize=4096)
def read_unit(text: str, nouns: frozenset[str] = frozenset()) -> Unit | None:
    """A unit text such as `m/s^2`, `square feet` or `apples`; None if anything of it is not on the lists.

    Args:
        nouns: further countable things that are known here, in the singular (those of the gold answer).
    """
    text = re.sub(r"\\(?:cdot|times|ast)(?![A-Za-z])", "*", text)
    text = re.sub(r"\bms(?=\s*\^\s*\{?\s*-)", "m s", re.sub(r"\b(N|k?W|m?A)([mhs])\b", r"\1 \2", text))
    text = re.sub(r"[{}~\\]|⟦|⟧", " ", text.replace("\\%", "%").replace("^{", "^").replace("\\circ", "°"))
    text = re.sub(r"\b(years?) old\b", r"\1", re.sub(r"\.(?=\s|$|/)", "", text)).replace("^ °", "°").replace("^°", "°")
    tokens, at = [], 0
    text = re.sub(r"\bper cent\b", "percent", text.rstrip())
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            return None
        tokens.append((match.lastgroup or "", match[match.lastgroup or ""]))
        at = match.end()
    return _product(tokens, nouns)


def _product(tokens: list[tuple[str, str]], nouns: frozenset[str]) -> Unit | None:
    powers: dict[str, int] = {}
    sign, pending, at, last = 1, 1, 0, ""
    while at < len(tokens):
        kind, piece = tokens[at]
        at += 1
        lower = piece.lower()
        if piece == "/" or lower == "per":
            if sign < 0 and lower != "per":
                return None
            sign = -1
        elif piece in ("*", "·", "(", ")"):
            continue
        elif lower in _ADJECTIVES and at < len(tokens):
            pending = _ADJECTIVES[lower]
        elif lower in _AFTER and last and not last.startswith("#"):
            powers[last] *= _AFTER[lower]
        elif piece in ("^", "**"):
            if not last or at >= len(tokens) or tokens[at][0] != "num":
                return None
            powers[last] *= int(tokens[at][1].replace(" ", ""))
            at += 1
        elif kind == "word":
            if (lower in _FILLERS and last) or (lower in _KINDS and at < len(tokens)):
                continue
            names = _named(piece, nouns)
            if names is None:
                return None
            for name, power in names:
                powers[name] = powers.get(name, 0) + sign * power * pending
                last = name
            pending = 1
        else:
            return None
    if pending != 1 or not powers:
        return None
    if any(not name.startswith("#") for name in powers):
        powers.pop("#unit", None)
    return Unit(tuple(sorted((name, power) for name, power in powers.items() if power)))


def _named(piece: str, nouns: frozenset[str]) -> list[tuple[str, int]] | None:
    """[(pint's name, power)] of one word."""
    long, short = _names()
    if piece in ("%", "\\%"):
        return [("percent", 1)]
    if piece in short:
        return [(short[piece], 1)]
    lower = piece.lower()
    for name in (lower, singular(lower), lower.removesuffix("s")):  # lbs, hrs: too short for `singular`
        if name in long and (len(name) > 2 or piece.islower() or name in ("gb", "mb", "kb", "tb", "oz", "hp", "ft")):
            top, _, bottom = long[name].partition("/")
            return [(top, 1), (bottom, -1)] if bottom else [(top, 1)]
    if "-" in lower:
        parts = [_named(part, nouns) for part in piece.split("-")]
        if all(part is not None and not part[0][0].startswith("#") for part in parts):
            return [pair for part in parts if part for pair in part]
    if (singular(lower) in COUNTABLE or lower in COUNTABLE or singular(lower) in nouns) and lower not in CHANGES_NUMBER:
        return [("#" + singular(lower), 1)]
    return None


def open_nouns(text: str) -> frozenset[str]:
    """The words of a gold answer's own unit, in the singular; empty when one of them may change the number."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    if not 0 < len(words) <= 3 or any(word in CHANGES_NUMBER for word in words) or re.search(r"[^\w\s.~-]", text):
        return frozenset()
    return frozenset(singular(word) for word in words if len(word) > 2)


@cache
def _registry() -> Any:
    """pint's registry with exact factors and the currencies."""
    import pint

    registry: Any = pint.UnitRegistry(non_int_type=Fraction, cache_folder=None)
    for name in sorted(MONEY - {"cent", "pence"}):
        registry.define(f"{name} = [money_{name}]")
    registry.define("cent = dollar / 100")
    registry.define("pence = pound_sterling / 100")
    return registry


@lru_cache(maxsize=4096)
def factor(a: Unit, b: Unit) -> Fraction | None:
    """How many of `b` one `a` is, exactly; None for units of different kinds.

    Temperatures are no multiples of each other and give None, as do things that are counted.
    """
    import pint

    registry = _registry()
    sides = []
    for unit in (a, b):
        if any(name.startswith("#") or name in ("percent", "degC", "degF") for name, _ in unit.powers):
            return None
        quantity = registry.Quantity(Fraction(1), "dimensionless")
        for name, power in unit.powers:
            try:
                quantity = quantity * registry.Quantity(Fraction(1), name) ** power
            except (pint.errors.UndefinedUnitError, pint.errors.OffsetUnitCalculusError):
                return None
        sides.append(quantity)
    try:
        found = sides[0].to_base_units() / sides[1].to_base_units()
    except pint.errors.DimensionalityError:
        return None
    if not found.dimensionless:
        return None
    magnitude = found.to_base_units().magnitude
    return Fraction(magnitude) if isinstance(magnitude, int | Fraction) else None
