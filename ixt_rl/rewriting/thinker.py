"""A teacher that thinks between the sentences of a document, asked piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ixt_rl.conditioning.thought_marks import _SENTENCE_END, TEACHER_TAG, Woven, weave
from ixt_rl.errors import ConfigError
from ixt_rl.judging.backend import JudgeBackend, Reply
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.rewriting.prompt import COPY, RewritePrompt, load_rewrite, read_rewrite
from ixt_rl.rewriting.rewriter import Rewriter
from ixt_rl.types import SamplingParams


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
