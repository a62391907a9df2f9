"""Thoughts between the pieces of a text: how they are written, taken out, verified, and asked of a teacher.

    original   It was 3 km away. At 6 km/h we arrived at half past.
    annotated  It was 3 km away. <think> 3 / 6 h is half an hour </think> At 6 km/h we arrived at half past.

The rule on white space: a thought is written `<think> ... </think>`, after the white space that stands where it is put
in, and before one more white space if one stands before it (or nothing does). So the original can be told from the
annotated text alone, to the character (`interleaved`).

A teacher need not keep to this rule. `weave` compares what stands outside of its thoughts with the original, character
by character but for the white space around thoughts and at both ends, and writes the original's own characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging.backend import JudgeBackend, Reply
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.rewrite_prompt import COPY, RewritePrompt, load_rewrite, read_rewrite
from ixt_rl.judging.rewriter import Rewriter
from ixt_rl.types import SamplingParams

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


def chunks(text: str, limit: int) -> list[str]:
    """`text` in pieces of at most `limit` characters, which joined are the text: whole sentences or lines if they fit.

    Raises:
        ConfigError: limit < 1.
    """
    if limit < 1:
        raise ConfigError(f"chunk_characters={limit}", reason="a chunk holds text", remedy="give 1 or more")
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    found: list[str] = []
    for start, end in pairwise(dict.fromkeys(ends)):
        sentence = text[start:end]
        if found and len(found[-1]) + len(sentence) <= limit:
            found[-1] += sentence
        else:
            found += [sentence[i : i + limit] for i in range(0, len(sentence), limit)]
    return found


class Thinker(Rewriter):
    """A teacher that puts thoughts between the pieces of documents, chunk by chunk.

    A chunk whose annotation is not the chunk with thoughts in it is undecided; so is its document, because one with a
    hole is not the original. Both are counted: `tally.skipped` has chunks by reason, `tally.copied` those in which the
    teacher saw nothing to think about.

    Args:
        backend: any backend of a `Judge`. A function gets `prefix` (what stands before the chunk) and `suffix` (the
            chunk), and gives the annotated chunk with `<note> ... </note>`, "COPY", or None.
        sampling: `max_new_tokens` has to leave room for the chunk, its thoughts and the teacher's own thinking.
        prompt: what is asked.
        chunk_characters: most characters of a chunk.
        context_characters: how much of what stands before the chunk is shown, at most.
        cache, prices, patience: as a `Rewriter` has them.

    Raises:
        ConfigError: chunk_characters < 1.
    """

    def __init__(
        self,
        backend: JudgeBackend,
        sampling: SamplingParams,
        *,
        prompt: RewritePrompt | None = None,
        chunk_characters: int = 2000,
        context_characters: int = 4000,
        cache: JudgeCache | None = None,
        prices: tuple[float, float] = (0.0, 0.0),
        patience: int = 100,
    ):
        prompt = prompt or load_rewrite("thoughts")
        super().__init__(backend, sampling, None, prompt, cache=cache, prices=prices, patience=patience)
        chunks("", chunk_characters)  # refuses what is no length
        self.chunk_characters, self.context_characters = chunk_characters, context_characters

    def annotate(self, texts: Sequence[str]) -> list[str | None]:
        """Each text with thoughts, or None.

        Raises:
            BackendFailed: the backend can answer nothing, or `patience` requests failed in a row.
        """
        parts = [chunks(text, self.chunk_characters) for text in texts]
        asked = [question for pieces in parts for question in self._questions(pieces)]
        replies = iter(self._ask([self._request(prefix, chunk) for prefix, chunk in asked]))
        woven = [[self._woven(chunk, next(replies)) for chunk in pieces] for pieces in parts]
        return [_joined(text, pieces) for text, pieces in zip(texts, woven, strict=True)]

    def _questions(self, pieces: Sequence[str]) -> Iterator[tuple[str, str]]:
        before = ""
        for piece in pieces:
            yield before[-self.context_characters :] if self.context_characters else "", piece
            before += piece

    def _woven(self, chunk: str, reply: Reply) -> str | None:
        self.tally.asked += 1
        text, reason = read_rewrite(reply, self.backend.constrained)
        if text == COPY:
            self.tally.copied += 1
            return chunk
        woven = Woven(None, reason) if text is None else weave(chunk, text, TEACHER_TAG)
        if woven.text is None:
            self.tally.skipped[woven.reason.partition(":")[0]] += 1
        else:
            self.tally.copied += not woven.thoughts
            self.tally.rewritten += woven.thoughts > 0
        return woven.text


def _joined(text: str, pieces: Sequence[str | None]) -> str | None:
    """The chunks as one text, woven as a whole: a chunk cannot know whether white space stands before it."""
    known = [piece for piece in pieces if piece is not None]
    return weave(text, "".join(known)).text if len(known) == len(pieces) else None


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
