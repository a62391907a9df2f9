"""The losses of an actor's training step, by the kernels that this library's own trainers use.

    InTRO   - 1/K sum_z 1/|z| sum_t 1/n sum_i w_t^i log p_t(c_t^i),   w = min(q / p, clip)        K kept rationales
    RLSD    - 1/K sum_z A / |z| sum_t f_t log p_t(z_t)                f of `told_factor`          K rationales

Every rollout is of the policy that is trained, so that the ratio of RLSD's surrogate is 1, and its gradient that of
the loss above. Tokens are corrected by the ratio of the policy to the engine that sampled (`Correction`).

Shapes: R rows, T tokens, N trained tokens of all rows, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ixt_rl.conditioning import Batch, pad, prompt_completion
from ixt_rl.kernels.correction import Correction, reweigh_at_level
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.intro.loss import intro_loss
from ixt_rl.kernels.intro.spec import IntroSpec
from ixt_rl.kernels.intro.walk import Reweigh
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.kernels.nll import nll_loss
from ixt_rl.kernels.told_factor import told_factor
from ixt_rl.trainers.dropout import evaluation_mode

Forward = Callable[..., Tensor]
"""A model with a head function (`ixt_rl.trainers.head.add_head_function`): `(**inputs, head_fn=...) -> Tensor`."""


@dataclass(frozen=True)
class Rationale:
    """One rollout that is trained.

    Args:
        prompt, told: ids of its prompt, plain and told the answer.
        completion: ids that were sampled.
        sampled: log-probs of these by the engine; empty: it gave none, and nothing is corrected.
        advantage: what RLSD weighs it by; InTRO reads none.
    """

    prompt: Sequence[int]
    told: Sequence[int]
    completion: Sequence[int]
    sampled: Sequence[float] = ()
    advantage: float = 1.0


@dataclass(frozen=True)
class Told:
    """The pass that is told the answer, without gradient.

    Args:
        forward: the policy, or a copy that stays.
        head: the copy's own output head; None for the policy.
    """

    forward: Forward
    head: Callable[[], Head] | None = None


@dataclass(frozen=True)
class Method:
    """What a stage asks of an update; either `intro` or `epsilon` is given.

    Args:
        intro: InTRO's candidates and clip.
        epsilon, mix: RLSD's; see `told_factor`.
        correction: of tokens by the ratio of policy to engine; None: none.
    """

    intro: IntroSpec | None = None
    epsilon: float | None = None
    mix: float = 1.0
    correction: Correction | None = None


def method_of(method: Mapping[str, Any]) -> Method:
    """A job's method."""
    correction = None if method["correction"] is None else Correction(**method["correction"])
    if method["type"] == "intro":
        return Method(IntroSpec(method["candidates"], method["include_taken"], method["clip"]), correction=correction)
    return Method(epsilon=method["factor_epsilon"], mix=method["mix"], correction=correction)


def told_by(model: Any, head: Callable[[], Head] | None = None) -> Told:
    """The told pass of a model: in evaluation mode, while the pass that trains is in training mode."""

    def forward(**inputs: Any) -> Tensor:
        with torch.no_grad(), evaluation_mode(model):
            found: Tensor = model(**inputs)
        return found

    return Told(forward, head)


@dataclass(frozen=True)
class MicroBatch:
    """Rationales as tensors: R rows, whose N completion tokens are trained.

    Args:
        plain, beside: the rows, with the prompt plain and told the answer; both have the same targets.
        weights: (N,) fp32, what each token counts in the loss: scale / |z|.
        sampled: (N,) fp32 log-probs by the engine that sampled; None: nothing to correct by.
        advantages: (N,) fp32, of each token's row.
    """

    plain: Batch
    beside: Batch
    weights: Tensor
    sampled: Tensor | None
    advantages: Tensor


def micro_batch(rows: Sequence[Rationale], scale: float, pad_id: int, device: torch.device | str) -> MicroBatch:
    """Rationales, padded.

    Args:
        rows: R rationales; none: a row of one token that trains nothing, because every rank runs the same passes.
        scale: of each rationale's mean over its tokens: 1 / K, and what the engine divides gradients by.
        pad_id: what rows are padded with.
        device: of the model.
    """
    chosen = rows or [Rationale([pad_id], [pad_id], [])]
    plain = pad([prompt_completion(row.prompt, row.completion) for row in chosen], pad_id).to(device)
    beside = pad([prompt_completion(row.told, row.completion) for row in chosen], pad_id).to(device)
    weights = token_weights(plain, scale)
    sampled = [value for row in chosen for value in row.sampled]
    given = len(sampled) == len(weights) and bool(sampled)
    advantages = torch.tensor([row.advantage for row in chosen], device=device)
    return MicroBatch(
        plain, beside, weights, torch.tensor(sampled, device=device) if given else None, advantages[plain.target_rows]
    )


