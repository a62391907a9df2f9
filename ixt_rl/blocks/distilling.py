"""What stages that train with TRL's self-distillation trainers share. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks.strict import PositiveInt, Strict
from ixt_rl.errors import ConfigError

_KINDS = {"frozen": "base", "live": "live", "ema": "ema"}
"""What TRL calls a teacher."""

Share = Annotated[float, Field(ge=0, le=1)]
Mode = Annotated[
    Literal["sampled_token", "topk_logits", "full_logits"],
    Field(description="divergence on the taken tokens, over the policy's `topk` likeliest, or over the vocabulary"),
]


class TeacherBlock(Strict):
    """Which model is the teacher, as TRL has it."""

    source: Literal["live", "frozen", "ema"]
    rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="ema only: share of the policy that the average takes over at a time; default: 0.05"
    )
    every: PositiveInt | None = Field(None, description="ema only: updates between; default: 1")

    @model_validator(mode="after")
    def _moves(self) -> TeacherBlock:
        if self.source != "ema" and (self.rate is not None or self.every is not None):
            raise ConfigError(
                f"source={self.source} with rate={self.rate}, every={self.every}",
                reason="only an average moves by a rate",
                remedy="set source: ema, or leave both out",
            )
        return self


class DistillBlock(Strict):
    """What is distilled, and from which teacher."""

    teacher: TeacherBlock
    mode: Mode
    alpha: Share | None = Field(
        None,
        description="0: KL(teacher || policy), 1: KL(policy || teacher), between: Jensen-Shannon; default: 1 for "
        "sampled_token, which knows no other, else 0.5",
    )
    topk: PositiveInt | None = Field(
        None,
        description="topk_logits only: k, at most the vocabulary; what is left is renormalised; default: 100",
    )

    @model_validator(mode="after")
    def _mode(self) -> DistillBlock:
        if self.mode == "sampled_token" and self.alpha not in (None, 1):
            raise ConfigError(
                f"alpha={self.alpha} with mode: sampled_token",
                reason="on the taken tokens alone TRL has the reverse KL",
                remedy="leave alpha out, or set mode: full_logits",
            )
        if self.mode != "topk_logits" and self.topk is not None:
            raise ConfigError(
                f"topk={self.topk} with mode: {self.mode}",
                reason="nothing is cut to the likeliest tokens",
                remedy="leave topk out, or set mode: topk_logits",
            )
        return self

    @property
    def trl_options(self) -> dict[str, Any]:
        """Options of TRL's config."""
        teacher = self.teacher
        alpha = self.alpha if self.alpha is not None else 1.0 if self.mode == "sampled_token" else 0.5
        return {
            "teacher_model_kind": _KINDS[teacher.source],
            "teacher_update_rate": teacher.rate or 0.05,
            "teacher_sync_steps": teacher.every or 1,
            "distillation_mode": self.mode,
            "distillation_alpha": alpha,
            "distillation_topk": (self.topk or 100) if self.mode == "topk_logits" else None,
        }
