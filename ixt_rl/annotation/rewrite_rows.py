"""Rewriting rows: documents become suffixes or chunks, and the rewriter's answers columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ixt_rl.annotation.batch import Asker, Filled
from ixt_rl.annotation.pieces import Piece, texts
from ixt_rl.annotation.rewrite_job import SuffixJob, ThoughtsJob
from ixt_rl.data.corpus import MemoryCorpus
from ixt_rl.data.suffixes import PrefixSuffix, SuffixStream
from ixt_rl.errors import DataError
from ixt_rl.judging.answer import Tally
from ixt_rl.judging.backend import JudgeBackend
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.reply_stream import RewriteStream, Rewritten, Thought, ThoughtStream
from ixt_rl.judging.rubric import well_formed
from ixt_rl.types import Document

COPIED, UNDECIDED, SKIPPED = "copied", "undecided", "skipped"
"""What a row's status can be besides `RewritingJob.changed`: left as it is, asked about in vain, not asked about."""


class Cutter(SuffixStream):
    """Cuts documents one by one, as the stream does; `skipped` counts by reason those that it could not cut."""

    def __init__(self, tokenizer, *, suffix_tokens: int, max_prefix_tokens: int, min_prefix_tokens: int):
        super().__init__(
            MemoryCorpus([Document("")], seed=0),
            tokenizer,
            suffix_tokens=suffix_tokens,
            max_prefix_tokens=max_prefix_tokens,
            min_prefix_tokens=min_prefix_tokens,
        )
        self.skipped: Counter[str] = Counter()

    def cut(self, fields: Mapping[str, str], wanted: Iterable[str] = ("text",)) -> PrefixSuffix | str:
        """The document of a row's texts in two, or why not."""
        missing = next((name for name in wanted if name not in fields), "")
        found: PrefixSuffix | str = f"no {missing}"
        if not missing:
            found = self._cut(Document(fields["text"], fields.get("prompt", "")))
        if isinstance(found, str):
            self.skipped[found] += 1
        return found


class SuffixAsker(Asker):
    """A rewriter, asked about every document's suffix; its cache makes equal pairs one question."""

    def __init__(self, job: SuffixJob, backend: JudgeBackend, cache: JudgeCache):
        self.job, self._cutter = job, job.cutter()
        self._rewriter = RewriteStream(
            backend,
            job.sampling,
            self._cutter.tokenizer,
            job.prompt,
            suffix_tokens=job.suffix_tokens,
            cache=cache,
            prices=job.prices,
        )

    @property
    def tally(self) -> Tally:
        return self._rewriter.tally.work

    def questions(self, piece: Piece) -> list[PrefixSuffix | Filled]:
        found = [self._cutter.cut(fields, self.job.mapped) for fields in texts(piece, self.job.mapped)]
        return [Filled(self._skipped(entry)) if isinstance(entry, str) else entry for entry in found]

    def stream(self, questions: Iterable[PrefixSuffix]) -> Iterator[tuple[int, Filled]]:
        asked: dict[int, PrefixSuffix] = {}

        def kept() -> Iterator[PrefixSuffix]:
            for index, item in enumerate(questions):
                asked[index] = item
                yield item

        for index, rewritten in self._rewriter.stream(kept()):
            yield index, Filled(self._columns(asked.pop(index), rewritten), rewritten.candidate is None)

    def _columns(self, item: PrefixSuffix, rewritten: Rewritten) -> dict[str, Any]:
        candidate = rewritten.candidate
        copied = None if candidate is None else candidate.ids == item.suffix_ids
        return {
            "prefix_ids": item.prefix_ids,
            "suffix_ids": item.suffix_ids,
            "rewrite": candidate and candidate.text,
            "rewrite_ids": candidate and candidate.ids,
            "rewrite_copied": copied,
            "rewrite_status": UNDECIDED if copied is None else COPIED if copied else self.job.changed,
            "rewrite_reason": well_formed(rewritten.reason),
            "rewrite_by": self._rewriter.backend.name,
            "rewrite_tokens": rewritten.tokens,
        }

    def _skipped(self, reason: str) -> dict[str, Any]:
        return dict.fromkeys(self.job.types) | {
            "rewrite_status": SKIPPED, "rewrite_reason": reason, "rewrite_by": "", "rewrite_tokens": 0,
        }  # fmt: skip


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

    def questions(self, piece: Piece) -> list[str | Filled]:
        return [self._question(fields.get("text")) for fields in texts(piece, self.job.mapped)]

    def stream(self, questions: Iterable[str]) -> Iterator[tuple[int, Filled]]:
        for index, thought in self._teacher.stream(questions):
            yield index, Filled(self._columns(thought), thought.woven.text is None)

    def _question(self, text: str | None) -> str | Filled:
        if text is not None and text.strip():
            return text
        return Filled(self._row(SKIPPED, reason="no text" if text is None else "blank text"))

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


@lru_cache(maxsize=1)
def load_tokenizer(folder: Path, fingerprint: str):
    """The tokenizer in a folder whose files have this fingerprint.

    Raises:
        DataError: transformers cannot load it.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # of many kinds
        raise DataError(
            f"tokenizer {str(folder)!r}", reason=f"transformers cannot load it: {error}", remedy="check the folder"
        ) from None
