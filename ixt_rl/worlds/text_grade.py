"""Worlds of text: what they know of a reply, in the tokens of whichever model wrote it.

A world with a vocabulary of its own grades ids (`grade`); one of text grades text (`grade_text`), and belongs to no
tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ixt_rl.types import Grade

GradeIds = Callable[[str, Sequence[int]], Grade]
"""(question, completion ids) -> what a world knows of the completion."""


@dataclass(frozen=True)
class TextGrade:
    """What a world of text knows of a reply; see `Grade`.

    Args:
        checked, strict, reasoned: as in `Grade`.
        wrong: places (start, end) of the text with something wrong; tokens that reach into one are not right.
    """

    checked: bool
    strict: bool
    reasoned: bool
    wrong: tuple[tuple[int, int], ...] = ()


def is_of_text(world: Any) -> bool:
    """Whether a world grades text."""
    return hasattr(world, "grade_text")


def grader_of(world: Any, tokenizer: Any) -> GradeIds:
    """The world's grades of completions; of a world of text as `tokenizer` decodes them, special tokens left out.

    Args:
        world: of `WORLDS`, made for a view.
        tokenizer: the policy's; only worlds of text need it.
    """
    if not is_of_text(world):
        return world.grade

    def grade(question: str, completion_ids: Sequence[int]) -> Grade:
        text, spans = token_spans(tokenizer, completion_ids)
        found: TextGrade = world.grade_text(question, text)
        right = tuple(not any(start < to and end > since for since, to in found.wrong) for start, end in spans)
        return Grade(found.checked, found.strict, found.reasoned, right)

    return grade


def token_spans(tokenizer: Any, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """The text of ids, and the place (start, end) of each token in it; a special token has none: start == end.

    A character whose bytes lie in several tokens is the last one's, which completes it.
    """
    special = set(tokenizer.all_special_ids)
    text, spans, kept = "", list[tuple[int, int]](), list[int]()
    for token in ids:
        before = len(text)
        if token not in special:
            kept.append(token)
            text = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False).rstrip("\ufffd")
        spans.append((min(before, len(text)), len(text)))
    whole = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return whole, spans
