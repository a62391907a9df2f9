"""How a stage samples the policy, in training and in evaluation."""

from __future__ import annotations

import operator
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
)

from ixt_rl.blocks.strict import BatchSize, NonNegativeInt, PositiveFloat, PositiveInt, Rows, Share, Strict, Tokens
from ixt_rl.blocks.suites import SuitesBlock
from ixt_rl.types import check_stop_strings


def _stop(value: list[str] | None) -> list[str] | None:
    check_stop_strings(value or [])
    return value


StopStrings = Annotated[list[str], AfterValidator(_stop)]


class SamplingBlock(Strict):
    """How a stage samples the policy; what samples it is the run's `engine` block."""

    max_new_tokens: Tokens
    temperature: PositiveFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: NonNegativeInt = 0
    min_p: Share = Field(0.0, description="keep tokens at least this share as likely as the most likely one; 0: all")
    max_prompt_tokens: Tokens = 1024
    on_long: Literal["fail", "drop", "truncate"] = Field(
        "fail", description="what happens to a prompt longer than max_prompt_tokens; truncate keeps its end"
    )
    batch_size: BatchSize = Field(256, description="rows generated at once (engine transformers)")
    stop: StopStrings = Field(
        [],
        exclude_if=operator.not_,
        description="texts that end a completion; its ids keep the token that completed one, its text ends before it",
    )

    @property
    def truncated(self) -> str:
        """The settings that keep some tokens only, in words; "" where all are kept."""
        neutral = {"top_p": 1.0, "top_k": 0, "min_p": 0.0}
        return ", ".join(f"{key}={getattr(self, key)}" for key, value in neutral.items() if getattr(self, key) != value)


class DynamicSamplingBlock(Strict):
    """Dynamic sampling (DAPO, arXiv 2503.14476): what is done with groups that teach nothing."""

    max_rounds: Annotated[int, Field(ge=1, le=1000)] = Field(
        8, description="most times that groups are drawn again for one batch, which is then trained as it is"
    )


class EvaluationBlock(Strict):
    """Measured on held-out problems, greedy and sampled, plain and told the answer."""

    every: PositiveInt = 20
    problems: Rows = 200
    at_start: bool = True
    temperature: PositiveFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    samples: BatchSize = Field(1, description="sampled completions a problem (avg@k)")
    stop: StopStrings | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="texts that end a completion; default: those of the stage's rollouts",
    )
    suites: SuitesBlock | None = Field(
        None, exclude_if=lambda value: value is None, description="suites of benchmarks, measured beside the problems"
    )
