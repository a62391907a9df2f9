"""STaR: rationales sampled from a prompt that tells the answer, trained after the one that does not (arXiv 2203.14465).

    z ~ s(. | x (+) y) or s(. | x)     s: the model as it was at first (`frozen`), or the policy (`live`)
    loss = - 1/K sum_z 1/|z| sum_t log p(z_t | x, z_<t)

over the K rationales of the update that are kept because their answer is right: supervised learning on samples of
another distribution, whose gradient is no policy gradient. So nothing is weighed by a ratio, and rollouts may serve any
number of updates. Who is told:

    told="all"      every rationale: told-NLL, which copies the told mode
    told="half"     the first half of each group, ceil(G / 2)
    told="failed"   the paper's rationalisation: groups without a right rationale are sampled once more, told

The paper's loop (sample all problems by the last model, train the first one on them anew) is here without its resets:
with `live`, `steps_per_generation` says how many updates one model samples for.

Shapes: B rows, G rows of a group, F reward functions, N loss-bearing tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from trl import GRPOConfig

from ixt_rl.conditioning import Batch
from ixt_rl.errors import ConfigError
from ixt_rl.rollout.asked import check_positions
from ixt_rl.trainers.dynamic_sampling import logs_kept
from ixt_rl.trainers.kept import KeptTrainer
from ixt_rl.trainers.reference_policy import Reference
from ixt_rl.trainers.refused_options import ENGINE, OWN_LOSS, refuse_options
from ixt_rl.trainers.surrogate import surrogate_loss
from ixt_rl.trainers.told_prompts import with_told_ids


@dataclass
class STaRConfig(GRPOConfig):
    """`trl.GRPOConfig` with STaR's options; GRPO options it cannot honour are refused.

    Args:
        told: which rationales are sampled from the told prompt: `all`, `half` of each group, or those of groups that
            `failed` without.
        sampler: who samples in training: the initial model, `frozen` (with LoRA the model without its adapters), or the
            policy, `live`. Evaluation samples the policy, untold.
        disable_dropout: no dropout in training, LoRA's included (TRL's default is False).
        keep: names of the reward functions that decide what is kept; one of them undecided excludes. None: all but
            those that say of themselves that they do not, and those without a positive weight; see `KeptTrainer`.
        keep_reward: a rationale is kept where each of them is at least this, unweighted.
        self_checks: `{name: False}` leaves a check out that precedes the first update; see `self_checks.py`.
    """

    told: Literal["all", "half", "failed"] = field(default="all")
    sampler: Literal["frozen", "live"] = field(default="frozen")
    disable_dropout: bool = field(default=True)
    keep: list[str] | None = field(default=None)
    keep_reward: float = field(default=1.0)
    self_checks: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_options(self, ENGINE, OWN_LOSS)
        for name, known in (("told", ("all", "half", "failed")), ("sampler", ("frozen", "live"))):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(f"{name}={value!r}", reason="there is none", remedy=f"use one of {', '.join(known)}")


class STaRTrainer(KeptTrainer):
    """STaR on TRL's GRPOTrainer; dataset rows need `prompt` and `told_prompt`.

    `correction` is not read: what a told prompt samples is no sample of the policy, and is not weighed as one.

    Raises:
        ConfigError: a frozen sampler with FSDP 1, or `told="failed"` where a process has parts of groups.
    """

    config_class: ClassVar[type] = STaRConfig
    _tag_names = ["trl", "ixt-rl", "star"]
    _name = "STaR"

    def __init__(self, model: Any, reward_funcs: Any, args: STaRConfig, **kwargs: Any):
        super().__init__(model, reward_funcs, args, **kwargs)
        if args.told == "failed":
            self._check_whole_groups()
        if args.sampler == "frozen" and self.is_fsdp_enabled and not self.accelerator.is_fsdp2:
            raise ConfigError(
                "sampler='frozen' with FSDP 1",
                reason="FSDP 1 may not wrap a second model",
                remedy="set fsdp_version: 2, or sampler='live'",
            )
        self.sampler = Reference(self) if args.sampler == "frozen" else None
        """What `EngineRollouts` samples from in the policy's place, in training."""
        self._told_again = 0  # completions of groups that failed and were sampled once more, by all ranks

    def _check_whole_groups(self) -> None:
        self.check_signal("told='failed'")
        args, rows = self.args, self.args.per_device_train_batch_size * self.args.steps_per_generation
        if self.rollouts.staleness:
            raise ConfigError(
                f"told='failed' with staleness={self.rollouts.staleness}",
                reason="which groups are sampled once more is known only when they are judged",
                remedy="set staleness: 0",
            )
        if rows % args.num_generations:
            raise ConfigError(
                f"told='failed' with {rows} rows of a process and num_generations={args.num_generations}",
                reason="a process samples whole groups once more",
                remedy="make the rows of a process a multiple of the group's",
            )

    # ---------------------------------------------------------------- what is sampled

    def prepared(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows = with_told_ids(self, rows, who="what samples")
        return [{**row, "sampled_told": told} for row, told in zip(rows, self._told(len(rows)), strict=True)]

    def _told(self, count: int) -> list[bool]:
        """Which of this process's rows are sampled told at first."""
        if not self.model.training or self.args.told == "failed":
            return [False] * count
        group, first = self.args.num_generations, self.accelerator.process_index * count
        return [self.args.told == "all" or (first + row) % group < (group + 1) // 2 for row in range(count)]

    def asked(self, rows: list[dict[str, Any]], prompt_ids: list[list[int]]) -> list[list[int]]:
        check_positions(prompt_ids, self)
        return [
            row["told_prompt_ids"] if row["sampled_told"] else ids for row, ids in zip(rows, prompt_ids, strict=True)
        ]

    def _generate_and_score_completions(self, inputs):
        if self.args.told != "failed" or self.dynamic is not None or not self.model.training:
            return super()._generate_and_score_completions(inputs)
        rows = self.prepared(inputs)
        with logs_kept(self):
            sampled = self.sampled_and_rewarded(rows, 0)
        return self._batch_of(rows, *sampled)

    def sampled_and_rewarded(
        self, rows: list[dict[str, Any]], part: int
    ) -> tuple[dict[str, list], Tensor, dict[str, list]]:
        """As the base's; with `told="failed"` groups without a kept rationale are sampled once more, told, and those
        take their place. All ranks sample as often as the one with most such groups, and throw the others' away."""
        rollouts, rewards, extra = super().sampled_and_rewarded(rows, part)
        if self.args.told != "failed" or not self.model.training:
            return rollouts, rewards, extra
        failed = ~self.has_signal(rewards)
        count = int(self.accelerator.gather(failed.sum().to(self.accelerator.device)).max())
        if not count:
            return rollouts, rewards, extra
        group = self.args.num_generations
        self._told_again += count * group * self.accelerator.num_processes
        groups = failed.to(torch.int8).argsort(descending=True, stable=True)[:count].tolist()
        places = [number * group + one for number in groups for one in range(group)]
        again = [{**rows[place], "sampled_told": True} for place in places]
        found, found_rewards, found_extra = super().sampled_and_rewarded(again, -1 - part)
        for index, place in enumerate(places):
            if not failed[place // group]:
                continue
            rows[place].update(again[index])
            rewards[place] = found_rewards[index]
            for old, new in ((rollouts, found), (extra, found_extra)):
                for name in old.keys() & new.keys():
                    if len(old[name]) == len(rows) and len(new[name]) == len(again):
                        old[name][place] = new[name][index]
        return rollouts, rewards, extra

    @property
    def drawn_again(self) -> int:
        return super().drawn_again + self._told_again

    def own_state(self) -> dict[str, Any]:
        return {**super().own_state(), "told_again": self._told_again}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._told_again = state["told_again"]

    def complete(self, rows: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        super().complete(rows, batch)
        batch["sampled_told"] = told = torch.tensor([row["sampled_told"] for row in rows], device=batch["kept"].device)
        self.track("rollout/told", told.float())
        self.track("rollout/kept_told", batch["kept"][told].float())
        self.track("rollout/kept_untold", batch["kept"][~told].float())

    # ---------------------------------------------------------------- the update

    def sampled_logps(self, inputs: dict[str, Any], rows: list[int], batch: Batch) -> Tensor | None:
        """None: no token is weighed by who sampled it."""
        return None

    def _compute_loss(self, model, inputs: dict[str, Any]) -> Tensor:
        rows = self.trained_rows(inputs)
        batch = self.policy_batch(rows)
        weights = self.weights_of(batch, self.signals_of(inputs, rows))
        return surrogate_loss(self, model, inputs, rows, batch, weights, ratio="none")
