"""Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): in place of groups that teach nothing, the next prompts.

    next prompts -> rollouts -> rewards -> groups without a signal go, as many next prompts come -> ... -> a full batch

Rollouts and rewards come first; TRL is then handed the groups that were kept, as if they alone had been sampled: their
advantages, denominators and metrics. Where the batch is not full after `max_rounds`, groups without a signal fill it:
they are masked, and `signal_share` of the batch says what a mean over all rows is to be divided by.

Shapes: B rows of this process, G rows of a group, F reward functions.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ixt_rl.errors import ConfigError, DataError

_FIELDS = ("prompt_ids", "completion_ids", "logprobs", "finish_reason", "policy_version")
"""What `EngineRollouts` gives of each row."""


@dataclass(frozen=True)
class ScoredGroup:
    """G completions of one prompt, with their rewards.

    Args:
        rows: G copies of the dataset's row.
        rollouts: G values by field, as `EngineRollouts` gives them.
        rewards: (G, F), NaN where undecided.
        extra: G values by column, as rewards logged them.
        signal: whether it teaches anything.
    """

    rows: list[dict[str, Any]]
    rollouts: dict[str, list[Any]]
    rewards: Tensor
    extra: dict[str, list[Any]]
    signal: bool


@dataclass(frozen=True)
class FullBatch:
    """The groups of one generation, as TRL is handed them."""

    groups: list[ScoredGroup]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for group in self.groups for row in group.rows]

    @property
    def rollouts(self) -> dict[str, list[Any]]:
        return {name: [one for group in self.groups for one in group.rollouts[name]] for name in _FIELDS}

    @property
    def rewards(self) -> Tensor:
        """(B, F)."""
        return torch.cat([group.rewards for group in self.groups])

    @property
    def extra(self) -> dict[str, list[Any]]:
        names = dict.fromkeys(name for group in self.groups for name in group.extra)
        return {
            name: [one for group in self.groups for one in group.extra.get(name, [None] * len(group.rows))]
            for name in names
        }

    @property
    def signal(self) -> Tensor:
        """(B,) bool: of a group that teaches something."""
        return torch.tensor([group.signal for group in self.groups for _ in group.rows])


@dataclass
class DynamicSampler:
    """Draws groups for a trainer until a batch is full of such that teach something.

    Prompts come from one stream, over the dataset in TRL's manner: in another order each pass, or as they are without
    `shuffle_dataset`. Its place is in checkpoints; what TRL's own sampler hands over says only how many are wanted.

    Args:
        trainer: an `OnlineTrainer`.
        max_rounds: most times that groups are drawn again for one batch, at least 1.

    Raises:
        ConfigError: options that do not go with it.
    """

    trainer: Any
    max_rounds: int
    read: int = 0  # prompts taken from the stream, by all ranks
    again: int = 0  # groups drawn beyond those of the batches, by all ranks

    def __post_init__(self) -> None:
        args, size = self.trainer.args, len(self.trainer.train_dataset)
        rows = args.per_device_train_batch_size * args.steps_per_generation
        group = args.num_generations
        for wrong, value, reason, remedy in (
            (self.max_rounds < 1, f"max_rounds={self.max_rounds}", "nothing would be drawn again", "give at least 1"),
            (
                self.trainer.rollouts.staleness,
                f"staleness={self.trainer.rollouts.staleness}",
                "which prompts come next is known only when those before are judged",
                "set staleness: 0",
            ),
            (
                rows % group,
                f"{rows} rows of a process with num_generations={group}",
                "a process draws whole groups again",
                "make the rows of a process a multiple of the group's",
            ),
            (
                args.multi_objective_aggregation != "sum_then_normalize",
                f"multi_objective_aggregation={args.multi_objective_aggregation!r}",
                "whether a group teaches anything is seen in its weighted sums",
                "use 'sum_then_normalize'",
            ),
            (
                rows // group * self.trainer.accelerator.num_processes > size,
                f"{size} prompts for {rows // group} groups of each process",
                "a batch would hold a prompt twice",
                "give more prompts, or smaller batches",
            ),
        ):
            if wrong:
                raise ConfigError(f"dynamic sampling with {value}", reason=reason, remedy=remedy)

    def fill(self, count: int) -> FullBatch:
        """`count` groups of this process; all ranks call it, with one count, and draw equally many each time."""
        trainer = self.trainer
        live: list[ScoredGroup] = []
        idle: list[ScoredGroup] = []
        with logs_kept(trainer):
            for number in range(self.max_rounds + 1):
                missing = torch.tensor(count - len(live), device=trainer.accelerator.device)
                wanted = int(trainer.accelerator.gather(missing).max())
                if wanted <= 0:
                    break
                self.again += wanted * trainer.accelerator.num_processes if number else 0
                for group in self._drawn(wanted, number):
                    (live if group.signal else idle).append(group)
        short = max(0, count - len(live))
        if short:
            warnings.warn(
                f"step {trainer.state.global_step}: after {self.max_rounds} rounds of dynamic sampling "
                + (
                    f"{short} of {count} groups still teach nothing; the others are trained on."
                    if short < count
                    else f"none of {count} groups teaches anything; this batch has nothing to train on."
                ),
                stacklevel=2,
            )
        return FullBatch(live[:count] + idle[len(idle) - short :])

    def _drawn(self, count: int, number: int) -> Iterator[ScoredGroup]:
        """The next `count` prompts of this process, sampled and rewarded; the round's number gives them their noise."""
        trainer, size = self.trainer, self.trainer.args.num_generations
        everyone = [self._next() for _ in range(count * trainer.accelerator.num_processes)]
        first = trainer.accelerator.process_index * count
        mine = everyone[first : first + count]
        rows = trainer.prepared([dict(trainer.train_dataset[place]) for place in mine for _ in range(size)])
        rollouts, rewards, extra = trainer.sampled_and_rewarded(rows, number)
        signal = trainer.has_signal(rewards)
        if signal.shape != (count,) or signal.dtype != torch.bool:
            raise DataError(
                f"{type(trainer).__name__}.has_signal gave {signal!r:.80}",
                reason=f"it says of each of {count} groups whether it teaches anything",
                remedy="return a tensor with a bool for each group",
            )
        for index in range(count):
            part = slice(index * size, (index + 1) * size)
            yield ScoredGroup(
                rows[part],
                {name: rollouts[name][part] for name in _FIELDS},
                rewards[part],
                {name: values[part] for name, values in extra.items() if len(values) == len(rows)},
                bool(signal[index]),
            )

    def _next(self) -> int:
        """The place of the stream's next prompt in the dataset."""
        size = len(self.trainer.train_dataset)
        passed, index = divmod(self.read, size)
        self.read += 1
        if not self.trainer.shuffle_dataset:
            return index
        return int(_order(self.trainer.args.seed, passed, size)[index])

    # ---------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, int]:
        return {"read": self.read, "again": self.again}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.read, self.again = state["read"], state["again"]


