"""Measuring a model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks.data import Data, problems_of_world
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.blocks.strict import (
    Rows,
    Share,
)
from ixt_rl.blocks.template import TemplateBlock, TemplateName, check_template_columns, renders_chats
from ixt_rl.methods.measured import check_measurable
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec
from ixt_rl.methods.stage import Stage


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

    @model_validator(mode="before")
    @classmethod
    def _problems(cls, value: Any) -> Any:
        return problems_of_world(value, 400)

    @model_validator(mode="after")
    def _measures(self) -> EvaluateStage:
        check_measurable(self.data, "data")
        check_template_columns(self.template, self.data)
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
    report=MethodReport(label=label, role="measured"),
)