def token_weights(batch: Batch, scale: float) -> Tensor:
    """(N,) fp32: scale / |z| of each trained token, as `TrainedRowsTrainer.token_weights` with K = 1 / scale."""
    lengths = batch.loss_mask.sum(dim=1)
    return scale / lengths[batch.target_rows].float()


def update(
    policy: Forward, told: Told, micro: MicroBatch, method: Method, generator: torch.Generator | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a micro-batch (0-d, with gradient) and what is logged, `[N]` fp32 a name.

    Args:
        policy: the wrapped model that trains.
        told: the pass that is told.
        micro: see `micro_batch`.
        method: see `Method`.
        generator: source of InTRO's candidates.
    """
    if method.intro is not None:
        return _intro(policy, told, micro, method, generator)
    return _rlsd(policy, told, micro, method)


def _intro(
    policy: Forward, told: Told, micro: MicroBatch, method: Method, generator: torch.Generator | None
) -> tuple[Tensor, dict[str, Tensor]]:
    spec = method.intro
    assert spec is not None
    posterior = told.forward(**_inputs(micro.beside), head_fn=lambda hidden, head: hidden)
    logged: dict[str, Tensor] = {}

    def head_fn(hidden: Tensor, head: Head) -> Tensor:
        loss, stats = intro_loss(
            hidden,
            posterior,
            head,
            micro.plain.target_ids,
            micro.weights,
            spec,
            posterior_head=None if told.head is None else told.head(),
            generator=generator,
            reweigh=_reweigh(hidden, head, micro, method.correction, logged),
        )
        logged.update({
            "factor/taken": stats.factor_taken,
            "factor/clipped": stats.clipped,
            "factor/kl": stats.kl,
            "entropy": stats.entropy,
        })  # fmt: skip
        if spec.exact or spec.candidates != 1 or not spec.include_taken:  # else none is drawn
            logged["factor/sampled"] = stats.factor_sampled
        return loss

    return policy(**_inputs(micro.plain), head_fn=head_fn), logged


def _rlsd(policy: Forward, told: Told, micro: MicroBatch, method: Method) -> tuple[Tensor, dict[str, Tensor]]:
    epsilon = method.epsilon
    assert epsilon is not None
    targets = micro.beside.target_ids
    told_N = told.forward(
        **_inputs(micro.beside), head_fn=lambda hidden, head: selected_logprobs(hidden, head, targets)[0]
    )
    logged = {"factor/taken": torch.ones_like(micro.weights), "factor/clipped": torch.zeros_like(micro.weights)}

    def head_fn(hidden: Tensor, head: Head) -> Tensor:
        corrected = _reweigh(hidden, head, micro, method.correction, logged)

        def slope(logp_C: Tensor, at: slice) -> Tensor:
            advantages_C, told_C = micro.advantages[at].to(logp_C), told_N[at].to(logp_C)
            factor_C, clipped_C = told_factor(logp_C, told_C, advantages_C.sign(), epsilon, method.mix)
            logged["factor/taken"][at], logged["factor/clipped"][at] = factor_C, clipped_C.float()
            scale_C = advantages_C * factor_C
            return scale_C if corrected is None else scale_C * corrected(logp_C, at)

        loss, stats = nll_loss(hidden, head, micro.plain.target_ids, micro.weights, reweigh=slope)
        logged["entropy"] = stats.entropy
        return loss

    return policy(**_inputs(micro.plain), head_fn=head_fn), logged


def _inputs(batch: Batch) -> dict[str, Any]:
    return {**batch.model_inputs(), "predictor_mask": batch.predictor_mask}


def _reweigh(
    hidden: Tensor, head: Head, micro: MicroBatch, correction: Correction | None, logged: dict[str, Tensor]
) -> Reweigh | None:
    """Weights by the ratio to the sampler, which is logged; None where there is nothing to correct."""
    sampled, batch = micro.sampled, micro.plain
    if sampled is None or correction is None:
        return None
    logged["sampler/logp_abs"] = apart = torch.zeros_like(sampled)

    def weights(logp_C: Tensor, at: slice) -> Tensor:
        log_ratio_C = (logp_C - sampled[at]).float()
        apart[at] = log_ratio_C.abs()
        return correction.weights(log_ratio_C, batch.target_rows[at])

    return reweigh_at_level(correction.level, hidden, head, batch.target_ids, weights)
