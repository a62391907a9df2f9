"""RLP: reinforcement as a pretraining objective (arXiv 2510.01265). A thought is rewarded for what it tells of a text.

    r(z) = log p(y | x, z') - log p_ema(y | x)                      x a prefix, z a thought, y how the document goes on
    A_i  = r_i - mean of the other r of its group                   G / (G - 1) times r_i less the group's mean
    loss = - 1/K sum_z 1/|z| sum_t min(rho_t A, clip(rho_t, 1 - epsilon, 1 + epsilon_high) A)

Only the thought's tokens are trained; what scores it is held fixed. p_ema is a moving average of the policy, and is not
shown the thought. Its term is the same for all thoughts of a group, so that it leaves A as it is: it says how much a
thought tells (`self_reward`), and costs a pass of [x, y] for each prompt.

Shapes: B rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import TrainerCallback

from ixt_rl.errors import ConfigError
from ixt_rl.trainers.ema import WeightAverage
from ixt_rl.trainers.reference_policy import is_zero3
from ixt_rl.trainers.self_reward import SelfRewardConfig, SelfRewardTrainer


@dataclass
class RLPConfig(SelfRewardConfig):
    """`SelfRewardConfig`, with `epsilon` and `epsilon_high` as bounds of a token's ratio, and the average that is not
    shown the thought.

    Args:
        decay: of the moving average, per update.
    """

    decay: float = field(default=0.999)

    own_options: ClassVar[tuple[str, ...]] = ("epsilon", "epsilon_high")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.decay < 1:
            raise ConfigError(
                f"decay={self.decay}", reason="it is a moving average's", remedy="give a number between 0 and 1"
            )


class RLPTrainer(SelfRewardTrainer):
    """RLP on TRL's GRPOTrainer; `answer` of a dataset row is how the text of its `prompt` goes on.

    Raises:
        ConfigError: LoRA or ZeRO-3, where the average cannot be had.
    """

    config_class: ClassVar[type] = RLPConfig
    _tag_names = ["trl", "ixt-rl", "rlp"]
    _name = "RLP"

    def __init__(self, model: Any, reward_funcs: Any, args: RLPConfig, **kwargs: Any):
        super().__init__(model, reward_funcs, args, **kwargs)
        self.average = WeightAverage(args.decay)
        self.add_callback(_Averages(self))
        if hasattr(self.model, "get_base_model") or is_zero3(self):
            raise ConfigError(
                f"RLP with {'ZeRO-3' if is_zero3(self) else 'LoRA'}",
                reason="the average of all weights would have to be gathered at every update"
                if is_zero3(self)
                else "an average of adapters is not the adapter of an average",
                remedy="use ZeRO-2" if is_zero3(self) else "train all weights",
            )

    def self_rewards(
        self, prompts: list[list[int]], rationales: list[list[int]], targets: list[list[int]], batch: dict[str, Any]
    ) -> Tensor:
        """(B,) what each thought tells of y, in nats."""
        told = super().self_rewards(prompts, rationales, targets, batch)
        pairs = [(tuple(x), tuple(y)) for x, y in zip(prompts, targets, strict=True)]
        alone = list(dict.fromkeys(pairs))
        wanted = int(self.accelerator.gather(torch.tensor(len(alone), device=told.device)).max())
        repeated = [*alone, *alone[:1] * (wanted - len(alone))]  # all ranks run equally many passes
        with self.average.applied(self.accelerator.unwrap_model(self.model)):
            found = self.scores([self.read_after(x, (), y) for x, y in repeated])
        untold = found[torch.tensor([alone.index(pair) for pair in pairs], device=found.device)]
        self.track("rlp/untold", untold)
        return told - untold

    # ---------------------------------------------------------------- checkpoints

    def write_files(self, folder: Path) -> None:
        super().write_files(folder)
        self.average.save(folder, self)

    def read_files(self, folder: Path) -> None:
        super().read_files(folder)
        self.average.load(folder, self.accelerator.unwrap_model(self.model))


class _Averages(TrainerCallback):
    """The average starts at the policy's first weights, and follows every update."""

    def __init__(self, trainer: RLPTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        if not self.trainer.average.weights:
            self.trainer.average.update(self.trainer.accelerator.unwrap_model(self.trainer.model))

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.average.update(self.trainer.accelerator.unwrap_model(self.trainer.model))
