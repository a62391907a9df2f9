"""What a rewriting job is: suffixes of documents rewritten, or thoughts put between the pieces of whole documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import pyarrow as pa

from ixt_rl.corpus.job import BatchJob, map_fields, require_sampling
from ixt_rl.judging.opening import JudgeSpec, OpenJudge, open_judge
from ixt_rl.rewriting.prompt import RewritePrompt
from ixt_rl.types import SamplingParams

IDS = pa.list_(pa.int32())


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
    def longest_reply(self) -> int:
        return self.sampling.max_new_tokens

    @property
    def reason(self) -> str:
        return f"{self.column}_reason"

    @property
    def by(self) -> str:
        return f"{self.column}_by"

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
            "sampling": self.sampling.settings(),
            "format": self.format,
            "shard_rows": self.shard_rows,
        }

    def start(self) -> OpenJudge:
        return open_judge(self.rewriter, self.sampling)
