"""Annotation as a stage: a judge scores the rows of a corpus, which later stages train on (`ixt-rl annotate`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.judges import WORLD, JobJudgeBlock
from ixt_rl.blocks.rows import WorldRowsBlock
from ixt_rl.blocks.strict import NonNegativeInt, Parameters, Workers
from ixt_rl.errors import ConfigError
from ixt_rl.methods.corpus import CorpusStage, shown
from ixt_rl.methods.spec import MethodSpec


class AnnotateStage(CorpusStage):
    """A judge scores every row by a rubric; its verdicts become feedback columns, which training reads."""

    type: Literal["annotate"]
    judge: JobJudgeBlock
    rubric: str = Field(description="a shipped rubric, such as web-text, or a YAML file")
    repeats: Workers = Field(1, description="votes on every row; their mean counts")
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share judged, by a hash of the texts")
    check_sample: NonNegativeInt = Field(0, description="rows asked again, to see whether the judge agrees with itself")
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        "feedback", description="start of the new columns' names"
    )
    judge_parameters: Parameters | None = Field(
        None, description="parameters of the judge, for FLOPs; default: read from its folder, of others uncounted"
    )

    def needed_fields(self, info: ValidationInfo) -> list[str]:
        return checks.question_fields(self.rubric, "rubrics", info, required=True) or []

    @model_validator(mode="after")
    def _judged(self, info: ValidationInfo) -> AnnotateStage:
        checks.check_question_file(self.rubric, "rubrics", info)
        self.check_fields(checks.question_fields(self.rubric, "rubrics", info), f"rubric {self.rubric}")
        if self.judge.model == WORLD and not isinstance(self.data, WorldRowsBlock):
            raise ConfigError(
                f"judge.model: {WORLD} on files",
                reason="files have no judge of their own",
                remedy="name one: python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER",
            )
        return self


SPEC = MethodSpec(
    type="annotate",
    stage=AnnotateStage,
    runner="ixt_rl.run.stages.corpus:annotate",
    seeded=False,
    makes_model=False,
    makes_rows=True,
    report=shown(
        **{
            "rows/judged": "rows with a verdict of the judge",
            "rows/undecided_share": "share of the rows asked about that have no usable answer",
            "rows/mean_level": "mean of the judged rows' levels, 1 to 5",
            "rows/agreement": "share of the rows asked again that got the same level",
        }
    ),
)
