"""Training on the policy's own rollouts, up to where the method begins.

One optimizer step of any online trainer here:

    dataset rows (prompt, told_prompt, ...)
      -> rollout_func: RolloutEngine.generate           ids, log-probs, finish reasons
      -> _calculate_rewards: guarded reward functions   (B, F), NaN = undecided; totals of the complete ones
      -> generated                                      TRL's dict of padded tensors, and signals of each row
      -> _compute_loss                                  the method's loss; log-probs by `ixt_rl.kernels`

What TRL's private methods have to do with it is in `trl_seam.py`.

Shapes: B rows, F reward functions, T tokens, N loss-bearing tokens.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOConfig

from ixt_rl.errors import ConfigError
from ixt_rl.kernels.correction import Correction
from ixt_rl.trainers.baselines import differ, tied
from ixt_rl.trainers.dynamic_sampling import DynamicSampler, mask_idle
from ixt_rl.trainers.hooks import hook
from ixt_rl.trainers.trl_seam import TRLSeam
from ixt_rl.types import Grade

Grader = Callable[[dict[str, Any], Sequence[int]], Grade]
"""(dataset row, completion ids) -> what a world knows of the rationale."""


class OnlineTrainer(TRLSeam):
    """`trl.GRPOTrainer` with a rollout engine, guarded rewards and this library's log-probs.

    Args:
        model: a causal language model, or the path of one.
        reward_funcs: functions with TRL's reward signature; None says undecided. A completion counts where every reward
            with a weight is decided: totals that lack a part are compared with none.
        args: the trainer's config. Its `disable_dropout` (by default on, TRL's is off) also covers LoRA's dropout.
        rollouts: samples completions, `EngineRollouts(engine)`; default: the model itself, in process.
        correction: importance correction of what an engine outside the model, or an older policy, sampled: from the
            log-probs of engine and trainer. None: rollouts count as the policy's own.
        grader: a world's grader; adds what it knows to the logs.
        sources: names of the sources that rows come from, as their column `source` has them: the mean reward of each is
            logged, and where rationales are kept or dropped the share that is kept.
        dynamic_sampling: most times that groups which teach nothing are drawn again, of other prompts, until a batch is
            full (`dynamic_sampling.py`); 0: never.
        other arguments: as in `trl.GRPOTrainer`. Tools, environments and `rollout_func` are not taken.
    """

    def __init__(
        self,
        model: PreTrainedModel | str,
        reward_funcs: Any,
        args: GRPOConfig,
        *,
        correction: Correction | None = None,
        grader: Grader | None = None,
        sources: Sequence[str] = (),
        dynamic_sampling: int = 0,
        **kwargs: Any,
    ):
        super().__init__(model, reward_funcs, args, **kwargs)
        if self.rollouts.staleness and self._generation_span() != args.gradient_accumulation_steps:
            raise ConfigError(
                f"staleness={self.rollouts.staleness} with steps_per_generation={args.steps_per_generation}, "
                f"num_iterations={args.num_iterations}",
                reason="batches are sampled ahead update by update",
                remedy="set steps_per_generation to gradient_accumulation_steps and num_iterations to 1",
            )
        self.correction, self.grader, self.sources = correction, grader, tuple(sources)
        self.dynamic = DynamicSampler(self, dynamic_sampling) if dynamic_sampling else None
        self._teaches: Tensor | None = None  # (B,) of the batch under way: of a group with a signal; None: all
        self._lookahead: deque[tuple[list, Any]] = deque()
        self._lookahead_source: Any = None

    # ---------------------------------------------------------------- override these

    @hook
    def add_signals(self, rows: list[dict[str, Any]], batch: dict[str, Any], rewards: Tensor) -> None:
        """Adds per-rationale values to TRL's `batch`, in place; called once per generation.

        Args:
            rows: this process's dataset rows, one for each completion, in order.
            batch: TRL's dict: prompt_ids, prompt_mask, completion_ids, completion_mask (all (B, T)),
                advantages (B,), ... A value must be a tensor whose first dimension is B, a 0-d
                tensor, or a list of length B: TRL shuffles and splits it with the rows.
            rewards: (B,) fp32 weighted sum of each completion's rewards, NaN where one with a weight is undecided; also
                in `batch["rewards"]`, and in `batch["rewards_per_func"]` (B, F) each reward by itself.
        """

    @hook
    def undecided(self, rewards_per_func: Tensor) -> Tensor:
        """(B,) bool: completions that do not count, because a reward they need is undecided.

        Args:
            rewards_per_func: (B, F), NaN where undecided, in the order of `reward_funcs`.
        """
        return self._incomplete(rewards_per_func)

    @hook
    def has_signal(self, rewards_per_func: Tensor) -> Tensor:
        """(groups,) bool: groups that teach something; the others are drawn again by dynamic sampling.

        Here: whose complete weighted sums are not all equal, nor those of the rewards that say what is right: a group
        that is all right or all wrong is none, however its lengths differ. Of rewards with `decides = False` alone, as
        those on form and length have it, all count. One undecided, or one complete sum alone, teaches nothing.

        Args:
            rewards_per_func: (B, F) of whole groups, NaN where undecided, in the order of `reward_funcs`.
        """
        decide = torch.tensor([float(getattr(function, "decides", True)) for function in self.reward_funcs])
        deciding = self.reward_weights.cpu() * decide
        size = self.args.num_generations
        found = differ(self._weighed(rewards_per_func, self.reward_weights).view(-1, size))
        return found & differ(self._weighed(rewards_per_func, deciding).view(-1, size)) if deciding.any() else found

    def _weighed(self, rewards_per_func: Tensor, weights: Tensor) -> Tensor:
        """(B,) sums by these weights (F,); NaN where a reward with a weight of the trainer's is undecided."""
        total = (rewards_per_func * weights.to(rewards_per_func.device)).nansum(dim=1)
        return total.masked_fill(self._incomplete(rewards_per_func), float("nan"))

    # ---------------------------------------------------------------- the update

    def _generate_and_score_completions(self, inputs):
        if self.dynamic is None or not self.model.training:
            return super()._generate_and_score_completions(self.prepared(inputs))
        before = self.dynamic.again
        full = self.dynamic.fill(len(inputs) // self.args.num_generations)
        self.track("rollout/drawn_again", torch.tensor([float(self.dynamic.again - before)]))
        self._teaches = full.signal
        batch = self._batch_of(full.rows, full.rollouts, full.rewards, full.extra)
        self._teaches = None
        mask_idle(self, batch, full.signal)
        return batch

    def _batch_of(
        self, rows: list[dict[str, Any]], rollouts: dict[str, list], rewards: Tensor, extra: dict[str, list]
    ) -> dict[str, Any]:
        """The batch of rows that `sampled_and_rewarded` has seen, as if TRL had sampled them."""
        seen = self.state.num_input_tokens_seen  # all that was sampled is counted already
        self._known = rollouts, rewards
        self._pending_extra_logs.update(extra)
        try:
            return super()._generate_and_score_completions(rows)
        finally:
            self._known = None
            self.state.num_input_tokens_seen = seen

    def generated(self, rows: list[dict[str, Any]], batch: dict[str, Any], rewards_per_func: Tensor) -> dict[str, Any]:
        batch["rewards_per_func"] = rewards_per_func
        batch["rewards"] = self._weighed(rewards_per_func, self.reward_weights)
        batch["advantages"] = self.taught(self._levelled(batch["advantages"]))
        undecided = self.undecided(rewards_per_func)
        self._warn_of_nothing(rewards_per_func, undecided)
        self.track("rollout/undecided", undecided.float())
        self.track("rollout/staleness", torch.tensor([self.state.global_step - row["policy_version"] for row in rows]))
        if self.correction is not None:
            self.correct(batch)
        self.add_signals(rows, batch, batch["rewards"])
        self.complete(rows, batch)
        for name in self.sources:  # all of them on every rank, so that the same means are taken
            of = torch.tensor([row["source"] == name for row in rows], device=batch["rewards"].device)
            self.track(f"source/{name}/reward", batch["rewards"][of])
            if "kept" in batch:
                self.track(f"source/{name}/kept", batch["kept"][of].float())
        if self.grader is not None:
            self._track_grades(rows, batch)
        return batch

    def _levelled(self, advantages: Tensor) -> Tensor:
        """TRL's advantages (B,), exactly 0 in groups whose complete sums are equal; its mean of these may be another
        number. Where each reward is normalised by itself, equal sums are no tie."""
        if self.args.multi_objective_aggregation != "sum_then_normalize":
            return advantages
        assert self._rewards_of_all is not None
        sums = self._weighed(self._rewards_of_all, self.reward_weights)  # of all ranks: a group may lie on several
        first = len(advantages) * self.accelerator.process_index
        return advantages.masked_fill(tied(sums.view(-1, self.group_size)).flatten()[first:][: len(advantages)], 0.0)

    def taught(self, advantages: Tensor) -> Tensor:
        """(B,) advantages, 0 in groups that dynamic sampling found idle: lengths alone may make them differ."""
        return advantages if self._teaches is None else advantages * self._teaches.to(advantages.device)

    def prepared(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Dataset rows as the method needs them, before anything is sampled."""
        return rows

    def complete(self, rows: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        """Adds to `batch`, in place, what the method itself needs of each rationale; see `add_signals`."""

    # ---------------------------------------------------------------- sampling ahead

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The next update's micro-batches; with staleness, those after it are read too, for their prompts."""
        if not self.rollouts.staleness:
            return super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._lookahead_source is not epoch_iterator:
            self._lookahead_source = epoch_iterator
            self._lookahead.clear()
        while len(self._lookahead) <= self.rollouts.staleness:
            self._lookahead.append(super().get_batch_samples(epoch_iterator, num_batches, device))
        current = self._lookahead.popleft()
        upcoming = [self.prepared(batches[0]) for batches, _ in self._lookahead if batches]
        self.rollouts.upcoming = [self.asked(rows, self.encoded(rows)) for rows in upcoming]
        return current

    # ---------------------------------------------------------------- importance correction

    def correct(self, batch: dict[str, Any]) -> None:
        """Multiplies each token's advantage by its corrected ratio of policy to sampler, as TRL does with its vLLM.

        For losses that are linear in the advantage. Where a loss computes the log-probs of the taken tokens itself,
        override this with nothing and take the ratio from that forward (`correction_weights`).
        """
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        kept = batch["completion_mask"].bool()
        with torch.no_grad():
            logps, *_ = self._get_per_token_logps_and_entropies(
                self.model, ids, mask, kept.shape[1], self.args.per_device_train_batch_size
            )
        rows_N = kept.nonzero()[:, 0]
        weights_N = self.correction_weights(logps[kept], batch["sampling_per_token_logps"][kept], rows_N)
        ratio = torch.ones_like(logps).masked_scatter(kept, weights_N)
        batch["old_per_token_logps"] = logps
        batch["advantages"] = batch["advantages"][:, None] * ratio
        batch["importance_sampling_ratio"] = ratio  # VESPO's loss reads it

    def correction_weights(self, logp_N: Tensor, sampled_N: Tensor, rows_N: Tensor) -> Tensor:
        """(N,) detached weights of sampled tokens, 1 without correction; logs how far sampler and policy are apart.

        Args:
            logp_N: their log-probs under the policy, from the forward pass that trains where there is one.
            sampled_N: their log-probs as the engine sampled them.
            rows_N: the row of each.
        """
        log_ratio_N = (logp_N.detach() - sampled_N).float()
        self.track("sampler/logp_abs", log_ratio_N.abs())
        self.track("sampler/ratio", log_ratio_N.exp())
        if self.correction is None:
            return torch.ones_like(log_ratio_N)
        weights_N = self.correction.weights(log_ratio_N, rows_N)
        self.track("sampler/corrected_share", self.correction.changed(log_ratio_N, rows_N).float())
        return weights_N

    # ---------------------------------------------------------------- checkpoints

    def own_state(self) -> dict[str, Any]:
        drawn = {} if self.dynamic is None else {"dynamic_sampling": self.dynamic.state_dict()}
        return {**super().own_state(), **drawn}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        if self.dynamic is not None and "dynamic_sampling" in state:
            self.dynamic.load_state_dict(state["dynamic_sampling"])

    # ---------------------------------------------------------------- helpers

    @property
    def drawn_again(self) -> int:
        """Completions sampled so far, by all ranks, beyond those of the batches."""
        return 0 if self.dynamic is None else self.dynamic.again * self.args.num_generations

    def completion_lists(self, batch: dict[str, Any]) -> list[list[int]]:
        """The completions of TRL's padded batch, as the ids the engine sampled."""
        ids, mask = batch["completion_ids"], batch["completion_mask"].bool()
        return [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]

    def _warn_of_nothing(self, rewards_per_func: Tensor, undecided: Tensor) -> None:
        if undecided.all() and not rewards_per_func.isnan().all(dim=1).any():
            warnings.warn(
                f"step {self.state.global_step}: each of {len(undecided)} completions has a reward and lacks another, "
                "so none is trained. Rewards that speak for some rows only belong into one function that asks the row.",
                stacklevel=2,
            )

    def _track_grades(self, inputs: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        assert self.grader is not None
        completions = self.completion_lists(batch)
        grades = [self.grader(row, ids) for row, ids in zip(inputs, completions, strict=True)]
        self.track_grades(grades)
        kept = batch["kept"].tolist() if "kept" in batch else [g.checked for g in grades]
        lucky = [float(g.lucky) for g, is_kept in zip(grades, kept, strict=True) if is_kept]
        self.track("rollout/lucky_of_kept", torch.tensor(lucky))
        width = batch["completion_ids"].shape[1]
        batch["token_right"] = torch.tensor(
            [[*map(float, g.token_right), *[0.0] * (width - len(g.token_right))] for g in grades],
            device=batch["completion_ids"].device,
        )
