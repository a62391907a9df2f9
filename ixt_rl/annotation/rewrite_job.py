"""What a rewriting job is: suffixes of documents rewritten, or thoughts put between the pieces of whole documents."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow as pa

from ixt_rl.annotation.batch import BatchJob, map_fields, require_sampling, require_values
from ixt_rl.annotation.fingerprints import hash_tokenizer
from ixt_rl.annotation.judges import JudgeSpec, OpenJudge, load_function, open_judge
from ixt_rl.annotation.pieces import texts
from ixt_rl.annotation.source import Source
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging.backend import JudgeBackend
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.rewrite_prompt import RewritePrompt
from ixt_rl.types import SamplingParams

if TYPE_CHECKING:
    from ixt_rl.annotation.rewrite_rows import Cutter, SuffixAsker, ThoughtAsker

IDS = pa.list_(pa.int32())
_LOOKED_AT = 1000  # rows, to find one that can be cut


@dataclass(frozen=True)
class RewritingJob(BatchJob):
    """What both kinds have; see `BatchJob` for the rest.

    Args:
        rewriter: who is asked.
        prompt: what.
        sampling: how its answers are sampled.
        fields: `text` -> column of the documents, by default `text`; `prompt` -> column of what they reply to, if any.

    Raises:
        ConfigError: a value that cannot work.
    """

    report: ClassVar[str] = "rewriting"
    asks: ClassVar[str] = "rewriter"
    phase: ClassVar[str] = "rewriting"
    doing: ClassVar[str] = "rewriting"
    renaming: ClassVar[str] = "rewrite files that have no such column, or rename it: the new names are fixed"
    column: ClassVar[str]  # of the new text; also how the names of most others begin
    changed: ClassVar[str]  # status of a row whose text is not the original
    optional: ClassVar[tuple[str, ...]] = ()

    rewriter: JudgeSpec
    prompt: RewritePrompt
    sampling: SamplingParams
    fields: Mapping[str, str]

    def __post_init__(self) -> None:
        require_sampling(self.sampling)
        super().__post_init__()

    @property
    def backend(self) -> JudgeSpec:
        return self.rewriter

    @property
    def reason(self) -> str:
        return f"{self.column}_reason"

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self.wanted)

    @property
    def wanted(self) -> dict[str, str]:
        return {"text": "text", **self.fields}

    @property
    def mapped(self) -> Mapping[str, str]:
        return self.wanted

    def check(self) -> None:
        self.rewriter.check(self.sampling)
        if self.rewriter.kind == "python":
            _require_two_texts(load_function(self.rewriter.target, self.rewriter.role), self.rewriter)

    def with_columns(self, columns: tuple[str, ...]) -> Self:
        found = map_fields("a rewriting", ("text",), self.optional, self.fields, columns)
        return replace(self, fields={name: column for name, column in found.items() if name in self.wanted})

    def settings(self, source: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "job": f"{self.report}: {self.column}",
            "input": dict(source),
            "rewriter": self.rewriter.identity(),
            "prompt": {"name": self.prompt.name, "prompt": self.prompt.prompt},
            "fields": self.wanted,
            "sampling": asdict(self.sampling),
            "format": self.format,
            "shard_rows": self.shard_rows,
        }

    def start(self) -> OpenJudge:
        return open_judge(self.rewriter, self.sampling, _of_two_texts)


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

    def check_rows(self, source: Source) -> None:
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
        from ixt_rl.annotation.rewrite_rows import SuffixAsker

        return SuffixAsker(self, backend, cache)

    def cutter(self) -> Cutter:
        """Cuts documents.

        Raises:
            ConfigError: lengths with which none can be cut.
            DataError: the tokenizer cannot be loaded, or has no EOS.
        """
        from ixt_rl.annotation.rewrite_rows import Cutter, load_tokenizer

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

    def check_rows(self, source: Source) -> None:
        """Any text can be thought about."""

    def settings(self, source: Mapping[str, Any]) -> dict[str, Any]:
        return super().settings(source) | {
            "chunk_characters": self.chunk_characters,
            "context_characters": self.context_characters,
        }

    def asker(self, backend: JudgeBackend, cache: JudgeCache) -> ThoughtAsker:
        from ixt_rl.annotation.rewrite_rows import ThoughtAsker

        return ThoughtAsker(self, backend, cache)


def _of_two_texts(function: Callable[..., Any]) -> Callable[[Mapping[str, str]], Any]:
    return lambda fields: function(fields["prefix"], fields["suffix"])


def _require_two_texts(function: Callable[..., Any], rewriter: JudgeSpec) -> None:
    try:
        inspect.signature(function).bind("prefix", "suffix")
    except TypeError as error:
        raise ConfigError(
            f"{rewriter.role} {rewriter.kind}:{rewriter.target}",
            reason=f"it cannot be called with a prefix and a suffix: {error}",
            remedy="write `def FUNCTION(prefix, suffix)`; it gives the new suffix, the same one, or None",
        ) from None
    except ValueError:  # a builtin without a signature
        return
