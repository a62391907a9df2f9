"""Suites of benchmarks that a model is measured on while it trains."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from ixt_rl.blocks import checks
from ixt_rl.blocks.strict import BatchSize, NonNegativeFloat, Rows, Strict, Tokens


class SuitesBlock(Strict):
    """Suites that every evaluation of a stage asks, beside its own problems: metrics `suite/<name>/...`."""

    names: Annotated[list[str], Field(min_length=1)] = Field(
        description="as `ixt-rl eval --suite` takes them: names of `ixt-rl suites`, YAML files, files of rows"
    )
    data: Annotated[str, AfterValidator(checks.check_folder)] | None = Field(
        None, description="folder with the suites' files, as they were published"
    )
    preset: str = Field("paper", description="prompt, sampling, extraction: a name of `ixt-rl suites`, or a YAML file")
    limit: Rows | None = Field(50, description="the first so many questions of each suite; null: all")
    samples: BatchSize | None = Field(None, description="answers a question; default: the preset's and the suite's")
    max_new_tokens: Tokens | None = Field(None, description="longest answer; default: the preset's")
    temperature: NonNegativeFloat | None = Field(None, description="0: greedy; default: the preset's")
