"""Real text of unequal quality: passages as they are, and the same spoiled by code, in a way that has a name.

    order        the words in another order
    names        numbers and names replaced by those of other passages
    repetition   one sentence said three times

Whoever makes such text knows how good it is: a rubric by code that needs no judge.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from ixt_rl.corpus.examples.spoil import Spoiler, words

_SENTENCES = re.compile(r"(?<=[.!?]) +")
_NAME = re.compile(r"\b(?:\d[\d.,]*\d|\d|[A-Z][a-z]{2,})\b")


def passages(text: str, characters: int) -> list[str]:
    """A text in pieces of whole sentences, each of at least so many characters; what is left at its end is left out."""
    found, piece = [], ""
    for sentence in sentences(" ".join(text.split())):
        piece += sentence + " "
        if len(piece) >= characters:
            found.append(piece.strip())
            piece = ""
    return found


def sentences(text: str) -> list[str]:
    """Cut after `.`, `!` and `?` where a space follows."""
    return _SENTENCES.split(text)


def names(text: str) -> list[str]:
    """Numbers, and words with a capital letter, those that begin a sentence too."""
    return _NAME.findall(text)


def _names(text: str, rng: random.Random, others: Sequence[str]) -> str:
    return _NAME.sub(lambda found: rng.choice(others), text)


def _repetition(text: str, rng: random.Random, others: Sequence[str]) -> str:
    found = sentences(text)
    place = rng.randrange(len(found))
    return " ".join([*found[:place], *[found[place]] * 3, *found[place + 1 :]])


SPOILS: dict[str, Spoiler] = {
    "order": words,
    "names": _names,
    "repetition": _repetition,
}
"""Name -> (text, generator, names of other passages) -> the text, spoiled, or None where it is too short for that."""
