"""Training on kept rationales only: what InTRO and RAFT share.

A rationale is kept when each reward that decides is decided and reaches `keep_reward`; the other rewards cannot
make it right or wrong. Dropped ones cost no forward pass, and the denominator is the number of kept rationales of the
whole update over all ranks: see `trained_rows.py`.

Shapes: B rows, F reward functions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ixt_rl.errors import ConfigError, DataError, did_you_mean
from ixt_rl.trainers.baselines import least_kept
from ixt_rl.trainers.hooks import hook
from ixt_rl.trainers.trained_rows import TrainedRowsTrainer

_OURS = __name__.rpartition(".")[0] + "."


class KeptTrainer(TrainedRowsTrainer):
    """`TrainedRowsTrainer` that trains on kept rationales; subclasses write `_compute_loss`.

    Which rewards decide what is kept: those that `args.keep` names, else all that have a positive weight and no
    attribute `decides = False` (as the shipped rewards on form and length have).

    Raises:
        ConfigError: `args.keep` names nothing, or what is not there; `args.keep_reward` is no number.
    """

    def __init__(self, model: Any, reward_funcs: Any, args: Any, **kwargs: Any):
        _check_number(args.keep_reward)
        super().__init__(model, reward_funcs, args, **kwargs)
        weights = self.reward_weights.tolist()
        if self.dynamic is not None:
            self.check_signal("dynamic sampling")
        self.deciding = _deciding(self.reward_func_names, self.reward_funcs, weights, args.keep)

    # ---------------------------------------------------------------- override these

    @hook
    def keep(self, rewards: Tensor, batch: dict[str, Any]) -> Tensor:
        """(B,) bool: the rationales to train on. The default asks the rewards that decide, and no sum.

        Args:
            rewards: (B,) fp32 weighted sums, NaN where incomplete.
            batch: TRL's dict, with what `add_signals` has added; each reward by itself is in
                `batch["rewards_per_func"]` (B, F), undecided NaN.
        """
        return self._reached(batch["rewards_per_func"])

    @hook
    def has_signal(self, rewards_per_func: Tensor) -> Tensor:
        """(groups,) bool: groups with a rationale that is kept, by the rewards that decide."""
        return self._reached(rewards_per_func).view(-1, self.args.num_generations).any(dim=1)

    def check_signal(self, asker: str) -> None:
        """Refuses a `keep` of a subclass's own where `has_signal` does not know of it.

        Args:
            asker: what asks which groups teach something, for the message.
        """
        methods = {name: getattr(type(self), name) for name in ("keep", "has_signal")}
        own = {name for name, method in methods.items() if not str(method.__module__).startswith(_OURS)}
        if own == {"keep"}:
            raise ConfigError(
                f"{asker} with {type(self).__name__}.keep",
                reason="which groups have a kept rationale is asked before there is a batch to show it",
                remedy="override has_signal(rewards_per_func), too",
            )

    # ---------------------------------------------------------------- the update

    def _reached(self, rewards_per_func: Tensor) -> Tensor:
        """(B,) bool: each reward that decides reaches `keep_reward`; NaN reaches nothing."""
        return (rewards_per_func[:, self.deciding] >= self._least).all(dim=1)

    @property
    def _least(self) -> float:
        return least_kept(self.args.keep_reward)

    def undecided(self, rewards_per_func: Tensor) -> Tensor:
        """(B,) bool: a reward that decides is undecided."""
        return rewards_per_func[:, self.deciding].isnan().any(dim=1)

    def complete(self, rows: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        kept = self.keep(batch["rewards"], batch)
        if getattr(kept, "dtype", None) != torch.bool or kept.shape != batch["rewards"].shape:
            raise DataError(
                f"{type(self).__name__}.keep gave {kept!r:.80}",
                reason=f"it says of each of {len(batch['rewards'])} rationales whether it is trained",
                remedy="return a tensor with a bool for each, as `rewards > 0` is",
            )
        batch["kept"] = kept = kept & batch["completion_mask"].any(dim=1)
        batch["kept_total"] = self.accelerator.gather(kept.sum()).sum()  # 0-d: goes to every micro-batch
        self.track("rollout/kept", kept.float())
        if self.args.keep is None and not kept.any():
            self._warn_of_a_reward_that_bars(batch["rewards_per_func"][:, self.deciding])

    def _warn_of_a_reward_that_bars(self, rewards_per_func: Tensor) -> None:
        """Nothing is kept: it may be that functions decide that were meant as bonus or penalty."""
        reached = (rewards_per_func >= self._least).any(dim=0).tolist()
        if any(reached) and not all(reached):
            names = [self.reward_func_names[place] for place in self.deciding]
            bars = [name for name, found in zip(names, reached, strict=True) if not found]
            warnings.warn(
                f"step {self.state.global_step}: nothing is kept, as {', '.join(bars)} nowhere reached "
                f"keep_reward={self.args.keep_reward:g}, and {', '.join(names)} decide together. "
                "Name those that shall decide with keep=[...].",
                stacklevel=2,
            )

    def trained(self, inputs: dict[str, Any]) -> Tensor:
        return inputs["kept"]

    def rows_total(self, inputs: dict[str, Any]) -> Tensor:
        """The kept ones alone."""
        return inputs["kept_total"]


def _check_number(keep_reward: Any) -> None:
    """Raises ConfigError for what no reward could be compared with."""
    if isinstance(keep_reward, bool) or not isinstance(keep_reward, int | float) or not keep_reward < math.inf:
        raise ConfigError(
            f"keep_reward={keep_reward!r}",
            reason="rewards are compared with it: it must be a finite number",
            remedy="write a number such as 1.0; -inf keeps whatever is decided",
        )


def _deciding(
    names: Sequence[str], functions: Sequence[Any], weights: Sequence[float], keep: Sequence[str] | None
) -> list[int]:
    """Places of the rewards that decide; see `KeptTrainer`."""
    if keep is None:
        counted = [i for i, weight in enumerate(weights) if weight > 0] or list(range(len(names)))
        return [i for i in counted if getattr(functions[i], "decides", True)] or counted
    wanted = [keep] if isinstance(keep, str) or not isinstance(keep, Iterable) else list(keep)
    known = f"name some of: {', '.join(names)}"
    if not wanted:
        raise ConfigError(f"keep={keep!r}", reason="no reward would decide", remedy=known)
    for name in wanted:
        if name not in names:
            raise ConfigError(
                f"keep={keep!r}",
                reason=f"no reward function is called {name!r}",
                remedy=did_you_mean(str(name), list(names)) + known,
            )
    return [i for i, name in enumerate(names) if name in wanted]
