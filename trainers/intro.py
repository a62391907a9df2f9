"""InTRO: in-token rationality optimization (arXiv 2511.09865).

One update, for kept rationales z of questions x with known answers y:

    q_t = pi(. | x (+) y, z_<t)     one pass without gradient, the model shown the answer
    p_t = pi(. | x, z_<t)           one pass with gradient
    w_t^i = min(q_t(c_t^i) / p_t(c_t^i), clip)        n candidates c_t^i at every position
    loss = - 1/K sum_z 1/|z| sum_t 1/n sum_i w_t^i log p_t(c_t^i)

Both passes yield hidden states only; the kernel walks the vocabulary head once for loss, statistics
and gradient. Departures from the paper are options: `candidates="exact"` sums over the vocabulary, and
`posterior` may be a frozen copy or a moving average of the model (the paper's is the live model).

Shapes: B rows, T tokens, N loss-bearing tokens, D hidden, V vocabulary, n candidates, C tokens of a chunk.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback
from trl import GRPOConfig

from ixt_rl.conditioning import Batch, encode_prompt, prompt_completion
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels.correction import Correction
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.intro import IntroSpec, IntroStats, intro_loss
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.kernels.walk import Reweigh
from ixt_rl.rollout.trl_adapter import check_positions, step_seed
from ixt_rl.trainers.auxiliary import forward_with_auxiliary
from ixt_rl.trainers.dropout import evaluation_mode
from ixt_rl.trainers.ema import WeightAverage, trained
from ixt_rl.trainers.head import model_head
from ixt_rl.trainers.kept import KeptTrainer, signals_of, takes
from ixt_rl.trainers.reference_policy import is_zero3, prepared_copy
from ixt_rl.trainers.refused_options import ENGINE, OWN_LOSS, RATIO, refuse_options, refuse_reuse
from ixt_rl.trainers.where import Where

_CANDIDATES = 2  # purpose of a seed, beside evaluation (0) and training (1) rollouts


@dataclass
class InTROConfig(GRPOConfig):
    """`trl.GRPOConfig` with InTRO's options; GRPO options it cannot honour are refused.

    Args:
        candidates: n candidate tokens at every position, or `"exact"` for the whole vocabulary.
        include_taken: the token actually taken is the first of the n.
        clip: upper bound of the correction factor; None for no bound.
        posterior: the model shown the answer: `live`, a `frozen` copy of the initial model, or its `ema`.
        posterior_decay: decay of the moving average, per update; `ema` only.
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
    posterior: Literal["live", "frozen", "ema"] = field(default="live")
    posterior_decay: float | None = field(default=None)
    disable_dropout: bool = field(default=True)
    importance_ratio: bool = field(default=False)
    keep: list[str] | None = field(default=None)
    keep_reward: float = field(default=1.0)
    self_checks: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_options(self, ENGINE, OWN_LOSS, RATIO)
        refuse_reuse(self)
        if (self.posterior == "ema") != (self.posterior_decay is not None):
            raise ConfigError(
                f"posterior={self.posterior!r} with posterior_decay={self.posterior_decay}",
                reason="a moving average needs its decay, and nothing else has one",
                remedy="give both (posterior='ema', posterior_decay=0.99) or neither",
            )
        self.spec  # noqa: B018 - validates candidates and clip

    @property
    def spec(self) -> IntroSpec:
        return IntroSpec(self.candidates, self.include_taken, self.clip)  # type: ignore[arg-type]


