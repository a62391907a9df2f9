"""Measuring a model."""

from __future__ import annotations

from math import ceil
from typing import Any, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks.data import Data, problems_of_world
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.blocks.strict import BatchSize, PositiveFloat, Rows, Share, Strict
from ixt_rl.blocks.template import TemplateBlock, TemplateName, check_template_columns, renders_chats
from ixt_rl.errors import ConfigError
from ixt_rl.methods.measured import check_measurable
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec
from ixt_rl.methods.stage import Stage


class TruePosteriorBlock(Strict):
    """How far the model that is told the answer is from the true posterior pi(z | x, y): KL of whole completions."""

    problems: Rows = Field(50, description="the first of those measured")
    samples: BatchSize = Field(64, description="completions drawn of each problem, plain and as many told the answer")
    least_effective: PositiveFloat = Field(
        16.0, description="effective sample size below which a problem is undecided; see docs/told.md"
    )

    @model_validator(mode="after")
    def _decides(self) -> TruePosteriorBlock:
        if 2 * self.samples < self.least_effective:
            raise ConfigError(
                f"samples={self.samples} with least_effective={self.least_effective:g}",
                reason="an effective sample size is at most that of all samples, plain and told: no problem could be "
                "decided",
                remedy=f"set samples to {4 * ceil(self.least_effective)} or more, or lower least_effective",
            )
        return self


class EvaluateStage(Stage):
    """Measures a model, and stops the run where a precondition of the later stages does not hold."""

    type: Literal["evaluate"]
    data: Data
    template: TemplateName | TemplateBlock | None = None
    sampling: SamplingBlock
    problems: Rows | None = Field(None, description="default: 400 of a world, of a file all that are held out")
    min_told_gap: Share | None = Field(
        None,
        description="stop unless accuracy told the answer exceeds the plain one by this much: strict accuracy in a "
        "world, checked accuracy on a file",
    )
    controls: bool = Field(
        True,
        exclude_if=lambda value: value,
        description="also sample told a wrong answer, told a random one, and told nothing in the told prompt's form: "
        "three samples a problem more",
    )
    posterior: TruePosteriorBlock | None = Field(
        None, exclude_if=lambda value: value is None, description="left out: not measured"
    )

    @model_validator(mode="before")
    @classmethod
    def _problems(cls, value: Any) -> Any:
        return problems_of_world(value, 400)

    @model_validator(mode="after")
    def _measures(self) -> EvaluateStage:
        check_measurable(self.data, "data")
        check_template_columns(self.template, self.data)
        if self.posterior is not None and self.sampling.truncated:
            raise ConfigError(
                f"posterior with sampling.{self.sampling.truncated}",
                reason="divergences are those of whole distributions, and truncated ones give some completions none at "
                "all",
                remedy="leave top_p, top_k and min_p out, or measure the posterior in an evaluate stage of its own",
            )
        return self

    @property
    def renders_chats(self) -> bool:
        return renders_chats(self.template)


def label(block: Block) -> str:
    return "base"


SPEC = MethodSpec(
    type="evaluate",
    stage=EvaluateStage,
    runner="ixt_rl.run.stages.evaluate:run",
    needs=frozenset({"engine"}),
    seeded=False,
    makes_model=False,
    precondition="ixt_rl.run.stages.evaluate:check_told_gap",
    report=MethodReport(
        label=label,
        role="measured",
        glossary={
            "told/gap": "told the right answer minus plain, both sampled: strict in a world, else checked",
            "posterior/kl": "KL divergence of the true posterior of a problem from the model told its answer, in nats "
            "a completion",
            "posterior/kl_policy": "the same from the model that is told nothing",
            "posterior/gain": "the second less the first: how much nearer to the true posterior telling brings it",
        },
    ),
)
