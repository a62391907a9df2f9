"""Models that are asked: who, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from ixt_rl.blocks import checks
from ixt_rl.blocks.rows import TakesRowsBlock
from ixt_rl.blocks.strict import (
    NonNegativeFloat,
    Parameters,
    PositiveFloat,
    Seed,
    Share,
    Strict,
    Tokens,
    Workers,
)
from ixt_rl.errors import ConfigError


class AsksJudgeBlock(Strict):
    """The judge that a reward asks: who, and how its answers are sampled."""

    judge: Annotated[str, AfterValidator(checks.check_asked_model)] = Field(
        description="python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER"
    )
    options: dict[str, Any] = Field(
        {}, description="of the endpoint or engine, as `ixt-rl annotate --judge-option` takes"
    )
    judge_parameters: Parameters | None = Field(
        None, description="parameters of the judge, for FLOPs; default: read from its folder, of others uncounted"
    )
    temperature: NonNegativeFloat = 0.0
    max_new_tokens: Tokens = Field(512, description="of the judge's answer, its thinking included")


class AnswerJudgeBlock(AsksJudgeBlock):
    """Who is asked about the answers that a `math` reward leaves undecided, once for each of them."""

    rubric: str = Field(
        "verifier", description="a shipped rubric over problem, solution (the answer) and reference, or a YAML file"
    )

    @model_validator(mode="after")
    def _exist(self, info: ValidationInfo) -> AnswerJudgeBlock:
        if self.judge == "world":
            raise ConfigError(
                "judge: world",
                reason="answers to a file's problems have no world that could judge them",
                remedy="name python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER",
            )
        checks.check_question_file(self.rubric, "rubrics", info)
        checks.check_asked(self.judge, self.options, self.max_new_tokens, "judge", info)
        return self


WORLD = "world"
"""`model` of a rewriter or judge that the stage's world has itself."""

RANDOM = "random"
"""`model` of a judge of candidates that reads nothing: the control."""


class AskedModelBlock(Strict):
    """A model that is asked: by name, and how its answers are sampled."""

    role: ClassVar[str]
    """How messages call it."""

    model: Annotated[str, AfterValidator(checks.check_asked_model)] = Field(
        WORLD, description="`world`, or python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER, vllm:FOLDER"
    )
    options: dict[str, Any] = Field(
        {}, description="of the endpoint or engine, as `ixt-rl annotate --judge-option` takes"
    )
    temperature: NonNegativeFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.6
    max_new_tokens: Tokens = 512
    seed: Seed = 0

    @model_validator(mode="after")
    def _options(self, info: ValidationInfo) -> AskedModelBlock:
        checks.check_asked(self.model, self.options, self.max_new_tokens, self.role, info)
        return self


class RewriterBlock(AskedModelBlock, TakesRowsBlock):
    """Who rewrites suffixes: leaves good ones as they are, steers the others."""

    role: ClassVar[str] = "rewriter"

    model: Annotated[str, AfterValidator(checks.check_rewriter_model)] = Field(
        WORLD,
        description="`world`, python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER; or stored:FOLDER, the "
        "rewrites of an `ixt-rl rewrite` job",
    )
    prompt: str = Field(
        "quality",
        description="quality, safety, reasoning; table, faq, tutorial, math, which write another form; or a YAML file",
    )
    error: Share = Field(0.0, description="`world` only: share of its rewrites that are wrong")

    @model_validator(mode="after")
    def _prompt(self, info: ValidationInfo) -> RewriterBlock:
        checks.check_question_file(self.prompt, "prompts", info)
        return self

    @model_validator(mode="after")
    def _one(self) -> RewriterBlock:
        if self.from_ is not None and self.model != WORLD:
            raise ConfigError(
                f"model={self.model!r} with from={self.from_!r}",
                reason="rewrites are asked for now, or are those that a stage has made",
                remedy="leave one of the two out",
            )
        return self

    def of_folder(self, folder: Path) -> dict[str, Any]:
        return {"model": f"stored:{folder}"}


class JudgeBlock(AskedModelBlock):
    """Who scores candidates, and on what."""

    role: ClassVar[str] = "judge"

    model: Annotated[str, AfterValidator(checks.check_choosing_model)] = Field(
        WORLD,
        description="`world`, or python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER, vllm:FOLDER; or `random`, which "
        "reads nothing and chooses by a hash: a control",
    )
    axes: Annotated[dict[str, PositiveFloat], Field(min_length=1)] = Field(
        {"quality": 1.0}, description="axis: weight; quality is pairwise, safety and factuality are pointwise"
    )
    against: Literal["all", "original"] = Field(
        "all", description="quality: compare with every other candidate, or with the original as the pivot"
    )
    repeats: Workers = Field(1, description="votes on every question; their mean counts")

    @model_validator(mode="after")
    def _axes(self, info: ValidationInfo) -> JudgeBlock:
        for axis in self.axes:
            checks.check_question_file(axis, "rubrics", info, also=("quality",))  # the pairwise one is no rubric's name
        return self

    @model_validator(mode="after")
    def _random(self) -> JudgeBlock:
        fields = type(self).model_fields
        given = [
            name for name in fields if name not in ("model", "seed") and getattr(self, name) != fields[name].default
        ]
        if self.model == RANDOM and given:
            raise ConfigError(
                f"{given[0]} with model: {RANDOM}",
                reason="nobody is asked, and nothing is read",
                remedy=f"leave {given[0]} out; `seed` draws anew",
            )
        return self


class JobModelBlock(AskedModelBlock):
    """A model that is asked about every row of a corpus; greedy unless told otherwise."""

    model: Annotated[str, AfterValidator(checks.check_asked_model)] = Field(
        description="python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER"
    )
    temperature: Annotated[float, Field(ge=0, le=2)] = Field(0.0, description="0: greedy")
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Tokens = Field(1024, description="longest answer, thinking included")


class JobJudgeBlock(JobModelBlock):
    """Who scores the rows."""

    role: ClassVar[str] = "judge"

    model: Annotated[str, AfterValidator(checks.check_asked_model)] = Field(
        description="python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER; or `world`, the verifier of the "
        "world that wrote the documents"
    )


class JobRewriterBlock(JobModelBlock):
    """Who rewrites the rows."""

    role: ClassVar[str] = "rewriter"

    @model_validator(mode="after")
    def _no_world(self) -> JobRewriterBlock:
        if self.model == WORLD:
            raise ConfigError(
                f"model: {WORLD}",
                reason="a world has no rewriter of whole corpora",
                remedy="name python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER",
            )
        return self
