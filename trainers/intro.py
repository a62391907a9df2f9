"""InTRO: in-token rationality optimization (arXiv 2511.09865).

One update, for kept rationales z of questions x with known answers y:

    q_t = pi(. | x (+) y, z_<t)     one pass without gradient, the model shown the answer
    p_t = pi(. | x, z_<t)           one pass with gradient
    w_t^i = min(q_t(c_t^i) / p_t(c_t^i), clip)        n candidates c_t^i at every position
    loss = - 1/K sum_z 1/|z| sum_t 1/n sum_i w_t^i log p_t(c_t^i)

Both passes yield hidden states only; the kernel walks the vocabulary head once for loss, statistics
and gradient. Departures from the paper are options: `candidates="exact"` sums over the vocabulary,
`posterior` may be a copy of the model that stays, lags or averages (the paper's is the live model), and with
`contrast` the posterior told a wrong answer takes the policy's place in the denominator:

    w_t^i = min(pi(c_t^i | x (+) y, z_<t) / pi(c_t^i | x (+) y', z_<t), clip)      a third pass, without gradient

With `sign="advantage"` the told model sets the size of an update, and the reward alone its sign: all rationales are
trained that are better or worse than their group's others, by GRPO's advantage A,

    loss = - 1/K sum_z A / |z| sum_t 1/n sum_i w_t^i log p_t(c_t^i),   w_t^i = min((q / p)^sign(A), clip),   K of all

Shapes: B rows, T tokens, N loss-bearing tokens, D hidden, V vocabulary, n candidates, C tokens of a chunk.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOConfig

from ixt_rl.conditioning import Batch
from ixt_rl.errors import ConfigError
from ixt_rl.kernels.correction import Correction
from ixt_rl.kernels.head import Head, gathered_head
from ixt_rl.kernels.intro.loss import intro_loss
from ixt_rl.kernels.intro.spec import IntroSpec, IntroStats
from ixt_rl.kernels.intro.walk import Factor, FactorAt
from ixt_rl.kernels.logprobs_at import LogprobsAt
from ixt_rl.rollout.trl_adapter import step_seed
from ixt_rl.trainers.auxiliary import forward_with_auxiliary
from ixt_rl.trainers.baselines import group_relative
from ixt_rl.trainers.hooks import Signals, hook
from ixt_rl.trainers.kept import KeptTrainer
from ixt_rl.trainers.online import OnlineTrainer
from ixt_rl.trainers.refused_options import ENGINE, OWN_LOSS, RATIO, refuse_options, refuse_reuse
from ixt_rl.trainers.told import TOLD, WRONG, ToldOptions, ToldPass
from ixt_rl.trainers.where import Where

_CANDIDATES = 2  # purpose of a seed, beside evaluation (0) and training (1) rollouts


@dataclass
class InTROConfig(ToldOptions, GRPOConfig):
    """`trl.GRPOConfig` with InTRO's options and those of `ToldOptions`; GRPO options it cannot honour are refused.

    Args:
        candidates: n candidate tokens at every position, or `"exact"` for the whole vocabulary.
        include_taken: the token actually taken is the first of the n.
        clip: upper bound of the correction factor; None for no bound.
        contrast: the posterior told a wrong answer takes the policy's place in the denominator of the factor; rows need
            `told_wrong_prompt`.
        sign: `advantage`: all rationales are trained, each weighed by its group's advantage, and the factor is inverted
            where that is negative. `keep` then decides nothing but what is logged; reward weights count.
        disable_dropout: no dropout in training, LoRA's included (TRL's default is False). The posterior's pass never
            has any; a policy's pass with it divides by noise, and where q = p the mean factor is above 1.
        importance_ratio: a rollout may serve several updates (`steps_per_generation`, `num_iterations`): its tokens are
            weighed by the ratio of the policy that trains to the one that sampled (`correction`, by default
            `Correction()`).
        keep: names of the reward functions that decide what is kept; one of them undecided excludes. None: all but
            those that say of themselves that they do not, and those without a positive weight; see `KeptTrainer`.
        keep_reward: a rationale is kept where each of them is at least this, unweighted.
        self_checks: `{name: False}` leaves a check out that precedes the first update; see `self_checks.py`.
    """

    candidates: int | str = field(default=5, metadata={"help": "n, or 'exact'"})
    include_taken: bool = field(default=True)
    clip: float | None = field(default=200.0)
    contrast: bool = field(default=False)
    sign: Literal["advantage"] | None = field(default=None)
    disable_dropout: bool = field(default=True)
    importance_ratio: bool = field(default=False)
    keep: list[str] | None = field(default=None)
    keep_reward: float = field(default=1.0)
    self_checks: dict[str, bool] = field(default_factory=dict)

    refused: ClassVar[tuple[dict[str, str], ...]] = (ENGINE, OWN_LOSS, RATIO)  # options of TRL's, with reasons

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_options(self, *self.refused)
        refuse_reuse(self)
        self.check_told()
        if self.sign not in (None, "advantage"):
            raise ConfigError(
                f"sign={self.sign!r}",
                reason="either the advantage gives an update its sign, or what is kept is made likelier",
                remedy="write 'advantage' or None",
            )
        self.spec  # noqa: B018 - validates candidates and clip

    @property
    def spec(self) -> IntroSpec:
        return IntroSpec(self.candidates, self.include_taken, self.clip)  # type: ignore[arg-type]


class InTROTrainer(KeptTrainer):
    """InTRO on TRL's GRPOTrainer; dataset rows need `prompt` and `told_prompt`, for contrast `told_wrong_prompt`.

    To change the method, override one of:

    - `choose_candidates`: which tokens stand for the vocabulary at each position;
    - `factor`: the weight of a candidate, from its two log-probs;
    - `token_weights`: how positions and rationales are averaged;
    - `keep`: which rationales are trained.
    """

    config_class: ClassVar[type] = InTROConfig
    _tag_names = ["trl", "ixt-rl", "intro"]
    _name = "InTRO"

    def __init__(self, model: PreTrainedModel | str, reward_funcs: Any, args: InTROConfig, **kwargs: Any):
        if args.importance_ratio and kwargs.get("correction") is None:
            kwargs["correction"] = Correction()
        super().__init__(model, reward_funcs, args, **kwargs)
        self.told = ToldPass(self, (TOLD, WRONG) if args.contrast else (TOLD,))
        self.posterior = self.told.posterior

    # ---------------------------------------------------------------- override these

    @hook
    def choose_candidates(
        self, logp: Tensor, taken: Tensor, spec: IntroSpec, generator: torch.Generator | None
    ) -> Tensor:
        """Candidate ids (C, n) for a chunk of positions. The default draws inside the kernel.

        Args:
            logp: (C, V) fp32 log-probs of the policy.
            taken: (C,) the tokens taken.
            spec: n and whether the taken token is column 0.
            generator: source of the draws, seeded by step, micro-step and rank.
        """
        raise NotImplementedError("the default candidates are drawn inside the kernel")

    @hook
    def factor(self, logp: Tensor, logq: Tensor, where: Where) -> Tensor:
        """Correction factor of each candidate, min(q / p, clip); no gradient flows through it.

        With `contrast` the denominator is not p: `logp` are the log-probs told a wrong answer. With `sign`, where the
        advantage is negative, `logp` and `logq` are exchanged.

        Called for chunks of positions, with `candidates="exact"` also for tiles of the vocabulary: a factor may depend
        on what it is given, and on nothing it saw in another call.

        Args:
            logp, logq: (C, m) fp32 log-probs of the same tokens under policy and posterior.
            where: which tokens of which rationales these are.

        Returns:
            (C, m), or (C, 1): the same for all candidates of a position.
        """
        return (logq - logp).exp().clamp(max=self.args.spec.limit)

    # ---------------------------------------------------------------- the update

    def prepared(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.told.prepared(rows)

    def complete(self, rows: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        super().complete(rows, batch)
        self.told.complete(rows, batch)
        if self.args.sign is not None:
            everyone = self.accelerator.gather(batch["rewards"]).view(-1, self.group_size)
            self.take_advantages(batch, group_relative(everyone, "group").flatten().nan_to_num(nan=0.0))

    def trained(self, inputs: dict[str, Any]) -> Tensor:
        return super().trained(inputs) if self.args.sign is None else inputs["trained"]

    def rows_total(self, inputs: dict[str, Any]) -> Tensor:
        """The kept ones, or with `sign` all."""
        return super().rows_total(inputs) if self.args.sign is None else self.all_rows(inputs)

    def undecided(self, rewards_per_func: Tensor) -> Tensor:
        if self.args.sign is None:
            return super().undecided(rewards_per_func)
        return OnlineTrainer.undecided(self, rewards_per_func)

    @hook
    def has_signal(self, rewards_per_func: Tensor) -> Tensor:
        """(groups,) bool: groups with a rationale that is kept, or with `sign` with two different sums."""
        if self.args.sign is None:
            return super().has_signal(rewards_per_func)
        return OnlineTrainer.has_signal(self, rewards_per_func)

    def _compute_loss(self, model, inputs):
        kept = self.trained_rows(inputs)
        batch, signals = self.policy_batch(kept), self.signals_of(inputs, kept)
        posterior_hidden, posterior_head = self.told.hidden(model, inputs, kept)
        wrong_hidden = self.told.hidden(model, inputs, kept, WRONG)[0] if self.args.contrast else None
        weights = self.weights_of(batch, signals)
        if self.args.sign is not None:
            weights = weights * signals.advantages[batch.target_rows]
        sampled_N = self.sampled_logps(inputs, [row for row, _, _ in kept], batch)

        def head_fn(hidden: Tensor, head: Head) -> tuple[Tensor, IntroStats]:
            loss_of = functools.partial(
                intro_loss,
                hidden,
                posterior_hidden,
                head,
                batch.target_ids,
                weights,
                self.args.spec,
                posterior_head=posterior_head,
                generator=self._generator(hidden.device),
                choose=self._overridden("choose_candidates"),
                reweigh=None if sampled_N is None else self._reweigh(hidden, head, batch, sampled_N),
                measure=self._measure,
            )
            if wrong_hidden is None:
                return loss_of(factor_at=self._factor_at(batch, signals, hidden.device))
            with gathered_head(posterior_head or head) as (whole,):
                wrong = LogprobsAt(wrong_hidden.to(hidden.device), whole, batch.target_ids)
                return loss_of(factor_at=self._factor_at(batch, signals, hidden.device, wrong))

        self.ledger.add("train", batch.counted)
        with self.accelerator.autocast():
            passed = {**self.model_inputs(batch), "head_fn": head_fn}
            (loss, stats), auxiliary = forward_with_auxiliary(self, model, passed, self.track)
        self._track_stats(stats, inputs, [row for row, _, _ in kept], batch)
        return self._reported(loss, stats, weights) + auxiliary

    def _factor_at(
        self, batch: Batch, signals: Signals, device: torch.device, wrong: LogprobsAt | None = None
    ) -> FactorAt | None:
        """`factor` as the kernel calls it, for a slice of the N positions; None leaves the kernel's own.

        Args:
            wrong: log-probs told a wrong answer, which the factor compares with in the policy's place; None: none.
        """
        signed = self.args.sign is not None
        if wrong is None and not signed and self._overridden("factor") is None:
            return None
        places = batch.loss_mask.cumsum(dim=1) - 1
        rows, positions, taken = (x.to(device) for x in (batch.target_rows, places[batch.loss_mask], batch.target_ids))
        known = signals.to(device)

        def factor_at(logp: Tensor, logq: Tensor, at: slice, ids: Tensor) -> Tensor:
            compared = logp if wrong is None else wrong(at, ids).to(logp.dtype)
            if signed:
                worse = (known.advantages[rows[at]] < 0)[:, None]
                compared, logq = torch.where(worse, logq, compared), torch.where(worse, compared, logq)
            return self.factor(compared, logq, Where(rows[at], positions[at], ids, taken[at], known))

        return factor_at

    @property
    def _measure(self) -> Factor | None:
        """What the kernel adds up over the vocabulary beside the loss."""
        return None

    def _reported(self, loss: Tensor, stats: IntroStats, weights_N: Tensor) -> Tensor:
        """The loss with the value that is reported."""
        return loss

    def _track_stats(self, stats: IntroStats, inputs: dict[str, Any], rows: list[int], batch: Batch) -> None:
        self.track("factor/taken", stats.factor_taken)
        self.track("factor/sampled", stats.factor_sampled)
        self.track("factor/clipped", stats.clipped)
        self.told.track_style(inputs, stats.factor_taken, batch.target_ids)
        self.track("factor/kl", stats.kl)
        self.track("entropy", stats.entropy)
        if (right_N := self.right_tokens(inputs, rows, batch)) is not None:
            self.track("factor/taken_right", stats.factor_taken[right_N])
            self.track("factor/taken_wrong", stats.factor_taken[~right_N])

    # ---------------------------------------------------------------- checkpoints

    def write_files(self, folder: Path) -> None:
        super().write_files(folder)
        self.told.save(folder)

    def read_files(self, folder: Path) -> None:
        super().read_files(folder)
        self.told.load(folder)

    # ---------------------------------------------------------------- helpers

    def _overridden(self, name: str) -> Any:
        """The method, when a subclass overrides it; None leaves the kernel's own, which is faster."""
        overridden = getattr(type(self), name) is not getattr(InTROTrainer, name)
        return getattr(self, name) if overridden else None

    def _generator(self, device: torch.device) -> torch.Generator:
        return torch.Generator(device=device).manual_seed(step_seed(self, purpose=_CANDIDATES))
