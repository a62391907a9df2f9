"""Rewards of a stage, and how many failures it bears."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from ixt_rl.blocks import checks
from ixt_rl.blocks.judges import AnswerJudgeBlock, AsksJudgeBlock
from ixt_rl.blocks.python_name import check_names, check_python_name
from ixt_rl.blocks.strict import (
    Finite,
    Name,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seconds,
    Share,
    Strict,
    Workers,
)
from ixt_rl.errors import ConfigError


class RewardBlock(Strict):
    """What every reward has."""

    name: Name | None = Field(
        None,
        description="what `keep` calls it; default: the function of a python reward, else the type. Logs call it "
        "`<name, else type>_reward`",
    )
    weight: Finite = Field(1.0, description="in the sum that grpo, rloo and gpg compare; 0: logged only")
    type: str

    @property
    def called(self) -> str:
        """The name, or what stands in its place."""
        return self.name or self.type


class WorldRewardBlock(RewardBlock):
    """The world's verifier, in the view of the stage's data."""

    type: Literal["world"]


class MathRewardBlock(RewardBlock):
    """Mathematical answers against the gold one: right 1, wrong 0, undecided excluded."""

    type: Literal["math"]
    extract: Literal["auto", "boxed", "last_box", "hashes", "tags", "minerva"] = Field(
        "auto",
        description="where the answer stands: in the last \\boxed{} (boxed, last_box), after ####, in <answer> tags, "
        "after `The final answer is` (minerva), or the first of these and of `the answer is` that there is (auto)",
    )
    last_line: bool = Field(False, description="take a completion's last line where the answer stands nowhere else")
    tolerance: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        0.0, description="largest relative difference of a number from the gold, for suites whose rules allow one"
    )
    on_bad_gold: Literal["refuse", "drop"] = Field(
        "refuse", description="rows whose gold answer cannot be judged: an error, or left out and counted"
    )
    judge: AnswerJudgeBlock | None = Field(None, description="asked about undecided answers only; null: nobody")
    deadline_s: Seconds = Field(5.0, description="for judging one answer; past it the answer is undecided")
    workers: Workers = Field(1, description="child processes for what takes more than a small computation")


class FormatRewardBlock(RewardBlock):
    """1 when the whole completion matches a regular expression, else 0."""

    type: Literal["format"]
    pattern: Annotated[str, AfterValidator(checks.check_pattern)]


class LengthRewardBlock(RewardBlock):
    """0 up to `soft` tokens, falling linearly to -1 at `hard` tokens."""

    type: Literal["length"]
    soft: PositiveInt
    hard: PositiveInt


_GIVEN = ("prompts", "completions", "completion_ids")
"""What every reward is called with, by name, beside its rows' columns."""


def _check_reward(text: str, info: ValidationInfo) -> str:
    """As `check_python_name`; a function whose arguments are in plain sight takes what rewards are called with."""
    text = check_python_name(text, info)
    check_names(text, info, _GIVEN, "(completions, **columns), which returns a value for each completion")
    return text


class PythonRewardBlock(RewardBlock):
    """Any function with TRL's reward signature, from a file or an installed package."""

    type: Literal["python"]
    path: Annotated[str, AfterValidator(_check_reward)] = Field(
        description="FILE.py:FUNCTION or package.module:FUNCTION"
    )

    @property
    def called(self) -> str:
        return self.name or self.path.rpartition(":")[2]


class JudgeRewardBlock(AsksJudgeBlock, RewardBlock):
    """A judge's verdict on a rubric, on 0..1; undecided excluded."""

    type: Literal["judge"]
    rubric: str = Field("suffix-match", description="a shipped rubric that reads one completion, or a YAML file")

    @model_validator(mode="after")
    def _exist(self, info: ValidationInfo) -> JudgeRewardBlock:
        if self.judge == "world":
            raise ConfigError(
                "judge: world", reason="a world's own judge is a reward of its own", remedy="write {type: world}"
            )
        checks.check_question_file(self.rubric, "rubrics", info)
        checks.check_asked(self.judge, self.options, self.max_new_tokens, "judge", info)
        return self


class ContinuationRewardBlock(RewardBlock):
    """1 where what is said outside of thoughts is how the row's answer begins, to the character, else 0 (RPT)."""

    type: Literal["continuation"]
    words: PositiveInt = Field(1, description="fewest words of a prediction; of a shorter answer all of it")


class VerdictRewardBlock(RewardBlock):
    """Trains a judge: 1 where its verdict is the row's answer, else 0 (rows of `ixt-rl examples judge`)."""

    type: Literal["verdict"]
    rubric: str = Field("pairwise-quality", description="what the prompts ask: a shipped rubric, or a YAML file")
    unreadable: Finite | None = Field(
        0.0, description="reward of an answer without a readable verdict, or cut off; null: the sample is left out"
    )

    @model_validator(mode="after")
    def _exists(self, info: ValidationInfo) -> VerdictRewardBlock:
        checks.check_question_file(self.rubric, "rubrics", info)
        return self


class RewriteRewardBlock(AsksJudgeBlock, RewardBlock):
    """Trains a rewriter: 1 for copying a fine suffix, else 0; the mean of judged quality and safety of other rewrites.

    For rows of `ixt-rl examples rewriter`. What the judge leaves undecided is excluded.
    """

    type: Literal["rewrite"]
    repeats: Workers = Field(1, description="votes on every question, and on each order of a pair")
    unreadable: Finite | None = Field(
        0.0, description="reward of an answer that is no rewrite, or cut off; null: the sample is left out"
    )

    @model_validator(mode="after")
    def _no_world(self, info: ValidationInfo) -> RewriteRewardBlock:
        if self.judge == "world":
            raise ConfigError(
                "judge: world",
                reason="rewrites of files have no world that could judge them",
                remedy="name python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER",
            )
        checks.check_asked(self.judge, self.options, self.max_new_tokens, "judge", info)
        return self


Reward = Annotated[
    WorldRewardBlock
    | MathRewardBlock
    | FormatRewardBlock
    | LengthRewardBlock
    | PythonRewardBlock
    | JudgeRewardBlock
    | ContinuationRewardBlock
    | VerdictRewardBlock
    | RewriteRewardBlock,
    Field(discriminator="type"),
]


def judges_asked(rewards: Sequence[RewardBlock]) -> list[AsksJudgeBlock]:
    """Who rewards ask: of each that asks, its own judge, or the one of what it leaves undecided."""
    asking = [reward if isinstance(reward, AsksJudgeBlock) else getattr(reward, "judge", None) for reward in rewards]
    return [one for one in asking if isinstance(one, AsksJudgeBlock)]


class RewardErrorsBlock(Strict):
    """How many failing or late reward calls a run bears before it stops; failed samples are excluded and saved."""

    max_share: Share = Field(0.25, description="of one step's samples")
    max_total: NonNegativeInt = 1000
    deadline_s: PositiveFloat = Field(
        1800.0, description="seconds a reward may take for a step's samples; then they are asked one by one, and what "
        "is not answered fails"
    )  # fmt: skip
