"""Closed lists of words (`words.yaml`): number words, words that change a number, countable things, fixed phrases."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

_LISTS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))


def words_of(name: str) -> frozenset[str]:
    """One of the lists of words."""
    return frozenset(_LISTS[name].split())


COUNTABLE = words_of("countable")
CHANGES_NUMBER = words_of("changes_number")
UNIT_NAMES: dict[str, list[str]] = {name: spellings.split() for name, spellings in _LISTS["units"].items()}
"""Spellings of a unit in lower case, by pint's name."""
PHRASES = {phrase: kind for kind, group in enumerate(_LISTS["phrases"]) for phrase in re.split(r";\s*", group)}
"""Fixed phrases, and which of them say the same."""

_IRREGULAR: dict[str, str] = _LISTS["irregular_plurals"]


def singular(word: str) -> str:
    """The singular of an English noun, by rule."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3 or not word.endswith("s") or word.endswith("ss"):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y" if word[:-3] + "y" in COUNTABLE else word[:-1]
    if word.endswith(("ches", "shes", "xes", "sses", "zzes", "oes")):
        return word[:-2]
    return word[:-1]


SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
          "lakh": 10**5, "crore": 10**7, "gross": 144, "score": 20}  # fmt: skip
"""Words after a number that multiply it."""

NUMBER_WORDS: dict[str, int] = _LISTS["numbers"]
_ORDINALS = {"third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
             "eleventh": 11, "twelfth": 12, "hundredth": 100, "thousandth": 1000, "twentieth": 20}  # fmt: skip
_PARTS = {"half": 2, "halve": 2, "quarter": 4, **_ORDINALS}
_ORDINAL_VALUES = {"first": 1, "second": 2, **_ORDINALS}


def number_in_words(text: str) -> Fraction | None:
    """`twenty-five`, `one hundred and five`, `minus two thirds`, `three and a half`; None if it is no number."""
    words = re.sub(r"[-\s]+", " ", text.lower().strip()).split()
    sign = 1
    if words and words[0] in ("minus", "negative"):
        sign, words = -1, words[1:]
    if not words or len(words) > 14:
        return None
    if words == ["half"] or words == ["quarter"]:
        words = ["a", *words]
    value = _with_fraction(words)
    return None if value is None else sign * value


def _with_fraction(words: list[str]) -> Fraction | None:
    last = singular(words[-1])
    if last in _PARTS and len(words) >= 2:
        if "and" in words:
            at = words.index("and")
            whole, top = _cardinal(words[:at]), _count(words[at + 1 : -1])
            if whole is not None and top is not None and top < _PARTS[last]:
                return whole + Fraction(top, _PARTS[last])
            return None
        top = _count(words[:-1])
        return None if top is None else Fraction(top, _PARTS[last])
    value = _cardinal(words)
    return None if value is None else Fraction(value)


def _count(words: list[str]) -> int | None:
    return 1 if words in (["a"], ["an"]) else _cardinal(words)


def _cardinal(words: list[str]) -> int | None:
    """An integer in words, `and` allowed after hundreds and thousands."""
    total = current = 0
    previous = ""
    for at, word in enumerate(words):
        if word == "and":
            if previous not in SCALES or at == len(words) - 1:
                return None
        elif word in NUMBER_WORDS:
            value = NUMBER_WORDS[word]
            tens = previous in NUMBER_WORDS and NUMBER_WORDS[previous] >= 20 and 0 < value < 10
            if previous in NUMBER_WORDS and not tens:
                return None
            current += value
        elif word == "a" and at == 0 and len(words) > 1:
            current = 1
        elif word in ("hundred", "dozen"):
            if not current or previous in SCALES:
                return None
            current *= SCALES[word]
        elif word in ("thousand", "million", "billion", "trillion"):
            if not current:
                return None
            total, current = total + current * SCALES[word], 0
        else:
            return None
        previous = word if word != "and" else previous
    return total + current if words else None


def ordinal(text: str) -> int | None:
    """`5th`, `twenty-first`, `third`: the place; None if it is no ordinal."""
    match = re.fullmatch(r"(\d+)\s*(?:\^\s*\{?\s*)?[⟦]?(st|nd|rd|th)[⟧]?\s*\}?", text.strip().lower())
    if match:
        return int(match[1])
    words = re.sub(r"[-\s]+", " ", text.lower().strip()).split()
    if not words or words[-1] not in _ORDINAL_VALUES:
        return None
    before = _cardinal(words[:-1]) if words[:-1] else 0
    if before is None or (before and before % 10):
        return None
    return before + _ORDINAL_VALUES[words[-1]]


_NAMES = words_of("days_and_months")
_SHORT = {name[:3]: name for name in _NAMES} | {"tues": "tuesday", "thurs": "thursday", "sept": "september"}
_ARTICLES = {"the", "a", "an", "it", "is", "on", "in"}


def plain_words(words: list[str]) -> list[str]:
    """Words without articles, days and months in full."""
    kept = [_SHORT.get(word, word) if len(words) == 1 else word for word in words]
    without = [word for word in kept if word not in _ARTICLES]
    return without or kept
