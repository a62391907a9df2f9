"""Methods whose reward is how likely the model itself finds a text after the rationale: LaTRO and RLP."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from ixt_rl.blocks.checks import check_shown
from ixt_rl.blocks.data import WORLDS_OF_TEXT, problem_files
from ixt_rl.blocks.strict import Strict
from ixt_rl.errors import ConfigError
from ixt_rl.methods.online import OnlineStage


class SelfRewardBlock(Strict):
    """What follows the rationale."""

    target: str | None = Field(
        None,
        description="the text whose log-prob rewards, with {answer}; default: `{answer}`, and after problems in "
        "natural language a line `The final answer is {answer}`",
    )

    @model_validator(mode="after")
    def _shows(self) -> SelfRewardBlock:
        if self.target is not None:
            check_shown("target", self.target, {"answer"}, "it shows the row's answer, and nothing else of it")
        return self


class SelfRewardStage(OnlineStage):
    """A method whose reward is the model's own; `rewards` are logged and measured, and train nothing."""

    @property
    def target(self) -> str:
        """The text after a rationale."""
        text = problem_files(self.data) or getattr(self.data, "world", None) in WORLDS_OF_TEXT
        return self.own.target or ("\nThe final answer is {answer}" if text else "{answer}")

    @property
    def reads_rewards(self) -> bool:
        return False

    @property
    def surprises(self) -> list[str]:
        return [*super().surprises, f"stages.{self.name}.rewards: logged, no more; {self.type} rewards by log-probs"]

    @model_validator(mode="after")
    def _no_dynamic_sampling(self) -> SelfRewardStage:
        if self.dynamic_sampling is not None:
            raise ConfigError(
                f"dynamic_sampling with type: {self.type}",
                reason="no two rationales have one log-prob: every group teaches something",
                remedy="leave dynamic_sampling out",
            )
        return self


def target_option(stage: Any) -> dict[str, Any]:
    """`SelfRewardConfig`'s."""
    return {"target": stage.target}