def mask_idle(trainer: Any, batch: dict[str, Any], signal: Tensor) -> None:
    """Masks the rows of a batch whose group teaches nothing, in place; adds `signal_share`, 0-d, of all ranks' rows.

    Where no group teaches anything, nothing is masked: no advantage, or nothing kept, is enough.

    Args:
        batch: TRL's dict.
        signal: (B,) bool.
    """
    mask = batch["completion_mask"]
    signal = signal.to(mask.device)
    share = trainer.accelerator.gather(signal.float()).mean()
    batch["signal_share"] = share if share > 0 else torch.ones_like(share)
    if 0 < share < 1:
        batch["completion_mask"] = mask = mask * signal[:, None]
        batch["num_items_in_batch"] = trainer.accelerator.gather(mask.sum()).sum()


@functools.lru_cache(maxsize=2)
def _order(seed: int, passed: int, size: int) -> np.ndarray:
    return np.random.default_rng([seed, passed]).permutation(size)


@contextmanager
def logs_kept(trainer: Any) -> Iterator[None]:
    """What TRL logs of completions while a batch is filled is not logged: the full one's is."""
    metrics = trainer._metrics["train"]
    lengths = {name: len(values) for name, values in metrics.items()}
    yield
    for name, values in metrics.items():
        del values[lengths.get(name, 0) :]
