"""Thoughts between the sentences of documents: the job, and who asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from ixt_rl.corpus.job import Answered, Asker
from ixt_rl.corpus.rewrite.job import RewritingJob
from ixt_rl.corpus.rewrite.suffixes import COPIED, SKIPPED, UNDECIDED
from ixt_rl.corpus.row_group import Piece, texts
from ixt_rl.corpus.rows import CorpusRows
from ixt_rl.judging.answer import Tally
from ixt_rl.judging.backend import JudgeBackend
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.rubric import well_formed
from ixt_rl.rewriting.reply_stream import Thought, ThoughtStream
from ixt_rl.rewriting.thinker import chunks


@dataclass(frozen=True)
class ThoughtsJob(RewritingJob):
    """Thoughts are put between the pieces of each document; see `Thinker`.

    Args:
        chunk_characters: most characters that the teacher gets at once.
        context_characters: how much of what stands before them it is shown, at most.
    """

    column: ClassVar[str] = "thoughts"
    changed: ClassVar[str] = "annotated"

    chunk_characters: int = 2000
    context_characters: int = 4000

    @property
    def types(self) -> dict[str, pa.DataType]:
        return {
            "thoughts": pa.string(), "thoughts_count": pa.int64(), "thoughts_status": pa.string(),
            "thoughts_reason": pa.string(), "thoughts_by": pa.string(), "thoughts_tokens": pa.int64(),
        }  # fmt: skip

    def check_rows(self, source: CorpusRows) -> None:
        """Any text can be thought about."""

    def settings(self, source: Mapping[str, Any]) -> dict[str, Any]:
        return super().settings(source) | {
            "chunk_characters": self.chunk_characters,
            "context_characters": self.context_characters,
        }

    def asker(self, backend: JudgeBackend, cache: JudgeCache) -> ThoughtAsker:
        return ThoughtAsker(self, backend, cache)


class ThoughtAsker(Asker):
    """A teacher, asked about every chunk of every document."""

    def __init__(self, job: ThoughtsJob, backend: JudgeBackend, cache: JudgeCache):
        self.job = job
        self._teacher = ThoughtStream(
            backend,
            job.sampling,
            prompt=job.prompt,
            chunk_characters=job.chunk_characters,
            context_characters=job.context_characters,
            cache=cache,
            prices=job.prices,
        )

    @property
    def tally(self) -> Tally:
        return self._teacher.tally.work

    def questions(self, piece: Piece) -> list[str | Answered]:
        return [self._question(fields.get("text")) for fields in texts(piece, self.job.mapped)]

    def stream(self, questions: Iterable[str]) -> Iterator[tuple[int, Answered]]:
        for index, thought in self._teacher.stream(questions):
            yield index, Answered(self._columns(thought), thought.woven.text is None)

    def replies(self, question: str) -> int:
        return len(chunks(question, self.job.chunk_characters))

    def _question(self, text: str | None) -> str | Answered:
        if text is not None and text.strip():
            return text
        return Answered(self._row(SKIPPED, reason="no text" if text is None else "blank text"))

    def _columns(self, thought: Thought) -> dict[str, Any]:
        woven = thought.woven
        status = UNDECIDED if woven.text is None else self.job.changed if woven.thoughts else COPIED
        return self._row(status, woven.text, woven.thoughts, woven.reason, self._teacher.backend.name, thought.tokens)

    @staticmethod
    def _row(
        status: str, text: str | None = None, thoughts: int = 0, reason: str = "", by: str = "", tokens: int = 0
    ) -> dict[str, Any]:
        return {
            "thoughts": text,
            "thoughts_count": None if text is None else thoughts,
            "thoughts_status": status,
            "thoughts_reason": well_formed(reason),
            "thoughts_by": by,
            "thoughts_tokens": tokens,
        }
