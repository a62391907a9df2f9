"""Thoughts in a text: put in at places, taken out, read back. Text alone: no model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest

from ixt_rl.errors import DataError

OPEN, CLOSE = "<think>", "</think>"
TEACHER_TAG = "note"
"""What a teacher is told to write: `<think>` in an answer is a language model's own thinking, which is stripped."""

_SHOWN = 30  # characters of a difference that a reason quotes
_SENTENCE_END = re.compile(r"\n\s*|(?<=[.!?])\s+")


@dataclass(frozen=True)
class Woven:
    """An annotated text, verified.

    Args:
        text: the original with thoughts, by the rule above; None if the annotation is not to be used.
        reason: why not; "" if it is.
        thoughts: their number.
    """

    text: str | None
    reason: str = ""
    thoughts: int = 0


def weave(original: str, annotated: str, tag: str = "think") -> Woven:
    """Puts the thoughts of `annotated` into `original`, if all else in it is the original.

    The reason says why it is not: `marks in the original`, `nested thought`, `thought not closed`, `thought not
    opened`, `empty thought`, or `text changed: ...` with the first difference.

    Args:
        original: the text as it was.
        annotated: the same with thoughts between its pieces, written `<tag> ... </tag>`.
        tag: `TEACHER_TAG` for what a teacher wrote.
    """
    if _marks(tag).search(original) or _marks("think").search(original):
        return Woven(None, "marks in the original")
    pieces, thoughts, reason = _split(annotated, tag)
    if not all(thought.strip() for thought in thoughts):
        reason = "empty thought"
    if any(_marks("think").search(thought) for thought in thoughts):
        reason = "nested thought"
    if reason:
        return Woven(None, reason)
    written, at = "", 0
    for piece, thought in zip_longest(pieces, thoughts):
        body = piece.strip()
        start = at + _leading_space(original[at:]) if body else at
        if not original.startswith(body, start):
            return Woven(None, _difference(original, body, start))
        written += original[at:start] + body
        at = start + len(body)
        if thought is not None:
            end = at + _leading_space(original[at:])
            written, at = written + original[at:end], end
            written += f"{OPEN} {thought.strip()} {CLOSE}" + _separator(written)
    if original[at:].strip():
        return Woven(None, _difference(original, "", at))
    return Woven(written + original[at:], thoughts=len(thoughts))


def interleaved(text: str) -> str:
    """The original of a text that `weave` made: without its thoughts, to the character.

    Raises:
        DataError: its marks do not pair up.
    """
    pieces, _, reason = _split(text, "think")
    if reason:
        raise DataError(
            f"a text with thoughts, {text[:_SHOWN]!r}...", reason=reason, remedy="annotate it again, or leave it out"
        )
    original = ""
    for index, piece in enumerate(pieces):
        added = index > 0 and bool(_separator(original)) and piece[:1].isspace()
        original += piece[1:] if added else piece
    return original


def predicted_suffix(completion: str) -> str | None:
    """What a completion says outside of its thoughts, without white space at its ends.

    None for a completion that never thinks, or whose marks do not pair up.
    """
    _, thoughts, reason = _split(completion, "think")
    return None if reason or not thoughts else interleaved(completion).strip()


def _marks(tag: str) -> re.Pattern[str]:
    return re.compile(rf"<(/?){tag}>")


def _split(text: str, tag: str) -> tuple[list[str], list[str], str]:
    """(pieces outside of thoughts, the thoughts between them, why the marks do not pair up)."""
    parts: list[str] = []
    position, is_open = 0, False
    for mark in _marks(tag).finditer(text):
        closes = bool(mark[1])
        if closes != is_open:
            return [], [], "thought not opened" if closes else "nested thought"
        parts.append(text[position : mark.start()])
        position, is_open = mark.end(), not closes
    if is_open:
        return [], [], "thought not closed"
    parts.append(text[position:])
    return parts[::2], parts[1::2], ""


def _separator(before: str) -> str:
    """The white space that a thought brings along: that before it; none in the middle of a word."""
    return before[-1:] if before[-1:].isspace() else "" if before else " "


def _leading_space(text: str) -> int:
    return len(text) - len(text.lstrip())


def _difference(original: str, body: str, at: int) -> str:
    same = next((i for i, (x, y) in enumerate(zip(original[at:], body, strict=False)) if x != y), None)
    same = min(len(original) - at, len(body)) if same is None else same
    there, here = original[at + same : at + same + _SHOWN], body[same : same + _SHOWN]
    return f"text changed: at character {at + same} {here!r} stands for {there!r}"
