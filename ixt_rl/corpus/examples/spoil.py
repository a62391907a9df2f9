"""Suffixes spoiled on purpose: what a judge learns to tell from the original, and a rewriter to repair.

A spoiler takes (suffix, random numbers, suffixes of other documents) and gives a worse text, or None where it cannot.
All of them keep the white space that the suffix begins with, so that nothing but the text tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from ixt_rl.rewriting.rewriter import begun_alike

Spoiler = Callable[[str, Random, Sequence[str]], str | None]

_TRIES = 20
_SENTENCE_ENDS = re.compile(r"((?<=[.!?])\s+|\n+)")
_BLANKS = re.compile(r"(\s+)")
_LONG_WORD = re.compile(r"\w{4,}")
_FEWEST_WORDS = 4  # three words in another order may well be as good

JUNK = (
    "Click here to subscribe to our newsletter!",
    "Share this: Facebook | Twitter | Email | Print",
    '<div class="ad-slot"><a href="#">Sponsored</a></div>',
    "This site uses cookies. Accept all | Settings",
    "404 Not Found",
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    "Buy now and save 50% !!! Limited offer !!!",
    "[Advertisement] [Read more] [Back to top]",
)
"""What is left of web pages where a text was extracted badly."""


def other(suffix: str, random: Random, others: Sequence[str]) -> str | None:
    """The suffix of another document."""
    found = (random.choice(others).strip() for _ in range(_TRIES if others else 0))
    return next((text for text in found if text and not same_text(text, suffix)), None)


def sentences(suffix: str, random: Random, others: Sequence[str]) -> str | None:
    """Its sentences or lines in another order; what stands between them stays in its place."""
    return _in_another_order(_SENTENCE_ENDS.split(suffix.strip()), random, 2)


def words(suffix: str, random: Random, others: Sequence[str]) -> str | None:
    """Its words in another order."""
    return _in_another_order(_BLANKS.split(suffix.strip()), random, _FEWEST_WORDS)


def repeat(suffix: str, random: Random, others: Sequence[str]) -> str | None:
    """Its first words over and over, up to its length."""
    parts = suffix.split()
    if len(parts) < 2:
        return None
    phrase = parts[: random.randint(1, max(1, min(8, len(parts) // 2)))]
    return " ".join((phrase * len(parts))[: len(parts)])


def cut(suffix: str, random: Random, others: Sequence[str]) -> str | None:
    """Its beginning, which ends in the middle of a word."""
    text = suffix.strip()
    within = [m for m in _LONG_WORD.finditer(text) if m.start() <= 0.7 * len(text)]
    if not within:
        return None
    word = random.choice(within)
    return text[: random.randint(word.start() + 1, word.end() - 2)]


def junk(suffix: str, random: Random, others: Sequence[str]) -> str | None:
    """With boilerplate of web pages between its words, or around it."""
    text = suffix.strip()
    gaps = sorted({0, len(text), *(m.start() for m in _BLANKS.finditer(text))})
    places = sorted(random.sample(gaps, min(2, len(gaps))), reverse=True)
    for place, line in zip(places, random.sample(JUNK, len(places)), strict=True):
        text = f"{text[:place]} {line} {text[place:].lstrip()}"
    return text.strip()


SPOILERS: dict[str, Spoiler] = {
    "other": other,
    "sentences": sentences,
    "words": words,
    "repeat": repeat,
    "cut": cut,
    "junk": junk,
}


def spoil(suffix: str, random: Random, others: Sequence[str], names: Sequence[str]) -> tuple[str, str] | None:
    """(name of the spoiler, the spoiled suffix) by the first of `names` that can; None if none can.

    What comes back differs from `suffix` in more than white space.
    """
    for name in names:
        text = SPOILERS[name](suffix, random, others)
        if text and not same_text(text, suffix):
            return name, begun_alike(text, suffix)
    return None


def same_text(first: str, second: str) -> bool:
    """Whether two texts differ in white space at most."""
    return first.split() == second.split()


def _in_another_order(parts: list[str], random: Random, fewest: int) -> str | None:
    """`parts` has a separator at every odd place."""
    pieces = [part for part in parts[::2] if part]
    if len(pieces) < fewest or len({*pieces}) < 2:
        return None
    order = list(pieces)
    for _ in range(_TRIES):
        random.shuffle(order)
        if order != pieces:
            break
    moved = iter(order)
    return "".join(part if index % 2 or not part else next(moved) for index, part in enumerate(parts))
