"""Online training on the policy's own rollouts: what InTRO, RAFT and the policy gradients share."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.best import BestBlock
from ixt_rl.blocks.data import Data, FileDataBlock, PrefixDataBlock, ProblemMixtureBlock, WorldDataBlock, problem_files
from ixt_rl.blocks.difficulty import DifficultyBlock
from ixt_rl.blocks.duration import DurationBlock
from ixt_rl.blocks.keeping import KeepBlock, check_keep, keep_notes
from ixt_rl.blocks.model import LoraBlock
from ixt_rl.blocks.openrlhf import BackendBlock
from ixt_rl.blocks.optim import OptimBlock
from ixt_rl.blocks.rewards import Reward, RewardErrorsBlock
from ixt_rl.blocks.sampling import DynamicSamplingBlock, EvaluationBlock, SamplingBlock
from ixt_rl.blocks.strict import (
    BatchSize,
    PositiveInt,
)
from ixt_rl.blocks.template import TemplateBlock, TemplateName, check_template_columns, renders_chats
from ixt_rl.blocks.told import ToldBlock
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.methods.measured import check_held_out
from ixt_rl.methods.openrlhf import check_openrlhf
from ixt_rl.methods.stage import Stage, Unread


class OnlineStage(DurationBlock, BestBlock, BackendBlock, Stage):
    """Online training on the policy's own rollouts; `type` alone chooses the method."""

    type: str
    data: Data
    template: TemplateName | TemplateBlock | None = Field(
        None, description="a named template or an inline one; default: the world's, or `math`"
    )
    difficulty: DifficultyBlock | None = Field(
        None, description="files only: problems are trained on whose pass rate lies within bounds"
    )
    rollouts_per_step: BatchSize = Field(description="completions sampled before each update")
    group_size: Annotated[int, Field(ge=2, le=10**6)] = Field(4, description="G, completions of one prompt")
    micro_batch_size: BatchSize | None = Field(None, description="rows in one forward pass; default: all")
    steps_per_generation: BatchSize = Field(
        1, description="updates whose rollouts are sampled together, before the first"
    )
    num_iterations: BatchSize = Field(1, description="times that each rollout is trained on")
    dynamic_sampling: DynamicSamplingBlock | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="draw groups that teach nothing again, of other prompts, until the batch is full; null: never",
    )
    sampling: SamplingBlock
    optim: OptimBlock
    rewards: Annotated[list[Reward], Field(min_length=1)]
    reward_errors: RewardErrorsBlock = RewardErrorsBlock()
    evaluation: EvaluationBlock | None = Field(
        EvaluationBlock(), description="null: none; default: null where the data sets no rows aside (data.eval_rows)"
    )
    lora: LoraBlock | None = None
    gradient_checkpointing: bool = False
    checkpoint_every: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_rows_no_evaluation(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "evaluation" in value or not isinstance(value.get("data"), dict):
            return value
        data = value["data"]
        kind = PrefixDataBlock if "suffix_tokens" in data else FileDataBlock
        default = kind.model_fields["eval_rows"].default
        found = data["sources"] if isinstance(data.get("sources"), list) else [data]
        aside = [one.get("eval_rows", default) for one in found if isinstance(one, dict)]
        held_out = "world" in data or any(aside)
        return value if held_out else {**value, "evaluation": None}

    ratio_of_one_network: ClassVar[bool] = True
    block: ClassVar[str] = ""
    """Key of the method's own block."""
    other_blocks: ClassVar[tuple[str, ...]] = ()
    """Those of the other methods; see `ixt_rl.methods.registry`."""
    weighs_samples: ClassVar[bool] = True
    """Whether what an engine sampled counts by the policy's ratio to it (`engine.correction`)."""

    @property
    def unread(self) -> list[Unread]:
        found: list[Unread] = [(self, key, key, f"type: {self.type}") for key in self.other_blocks]
        if self.backend is not None and self.evaluation is not None:
            found.append((self.evaluation, "every", "evaluation.every", f"backend: {self.backend}"))
        return found

    @property
    def reads_of_engine(self) -> tuple[str, ...]:
        if self.backend is not None:
            return ()
        return ("correction", "staleness") if self.weighs_samples else ("staleness",)

    @property
    def own(self) -> Any:
        """The method's own block."""
        return getattr(self, self.block)

    @property
    def tells(self) -> tuple[Literal["wrong", "random", "form"], ...]:
        """What the rows need to be told beside their answer; see `ixt_rl.conditioning.told`."""
        return ()

    @property
    def kept_by(self) -> KeepBlock | None:
        """The block that says which rationales are trained; None for methods that compare weighted sums."""
        return self.own if self.block and isinstance(self.own, KeepBlock) else None

    @property
    def reads_rewards(self) -> bool:
        """Whether `rewards` decide what is trained; else they are logged and measured alone."""
        return True

    @property
    def averages(self) -> str:
        """The setting by which a moving average of the policy's weights is kept; "" where there is none."""
        told = self.own if self.block and isinstance(self.own, ToldBlock) else None
        return f"{self.block}.posterior.source=ema" if told is not None and told.posterior.source == "ema" else ""

    @property
    def samples_again(self) -> str:
        """The setting by which whole groups are sampled once more when they are judged; "" where none are."""
        return "" if self.dynamic_sampling is None else "dynamic_sampling"

    @property
    def max_rounds(self) -> int:
        """Most times that groups are drawn again for one batch."""
        return 0 if self.dynamic_sampling is None else self.dynamic_sampling.max_rounds

    @property
    def evaluation_stop(self) -> list[str]:
        """Stop strings of the evaluation: its own, or those of the rollouts."""
        own = None if self.evaluation is None else self.evaluation.stop
        return self.sampling.stop if own is None else own

    @property
    def surprises(self) -> list[str]:
        return keep_notes(self.rewards, self.kept_by, f"stages.{self.name}.{self.block}", self.type)

    @property
    def renders_chats(self) -> bool:
        return renders_chats(self.template)

    @property
    def reuses_rollouts(self) -> bool:
        """Whether rollouts serve updates after the policy has moved."""
        return self.steps_per_generation * self.num_iterations > 1

    def rollouts_until(self, step: int) -> int:
        """Completions sampled by the end of an update."""
        generations = math.ceil(step / (self.steps_per_generation * self.num_iterations))
        return generations * self.steps_per_generation * self.rollouts_per_step

    @property
    def weighs_by_ratio(self) -> bool:
        """Whether rollouts of an older policy are weighed by the ratio of the two."""
        return True

    @property
    def reusable(self) -> bool:
        """Whether rollouts may serve updates after the policy has moved."""
        return self.weighs_by_ratio

    @property
    def uses_ratio(self) -> bool:
        """Whether the loss forms a ratio of two probabilities of one token."""
        return True

    @model_validator(mode="after")
    def _length(self) -> OnlineStage:
        if self.epochs is not None and isinstance(self.data, WorldDataBlock):
            raise ConfigError(
                f"epochs={self.epochs:g} with world: {self.data.world}",
                reason="a world has no end that could be reached",
                remedy="give steps",
            )
        return self

    @model_validator(mode="after")
    def _rated(self) -> OnlineStage:
        if self.difficulty is not None and not problem_files(self.data):
            raise ConfigError(
                f"difficulty with {'a world' if isinstance(self.data, WorldDataBlock) else 'prefixes of documents'}",
                reason="it chooses among the problems of files",
                remedy="leave it out, or name files of problems",
            )
        return self

    def lasting(self, problems: int) -> OnlineStage:
        """The stage with its number of updates; where `epochs` says how long, from how many problems there are.

        Problems that fill no generation are left out of a pass, each time others.

        Raises:
            DataError: they fill none: a trainer would end without an update.
        """
        at_once = self.steps_per_generation * self.rollouts_per_step // self.group_size
        generations = problems // at_once
        fills = self.epochs is None and isinstance(self.data, ProblemMixtureBlock)  # a batch from several passes
        if not generations and not fills:
            raise DataError(
                ("" if self.epochs is None else f"epochs={self.epochs:g} of ") + f"{problems} problems",
                reason=f"{at_once} are sampled at once, so that a pass has no update",
                remedy="lower rollouts_per_step or steps_per_generation"
                + ("" if self.difficulty is None else ", or widen the bounds of difficulty"),
            )
        if self.epochs is None:
            return self
        updates = self.epochs * generations * self.steps_per_generation * self.num_iterations
        return self.model_copy(update={"steps": max(1, round(updates))})

    @model_validator(mode="after")
    def _batch(self) -> OnlineStage:
        for key, divisor in (
            ("group_size", self.group_size),
            ("micro_batch_size", self.micro_batch_size or 1),
        ):
            if self.rollouts_per_step % divisor:
                raise ConfigError(
                    f"rollouts_per_step={self.rollouts_per_step} with {key}={divisor}",
                    reason="a step's rollouts are whole groups, computed in whole micro-batches",
                    remedy=f"make rollouts_per_step a multiple of {divisor}",
                )
        if isinstance(self.data, WorldDataBlock) and self.steps is not None:
            checks.needs_rows(
                self.rollouts_until(self.steps) // self.group_size,
                f"steps={self.steps} with rollouts_per_step={self.rollouts_per_step}, group_size={self.group_size}",
            )
        return self

    @model_validator(mode="after")
    def _elsewhere(self) -> OnlineStage:
        if self.backend == "openrlhf":
            check_openrlhf(self)
        return self

    @model_validator(mode="after")
    def _reuse(self) -> OnlineStage:
        if self.reuses_rollouts and not self.reusable:
            key = f"{self.block}.importance_ratio" if self.block and hasattr(self.own, "importance_ratio") else ""
            raise ConfigError(
                f"steps_per_generation={self.steps_per_generation}, num_iterations={self.num_iterations} "
                + (f"without {key}" if key else f"with type: {self.type}"),
                reason="rollouts would be reused after the policy has moved, uncorrected",
                remedy=(f"set {key}: true, or " if key else "") + "use each rollout for one update",
            )
        return self

    @model_validator(mode="after")
    def _whole_weights(self) -> OnlineStage:
        if self.lora is not None and self.averages:
            others = f", or set {self.block}.posterior.source: frozen, lagged or live" if "=" in self.averages else ""
            raise ConfigError(
                f"{self.averages} with lora",
                reason="an average of adapters is not the adapter of an average",
                remedy=f"leave lora out{others}",
            )
        return self

    @model_validator(mode="after")
    def _truncated_ratio(self) -> OnlineStage:
        if self.uses_ratio and self.sampling.truncated:
            raise ConfigError(
                f"sampling: {self.sampling.truncated} with type: {self.type}",
                reason="truncated sampling renormalises over the tokens it keeps, the loss does not: "
                "every ratio would be biased",
                remedy="train with top_p: 1.0, top_k: 0 and min_p: 0.0 (evaluation.top_p may be lower), "
                "or use a type whose loss forms no ratio: gpg, opsd, or raft without importance_ratio",
            )
        return self

    @model_validator(mode="after")
    def _rewards_fit(self) -> OnlineStage:
        for reward in self.rewards:
            if reward.type == "world" and not isinstance(self.data, WorldDataBlock):
                raise ConfigError(
                    "a `world` reward on file data",
                    reason="a file has no verifier of its own",
                    remedy="use {type: math}, or your own with {type: python, path: FILE.py:FUNCTION}",
                )
            if reward.type == "length" and reward.hard <= reward.soft:
                raise ConfigError(
                    f"length reward with soft={reward.soft}, hard={reward.hard}",
                    reason="the penalty grows from soft to hard",
                    remedy="make hard larger than soft",
                )
        check_keep(self.rewards, self.kept_by, self.type, self.reads_rewards)
        check_template_columns(self.template, self.data)
        if self.evaluation is not None and self.evaluation.suites is None:
            check_held_out(self.data)
        return self
