"""DPO (arXiv 2305.18290) on preference pairs of files: TRL's loss on this library's token ids."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks.best import BestBlock
from ixt_rl.blocks.duration import PassesBlock
from ixt_rl.blocks.model import LoraBlock
from ixt_rl.blocks.optim import OptimBlock
from ixt_rl.blocks.preferences import PairDataBlock, PairsBlock
from ixt_rl.blocks.strict import BatchSize, PositiveFloat, PositiveInt, Strict
from ixt_rl.blocks.template import PromptBlock, ShippedTemplateName, check_template_of_replies, renders_chats
from ixt_rl.errors import ConfigError
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec, Panel
from ixt_rl.methods.stage import Stage


class DpoBlock(Strict):
    """DPO's own keys."""

    beta: PositiveFloat = Field(0.1, description="how closely the policy is held to the reference, the initial model")


class PairEvaluationBlock(Strict):
    """Measured on preference pairs that no training saw."""

    every: PositiveInt = 200
    at_start: bool = Field(True, exclude_if=lambda value: value, description="also before the first update")
    pairs: PairsBlock
    wishes: ClassVar[dict[str, int | str | None]] = {"none": None}
    """A prompt that shows no feedback has one form."""


class DpoStage(BestBlock, PassesBlock, Stage):
    """DPO on preference pairs of files, towards the chosen reply and away from the rejected one."""

    type: Literal["dpo"]
    data: PairDataBlock
    template: ShippedTemplateName | PromptBlock | None = Field(
        None, description="how prompts are shown, as for sft; default: the prompt is the user's message in a chat"
    )
    chat_template_kwargs: dict[str, Any] = Field({}, description="variables of the tokenizer's chat template")
    dpo: DpoBlock = DpoBlock()
    batch_size: BatchSize = Field(8, description="pairs of each update")
    micro_batch_size: BatchSize | None = Field(None, description="pairs in one forward pass; default: all")
    optim: OptimBlock
    evaluation: PairEvaluationBlock | None = None
    lora: LoraBlock | None = None
    gradient_checkpointing: bool = False
    checkpoint_every: PositiveInt | None = None
    ratio_of_one_network: ClassVar[bool] = True

    @property
    def is_chat(self) -> bool:
        """Whether prompts go through the tokenizer's chat template."""
        return self.template is None or renders_chats(self.template)

    @property
    def renders_chats(self) -> bool:
        return self.is_chat

    @model_validator(mode="after")
    def _fits(self) -> DpoStage:
        if self.batch_size % (self.micro_batch_size or 1):
            raise ConfigError(
                f"batch_size={self.batch_size} with micro_batch_size={self.micro_batch_size}",
                reason="an update's pairs are computed in whole micro-batches",
                remedy=f"make batch_size a multiple of {self.micro_batch_size}",
            )
        if not self.is_chat and self.chat_template_kwargs:
            raise ConfigError(
                "template without chat on chat_template_kwargs",
                reason="plain prompts do not go through the tokenizer's chat template",
                remedy="leave template out, or set chat: true in it",
            )
        check_template_of_replies(self.template)
        return self


def options(stage: DpoStage) -> dict[str, Any]:
    """`DPOConfig`'s."""
    return {"beta": stage.dpo.beta}


def label(block: Block) -> str:
    return "DPO"


SPEC = MethodSpec(
    type="dpo",
    stage=DpoStage,
    runner="ixt_rl.run.stages.dpo:run",
    trainer="ixt_rl.trainers.dpo:DPOTrainer",
    options=options,
    block="dpo",
    report=MethodReport(
        label=label,
        learns_from="documents",
        title="DPO on pairs",
        caption="Implicit rewards, beta (log p - log p of the initial model), of an update's pairs.",
        panels=(
            Panel("loss (log 2 at the start)", (("loss", "-", ""),)),
            Panel("reward", (("rewards/chosen", "-", "chosen"), ("rewards/rejected", "--", "rejected")), 0.0),
            Panel("pairs, the chosen ahead", (("rewards/accuracies", "-", ""),), 0.5),
        ),
        glossary={
            "rewards/chosen": "beta (log p - log p of the initial model) of the chosen replies, mean",
            "rewards/rejected": "the same of the rejected ones",
            "rewards/accuracies": "share of pairs where it is higher for the chosen reply",
        },
    ),
)
