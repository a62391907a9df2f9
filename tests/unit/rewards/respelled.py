"""Other spellings of an answer that are the same answer, by rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction


def _decimal(text: str) -> str:
    """A terminating fraction as a decimal."""
    match = re.fullmatch(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}|(-?)(\d+)/(\d+)", text)
    if match is None:
        return text
    sign, top, bottom = (match[1], match[2], match[3]) if match[2] else (match[4], match[5], match[6])
    value = Fraction(int(top), int(bottom))
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return f"{sign}{float(value)!r}" if rest == 1 and value.denominator < 10**6 else text


def _as_fraction(text: str) -> str:
    """A decimal as a fraction."""
    match = re.fullmatch(r"(-?)(\d*\.\d+)", text)
    if match is None:
        return text
    value = Fraction(match[2] if match[2][0] != "." else "0" + match[2])
    return rf"{match[1]}\frac{{{value.numerator}}}{{{value.denominator}}}"


def _reversed_items(text: str) -> str:
    """The items of a bare list or a set of simple items in the other order."""
    match = re.fullmatch(r"(\\\{|)([^(){}\[\]\\,]+(?:,[^(){}\[\]\\,]+)+)(\\\}|)", text)
    if match is None or re.search(r"\d,\d{3}(?!\d)|and|or|=|:|\.\.|[A-Z]", text):
        return text
    return match[1] + ", ".join(reversed([item.strip() for item in match[2].split(",")])) + match[3]


def _with_name(text: str) -> str:
    return (
        text
        if re.search(r"[=<>,:]|\\(?:le|ge|cup|in|text|pm|mbox|infty|begin)|[A-Za-z]{2}|\)|\]|_", text)
        else f"N = {text}"
    )


def _with_unit(text: str) -> str:
    return rf"{text} \text{{ cm}}" if re.fullmatch(r"-?\d+(?:\.\d+)?", text) else text


def _without_unit(text: str) -> str:
    return re.sub(r"(?<=\d)\s*\\(?:text|mbox)\s*\{\s*[a-z ]+\}(?:\^\{?[23]\}?)?$", "", text)


def _without_degrees(text: str) -> str:
    return text if re.search("sin|cos|tan", text) else re.sub(r"(?<=\d)\s*\^\s*\{?\\circ\}?$", "", text)


def _degrees_in_words(text: str) -> str:
    return re.sub(r"(?<=\d)\s*\^\s*\{?\\circ\}?$", " degrees", text)


def _grouped(text: str) -> str:
    return re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", text) if re.fullmatch(r"-?\d{5,}", text) else text


RESPELLINGS: dict[str, Callable[[str], str]] = {
    "dfrac": lambda text: text.replace(r"\frac", r"\dfrac"),
    "fraction as decimal": _decimal,
    "decimal as fraction": _as_fraction,
    "slash": lambda text: re.sub(r"^(-?)\\d?frac\{(-?\d+)\}\{(\d+)\}$", r"\1\2/\3", text),
    "spaces": lambda text: (
        re.sub(r"(?<=[\w}])([+=,-])(?=[\w\\])", r" \1 ", text)
        if not re.search(r"\\text|\\mbox|\d,\d{3}|\\!", text)
        else text
    ),
    "no spaces": lambda text: (
        re.sub(r"(?<=[+=,-])\s+|\s+(?=[+=,-])", "", text)
        if not re.search(r"\\text|\\mbox|,\s*\\?!|\d, *\d", text)
        else text
    ),
    "fences": lambda text: f"${text}$.",
    "display": lambda text: rf"\[ {text} \]",
    "left and right": lambda text: (
        re.sub(r"(?<!\\left)\(([^()]*)(?<!\\right)\)", r"\\left(\1\\right)", text) if "\\left" not in text else text
    ),
    "no left and right": lambda text: re.sub(r"\\(?:left|right)(?![A-Za-z])", "", text),
    "name": _with_name,
    "unit added": _with_unit,
    "unit dropped": _without_unit,
    "degrees dropped": _without_degrees,
    "degrees in words": _degrees_in_words,
    "order": _reversed_items,
    "thousands": _grouped,
    "no separators": lambda text: re.sub(r"(?<=\d),\s*\\!\s*(?=\d{3})|(?<=\d)\{,\}(?=\d{3})", "", text),
    "dollar dropped": lambda text: text.replace(r"\$", ""),
    "percent in words": lambda text: text.replace(r"\%", " percent"),
    "percent dropped": lambda text: text.replace(r"\%", ""),
    "bold": lambda text: f"**{text}**",
    "text dropped": lambda text: re.sub(r"^\\(?:text|mbox)\{([^{}]*)\}$", r"\1", text),
    "point zero": lambda text: f"{text}.0" if re.fullmatch(r"-?\d+", text) else text,
    "root in words": lambda text: re.sub(r"\\sqrt\{(\w+)\}", r"sqrt(\1)", text) if "\\text" not in text else text,
    "times": lambda text: text.replace(r"\cdot", r"\times"),
    "unicode minus": lambda text: text.replace("-", "−"),
    "unicode pi": lambda text: re.sub(r"\\pi(?![A-Za-z])", "π", text),
    "wide braces": lambda text: re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text),
}
"""Rules by name; one that does not apply gives the text back."""
