"""What trainers on rollouts share, whichever of TRL's classes is below them: metrics, reward totals, exact resume.

    log                      FLOPs by phase
    own_state, restore       place in the window of rollouts, its micro-batches, counts of rewards and engine

Overridden or read of TRL's: `log`, `_get_train_sampler`, `_step`, `_buffered_inputs`, `reward_weights`,
`reward_func_names`. tests/contract checks them.

Shapes: B rows, F reward functions.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ixt_rl.conditioning import row_ids
from ixt_rl.errors import ConfigError
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers.resumable import ResumableTrainer
from ixt_rl.types import Grade


class RolloutState(ResumableTrainer):
    """Mixin before a trainer of TRL's that samples: subclasses set `rollouts`."""

    args: Any  # the subclass's config; transformers and TRL type these three too widely to use
    model: Any
    processing_class: Any
    rollouts: EngineRollouts
    reward_funcs: Any
    reward_func_names: list[str]
    reward_weights: Tensor
    _step: int
    _buffered_inputs: Any
    _sampler: Any = None  # of the training rows; None for an iterable dataset

    # ---------------------------------------------------------------- for subclasses

    def encoded(self, rows: list[dict[str, Any]], column: str = "prompt") -> list[list[int]]:
        """Ids of the rows' prompts: those that a row brings in `<column>_ids`, or made here."""
        limit, options = self.rollouts.max_prompt_tokens, self.args.chat_template_kwargs
        return [row_ids(self.processing_class, row, column, limit, options) for row in rows]

    # ---------------------------------------------------------------- rewards

    def _incomplete(self, rewards_per_func: Tensor) -> Tensor:
        """(B,) bool: rows whose weighted sum lacks a part."""
        weighs = self.reward_weights.to(rewards_per_func.device) != 0
        return rewards_per_func[:, weighs].isnan().any(dim=1)

    def _exclude_infinite(self, rewards_per_func: Tensor) -> None:
        """Infinite rewards become undecided, in place: no mean or deviation of a group with one is a number."""
        infinite = rewards_per_func.isinf()
        if infinite.any():
            names = [self.reward_func_names[place] for place in infinite.any(dim=0).nonzero().flatten().tolist()]
            warnings.warn(
                f"step {self.state.global_step}: {', '.join(names)} gave {int(infinite.sum())} infinite rewards, which "
                "count as undecided. Return a finite number, or None.",
                stacklevel=2,
            )
            rewards_per_func[infinite] = float("nan")

    # ---------------------------------------------------------------- logs

    def track_grades(self, grades: Sequence[Grade]) -> None:
        """Logs what a world knows of a generation's rationales."""
        for name in ("checked", "strict", "reasoned"):
            self.track(f"rollout/{name}", torch.tensor([float(getattr(g, name)) for g in grades]))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training:
            logs |= self.flops_of_all()
        super().log(logs, start_time)

    # ---------------------------------------------------------------- checkpoints

    def own_state(self) -> dict[str, Any]:
        window = self._generation_span()
        buffered = self._buffered_inputs if self._step % window else None  # else the next micro-batch samples anew
        return {
            **super().own_state(),
            "micro_step": self._step,
            "window": self._window(),
            "buffered": buffered,
            "rollouts": self.rollouts.state_dict(self),
            "rewards": {name: reward.state_dict() for name, reward in self._counting_rewards()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        if state["buffered"] is not None and state["window"] != self._window():
            raise ConfigError(
                f"a checkpoint amid a window of {state['window']}, resumed with {self._window()}",
                reason="its rollouts are cut into the micro-batches of that window",
                remedy="resume with the options of the run that wrote it",
            )
        self._step = state["micro_step"]
        self._buffered_inputs = _to(state["buffered"], self.accelerator.device)
        self.rollouts.load_state_dict(state["rollouts"], self)
        for name, reward in self._counting_rewards():
            if name in state["rewards"]:
                reward.load_state_dict(state["rewards"][name])

    def _counting_rewards(self) -> list[tuple[str, Any]]:
        """Reward functions that count, as a `GuardedReward` does; a model that rewards has weights, and does not."""
        named = zip(self.reward_func_names, self.reward_funcs, strict=True)
        return [(n, f) for n, f in named if hasattr(f, "state_dict") and not isinstance(f, torch.nn.Module)]

    def _get_train_sampler(self, dataset=None):
        self._sampler = super()._get_train_sampler(dataset)
        return self._sampler

    def _skip_epochs(self, epochs: int) -> None:
        if self._sampler is not None and self._sampler.shuffle:
            for _ in range(epochs):  # it draws each pass's order from one generator
                torch.randperm(self._sampler.num_samples, generator=self._sampler.generator)

    def _window(self) -> dict[str, int]:
        names = ("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation", "num_iterations")
        return {name: getattr(self.args, name) for name in names}

    def _generation_span(self) -> int:
        return self.args.steps_per_generation * self.args.num_iterations


def _to(value: Any, device: torch.device) -> Any:
    """Tensors within lists and dicts on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [_to(one, device) for one in value]
    return {key: _to(one, device) for key, one in value.items()} if isinstance(value, dict) else value
