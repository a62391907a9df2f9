"""Judges of continuations that are programs: what can be counted in a text, without a model.

    judge: {model: "python:ixt_rl.judging.programs:sound", axes: {quality: 1.0}}

Words are those of languages that put blanks between them and write names with a capital.

    measure                 of                          on 0..1
    repetition              the text                    word n-grams that were there before, over all
    copying                 text, source                word n-grams that the source has, over all
    cohesion                text, source                different longer words that the source has, over all of them
    invention               text, sources               names and numbers that no source has, over words
    support                 text, sources               names and numbers that some source has, over all of them

Counting is easily pleased: a text that says nothing invents nothing. What is judged by programs is to be measured by
something else, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ixt_rl.ngrams import copied_share, repeated_share
from ixt_rl.types import Verdict

_WORD = re.compile(r"[^\W_]+(?:['’.,-][^\W_]+)*")
_SENTENCE_ENDS = ".!?:\n\"'“”("


def words(text: str) -> list[str]:
    """Words and numbers in order, in small letters: `It's 3,000.` has `it's` and `3,000`."""
    return [found.group().lower() for found in _WORD.finditer(text)]


def claims(text: str) -> list[str]:
    """Names and numbers in order, in small letters: words with a digit, and words with a capital letter that begin no
    sentence. The text's own first word counts as a beginning."""
    found = []
    for word in _WORD.finditer(text):
        said, before = word.group(), text[: word.start()].rstrip(" ")
        begins = not before or before[-1] in _SENTENCE_ENDS
        if any(map(str.isdigit, said)) or (said[0].isupper() and len(said) > 1 and not begins):
            found.append(said.lower())
    return found


def repetition(text: str, n: int = 3) -> float:
    """Share of the text's word n-grams that were there before."""
    return repeated_share(words(text), n)


def copying(text: str, source: str, n: int = 4) -> float:
    """Share of the text's word n-grams that stand in the source."""
    return copied_share(words(text), words(source), n)


def cohesion(text: str, source: str) -> float:
    """Share of the text's different words of four letters or more that the source has; 0 where it has none.

    Words with the same first five letters are one: `memory`, `memories`.
    """
    found, there = ({word[:5] for word in words(of) if len(word) >= 4} for of in (text, source))
    return len(found & there) / len(found) if found else 0.0


def invention(text: str, *sources: str) -> float:
    """Names and numbers of the text that no source has, over its words; 0 of an empty text."""
    known, said = {word for source in sources for word in words(source)}, words(text)
    return sum(claim not in known for claim in claims(text)) / len(said) if said else 0.0


def support(text: str, *sources: str) -> float | None:
    """Share of the text's names and numbers that some source has; None where it has none."""
    known, made = {word for source in sources for word in words(source)}, claims(text)
    return sum(claim in known for claim in made) / len(made) if made else None


def soundness(text: str, prefix: str) -> float:
    """How far a continuation keeps to what its prefix is about, without saying anything twice or making things up; on
    0..1, and 0 of an empty text.

    cohesion with the prefix (1 - repetition) (1 - copying of the prefix) (1 - invention beyond the prefix)
    """
    kept = (1 - repetition(text)) * (1 - copying(text, prefix)) * (1 - invention(text, prefix))
    return kept * cohesion(text, prefix)


def sound(fields: Mapping[str, str]) -> str:
    """A judge of `quality` (rubric `pairwise-quality`): the continuation with the higher `soundness`."""
    a, b = (soundness(fields[name], fields["prefix"]) for name in ("a", "b"))
    return "tie" if a == b else "A" if a > b else "B"


def grounded(fields: Mapping[str, str]) -> Verdict:
    """A judge of `grounding`: `support` of a continuation in its prefix and the original; one without names and numbers
    is undecided."""
    found = support(fields["continuation"], fields["prefix"], fields["original"])
    return Verdict(found, "no names or numbers" if found is None else "counted")