class InTROTrainer(KeptTrainer):
    """InTRO on TRL's GRPOTrainer; dataset rows need `prompt` and `told_prompt`.

    To change the method, override one of:

    - `choose_candidates`: which tokens stand for the vocabulary at each position;
    - `factor`: the weight of a candidate, from its two log-probs;
    - `token_weights`: how positions and rationales are averaged;
    - `keep`: which rationales are trained.
    """

    _tag_names = ["trl", "ixt-rl", "intro"]
    _name = "InTRO"

    def __init__(self, model: PreTrainedModel | str, reward_funcs: Any, args: InTROConfig, **kwargs: Any):
        if args.importance_ratio and kwargs.get("correction") is None:
            kwargs["correction"] = Correction()
        super().__init__(model, reward_funcs, args, **kwargs)
        self.posterior_model = self._make_posterior()
        self.average = WeightAverage(args.posterior_decay) if args.posterior_decay is not None else None
        if self.average is not None:
            self.add_callback(_MovesPosterior(self, self.average))

    # ---------------------------------------------------------------- override these

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

    def factor(self, logp: Tensor, logq: Tensor) -> Tensor:
        """Correction factor of each candidate, min(q / p, clip); no gradient flows through it.

        An override with a third argument, `where`, gets a `Where`: rows, positions, token ids, signals.

        Args:
            logp, logq: (C, m) log-probs of the same tokens under policy and posterior.
        """
        return (logq - logp).exp().clamp(max=self.args.spec.limit)

    # ---------------------------------------------------------------- the update

    def _generate_and_score_completions(self, inputs):
        if "told_prompt" not in inputs[0]:
            raise DataError(
                f"dataset columns {sorted(inputs[0])}",
                reason="the posterior needs the answer-conditioned prompt of each row",
                remedy="add a `told_prompt` column (ixt_rl.conditioning.PromptTemplate renders it)",
            )
        check_positions(self._told(inputs), self, "a told prompt")  # before anything is sampled
        return super()._generate_and_score_completions(inputs)

    def add_signals(self, rows: list[dict[str, Any]], batch: dict[str, Any], rewards: Tensor) -> None:
        super().add_signals(rows, batch, rewards)
        batch["told_prompt_ids"] = self._told(rows)

    def _told(self, rows: list[dict[str, Any]]) -> list[list[int]]:
        """Ids of the rows' told prompts.

        Raises:
            DataError: one is empty.
        """
        for row in rows:
            if not row.get("told_prompt"):
                raise DataError(
                    f"told_prompt={row.get('told_prompt')!r} of the prompt {row['prompt']!r:.80}",
                    reason="the posterior is the model that is told the answer",
                    remedy="render it with ixt_rl.conditioning.PromptTemplate, or leave the row out",
                )
        limit, options = self.rollouts.max_prompt_tokens, self.args.chat_template_kwargs
        return [encode_prompt(self.processing_class, row["told_prompt"], limit, options) for row in rows]

    def _compute_loss(self, model, inputs):
        kept = self.kept_rows(inputs)
        batch = self.policy_batch(kept)
        posterior_hidden, posterior_head = self._posterior_pass(model, inputs, kept)
        weights = self.weights_of(batch, inputs, kept)
        sampled_N = self.sampled_logps(inputs, [row for row, _, _ in kept], batch)
        hooks = {"choose": self._hook("choose_candidates"), **self._factor_hook(batch, inputs, kept)}

        def head_fn(hidden: Tensor, head: Head) -> tuple[Tensor, IntroStats]:
            reweigh = None
            if sampled_N is not None:
                reweigh = self._reweigh(hidden, head, batch, sampled_N)
            return intro_loss(
                hidden,
                posterior_hidden,
                head,
                batch.target_ids,
                weights,
                self.args.spec,
                posterior_head=posterior_head,
                generator=self._generator(hidden.device),
                reweigh=reweigh,
                **hooks,
            )

        self.ledger.add("train", int(batch.attention_mask.sum()))
        with self.accelerator.autocast():
            passed = {**self.model_inputs(batch), "head_fn": head_fn}
            (loss, stats), auxiliary = forward_with_auxiliary(self, model, passed, self.track)
        self._track_stats(stats, inputs, [row for row, _, _ in kept])
        return loss + auxiliary

    def _reweigh(self, hidden: Tensor, head: Head, batch: Batch, sampled_N: Tensor) -> Reweigh:
        """Importance weights from the log-probs of the forward pass that also forms the factors.

        A token's own ratio is known as the kernel walks. A sequence's needs all its tokens first: one more product
        with the head, on the same hidden states.
        """
        if self.correction is not None and self.correction.level == "sequence":
            with torch.no_grad():
                logp_N, _ = selected_logprobs(hidden, head, batch.target_ids)
            weights_N = self.correction_weights(logp_N, sampled_N, batch.target_rows)
            return lambda logp_C, rows: weights_N[rows]
        return lambda logp_C, rows: self.correction_weights(logp_C, sampled_N[rows], batch.target_rows[rows])

    def _posterior_pass(self, model, inputs, kept) -> tuple[Tensor, Head | None]:
        """Hidden states (N, D) of [x (+) y, z] without gradient, and the posterior's own head if any."""
        told = inputs["told_prompt_ids"]
        batch = self.collate([prompt_completion(told[row] if z else told[row][:1], z) for row, _, z in kept])
        self.ledger.add("posterior", int(batch.attention_mask.sum()))
        posterior = model if self.posterior_model is None else self.posterior_model
        with torch.no_grad(), self.accelerator.autocast(), self._frozen_adapters(), evaluation_mode(posterior):
            hidden = posterior(**self.model_inputs(batch), head_fn=lambda hidden, head: hidden)
        if self.posterior_model is None:
            return hidden, None
        return hidden, model_head(self._unwrapped(self.posterior_model), self.temperature)

    def _track_stats(self, stats: IntroStats, inputs: dict[str, Any], rows: list[int]) -> None:
        self.track("factor/taken", stats.factor_taken)
        self.track("factor/sampled", stats.factor_sampled)
        self.track("factor/clipped", stats.clipped)
        self.track("posterior_kl", stats.kl)
        self.track("entropy", stats.entropy)
        if "token_right" in inputs:
            right = inputs["token_right"][rows].bool()
            width = inputs["completion_mask"][rows].bool()
            right_N = right[width] if len(stats.logp) else right.new_zeros(0)
            self.track("factor/taken_right", stats.factor_taken[right_N])
            self.track("factor/taken_wrong", stats.factor_taken[~right_N])

    # ---------------------------------------------------------------- checkpoints

    def write_files(self, folder: Path) -> None:
        super().write_files(folder)
        if self.average is not None:
            self.average.save(folder, self)

    def read_files(self, folder: Path) -> None:
        super().read_files(folder)
        if self.average is not None:
            self.average.load(folder, self.model)
            self.average.put(self._unwrapped(self.posterior_model))

    # ---------------------------------------------------------------- helpers

    def _unwrapped(self, model: Any) -> Any:
        return self.accelerator.unwrap_model(model)

    def _hook(self, name: str):
        """The method, when a subclass overrides it; None leaves the kernel's own, which is faster."""
        overridden = getattr(type(self), name) is not getattr(InTROTrainer, name)
        return getattr(self, name) if overridden else None

    def _factor_hook(self, batch: Batch, inputs: dict[str, Any], kept) -> dict[str, Any]:
        """The kernel's `factor` or, where the override takes a `where`, its `factor_at`."""
        factor = self._hook("factor")
        if factor is None or not takes(factor, "where"):
            return {"factor": factor}
        targets, rows, signals = batch.target_ids, batch.target_rows, signals_of(inputs, kept)
        positions = (batch.loss_mask.cumsum(dim=1) - 1)[batch.loss_mask]

        def factor_at(logp: Tensor, logq: Tensor, at: slice, ids: Tensor) -> Tensor:
            return factor(logp, logq, where=Where(rows[at], positions[at], ids, targets[at], signals))

        return {"factor_at": factor_at}

    def _generator(self, device: torch.device) -> torch.Generator:
        return torch.Generator(device=device).manual_seed(step_seed(self, purpose=_CANDIDATES))

    def _make_posterior(self) -> Any:
        """The frozen or averaged copy, or None where the model itself serves."""
        lora = hasattr(self.model, "get_base_model")
        if self.args.posterior == "ema" and lora:
            raise ConfigError(
                "posterior='ema' with LoRA",
                reason="an average of adapters is not the adapter of an average",
                remedy="use posterior='frozen' (the adapters are switched off) or 'live'",
            )
        if self.args.posterior == "live" or lora:
            return None
        if self.is_fsdp_enabled and not self.accelerator.is_fsdp2:
            raise ConfigError(
                f"posterior={self.args.posterior!r} with FSDP 1",
                reason="FSDP 1 frees the copy's head after its forward, and the loss reads it later",
                remedy="set fsdp_version: 2, or posterior='live'",
            )
        if is_zero3(self) and self.args.posterior == "ema":
            raise ConfigError(
                "posterior='ema' with ZeRO-3",
                reason="the average would have to gather every parameter at every update",
                remedy="use ZeRO-2, or posterior='frozen'",
            )
        return prepared_copy(self, self.temperature)

    @contextmanager
    def _frozen_adapters(self):
        """With LoRA, the frozen posterior is the base model: its adapters are switched off for the pass."""
        if self.args.posterior == "frozen" and self.posterior_model is None:
            with self.accelerator.unwrap_model(self.model).disable_adapter():
                yield
        else:
            yield


class _MovesPosterior(TrainerCallback):
    """posterior <- decay * posterior + (1 - decay) * policy after every update; float32, whatever the model's dtype."""

    def __init__(self, trainer: InTROTrainer, average: WeightAverage):
        self.trainer, self.average = trainer, average

    def on_train_begin(self, args, state, control, **kwargs):
        if not self.average.weights:
            names = trained(self.trainer._unwrapped(self.trainer.model))
            posterior = self.trainer._unwrapped(self.trainer.posterior_model)
            self.average.start({name: weight for name, weight in posterior.named_parameters() if name in names})

    def on_step_end(self, args, state, control, **kwargs):
        self.average.update(self.trainer._unwrapped(self.trainer.model))
        self.average.put(self.trainer._unwrapped(self.trainer.posterior_model))
