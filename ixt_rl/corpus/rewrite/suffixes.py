"""Rewriting suffixes: the job, and who asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from ixt_rl.corpus.job import Answered, Asker, require_values
from ixt_rl.corpus.rewrite.job import IDS, RewritingJob
from ixt_rl.corpus.row_group import Piece, texts
from ixt_rl.corpus.rows import CorpusRows
from ixt_rl.data.in_memory import MemoryCorpus
from ixt_rl.data.suffixes import PrefixSuffix, SuffixStream
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging.answer import Tally
from ixt_rl.judging.backend import JudgeBackend
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.fingerprints import hash_tokenizer
from ixt_rl.judging.rubric import well_formed
from ixt_rl.rewriting.reply_stream import RewriteStream, Rewritten
from ixt_rl.types import Document

_LOOKED_AT = 1000  # rows, to find one that can be cut


@dataclass(frozen=True)
class SuffixJob(RewritingJob):
    """The last tokens of each document are rewritten, for SIP; see `SuffixStream` for how documents are cut.

    Args:
        tokenizer: folder with the tokenizer of the model that will be trained.
        suffix_tokens: N, tokens of a suffix and most tokens of a rewrite.
        max_prefix_tokens: longest prefix.
        min_prefix_tokens: shortest prefix.
    """

    column: ClassVar[str] = "rewrite"
    changed: ClassVar[str] = "rewritten"
    optional: ClassVar[tuple[str, ...]] = ("prompt",)

    tokenizer: Path
    suffix_tokens: int = 128
    max_prefix_tokens: int = 1920
    min_prefix_tokens: int = 1

    @property
    def types(self) -> dict[str, pa.DataType]:
        return {
            "prefix_ids": IDS, "suffix_ids": IDS, "rewrite": pa.string(), "rewrite_ids": IDS,
            "rewrite_copied": pa.bool_(), "rewrite_status": pa.string(), "rewrite_reason": pa.string(),
            "rewrite_by": pa.string(), "rewrite_tokens": pa.int64(),
        }  # fmt: skip

    def check(self) -> None:
        require_values(("suffix_tokens", self.suffix_tokens, self.suffix_tokens >= 1, "at least one token"))
        if not hash_tokenizer(self.tokenizer):
            raise ConfigError(
                f"tokenizer {str(self.tokenizer)!r}",
                reason="there is no folder with a tokenizer's files",
                remedy="name the folder of the model that will be trained: its ids are stored",
            )
        super().check()
        self._check_room()
        self.cutter()

    def check_rows(self, source: CorpusRows) -> None:
        """Tries to cut the first rows, until one can be.

        Raises:
            DataError: none of them can.
        """
        cutter = self.cutter()
        for piece in (source.read(row, row + 1) for row in range(min(source.rows, _LOOKED_AT))):
            if not isinstance(cutter.cut(next(texts(piece, self.mapped))), str):
                return
        skipped = ", ".join(f"{reason}: {count}" for reason, count in cutter.skipped.most_common())
        raise DataError(
            f"suffix_tokens={self.suffix_tokens}: none of the first {cutter.skipped.total()} documents can be cut",
            reason=skipped,
            remedy="lower --suffix-tokens or --min-prefix-tokens, or give longer documents",
        )

    def settings(self, source: Mapping[str, Any]) -> dict[str, Any]:
        return super().settings(source) | {
            "tokenizer": hash_tokenizer(self.tokenizer),
            "suffix_tokens": self.suffix_tokens,
            "max_prefix_tokens": self.max_prefix_tokens,
            "min_prefix_tokens": self.min_prefix_tokens,
        }

    def asker(self, backend: JudgeBackend, cache: JudgeCache) -> SuffixAsker:
        return SuffixAsker(self, backend, cache)

    def cutter(self) -> Cutter:
        """Cuts documents.

        Raises:
            ConfigError: lengths with which none can be cut.
            DataError: the tokenizer cannot be loaded, or has no EOS.
        """
        return Cutter(
            load_tokenizer(self.tokenizer, hash_tokenizer(self.tokenizer)),
            suffix_tokens=self.suffix_tokens,
            max_prefix_tokens=self.max_prefix_tokens,
            min_prefix_tokens=self.min_prefix_tokens,
        )

    def _check_room(self) -> None:
        """A suffix has to fit into the question, and its rewrite into the answer."""
        most, where = self.sampling.max_new_tokens, "an answer"
        if self.rewriter.kind == "python":
            return
        if self.rewriter.kind in ("hf", "vllm") and self.rewriter.prompt_limit(self.sampling) < most:
            most, where = self.rewriter.prompt_limit(self.sampling), "a question"
        if self.suffix_tokens > most:
            raise ConfigError(
                f"suffix_tokens={self.suffix_tokens} with the rewriter {self.rewriter.kind}:{self.rewriter.target}",
                reason=f"{where} has room for {most} tokens",
                remedy="lower --suffix-tokens"
                + (", or raise --max-tokens" if where == "an answer" else ", or --max-tokens"),
            )


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

    def questions(self, piece: Piece) -> list[PrefixSuffix | Answered]:
        found = [self._cutter.cut(fields, self.job.mapped) for fields in texts(piece, self.job.mapped)]
        return [Answered(self._skipped(entry)) if isinstance(entry, str) else entry for entry in found]

    def stream(self, questions: Iterable[PrefixSuffix]) -> Iterator[tuple[int, Answered]]:
        asked: dict[int, PrefixSuffix] = {}

        def kept() -> Iterator[PrefixSuffix]:
            for index, item in enumerate(questions):
                asked[index] = item
                yield item

        for index, rewritten in self._rewriter.stream(kept()):
            yield index, Answered(self._columns(asked.pop(index), rewritten), rewritten.candidate is None)

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


@lru_cache(maxsize=1)
def load_tokenizer(folder: Path, fingerprint: str):
    """The tokenizer in a folder whose files have this fingerprint.

    Raises:
        DataError: transformers cannot load it.
    """
    from ixt_rl.tokenizer_files import open_tokenizer

    try:
        return open_tokenizer(folder)
    except Exception as error:  # of many kinds
        raise DataError(
            f"tokenizer {str(folder)!r}", reason=f"transformers cannot load it: {error}", remedy="check the folder"
        ) from None
