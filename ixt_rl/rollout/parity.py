"""Whether an engine computes the log-probs that the trainer computes: asked at the start, and of an engine outside the
trainer's model after every update.

Shapes: B probes (prompts x engines), P prompt tokens, T completion tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ixt_rl.errors import ParityError
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.sync import from_rank_0
from ixt_rl.types import Rollout, SamplingParams

PROBE_PROMPTS = 4
PROBE_TOKENS = 16


def default_limit(dtype: torch.dtype) -> float:
    """Largest |log-prob difference| of one token: 1e-2 in float32, where kernels agree to 1e-4, and 0.5 in half
    precision, where single tokens differ by some tenths."""
    return 1e-2 if dtype in (torch.float32, torch.float64) else 0.5


def check_parity(engine: RolloutEngine, trainer: Any, prompts: list[list[int]], limit: float | None) -> float:
    """Samples a fixed set of prompts on every engine and scores them by the trainer. All ranks call it.

    The largest difference is logged as `parity/logp_abs_max`.

    Args:
        engine: with `probe(prompts, sampling) -> [engine][prompt]` if it is several.
        trainer: a GRPOTrainer, ours or TRL's; the score is by its own log-prob function, in evaluation mode.
        prompts: token ids.
        limit: see `EngineRollouts`.

    Returns:
        The largest |log-prob difference| of a sampled token, in nats.

    Raises:
        ParityError: it is above the limit, or not a number.
    """
    by_engine = from_rank_0(lambda: _probed(engine, prompts, probe_sampling(trainer)))
    difference = score_difference(trainer, [rollout for rollouts in by_engine for rollout in rollouts])  # [B, T]
    worst_by_engine = difference.amax(1).view(len(by_engine), len(prompts)).amax(1)
    worst = float(worst_by_engine.max())
    trainer._metrics["train"]["parity/logp_abs_max"].append(worst)
    limit = _limit(trainer, limit)
    if not worst <= limit:
        name = f"engine {int(worst_by_engine.argmax())}" if len(by_engine) > 1 else "the engine"
        raise ParityError(
            f"after the update to step {trainer.state.global_step}, log-probs of {name} differ from the trainer's by "
            f"{worst:.2g}, limit {limit:g}",
            reason="the engine samples from another policy than the one trained: stale or wrong weights, another dtype "
            "or another temperature",
            remedy="compare the engine's model with the trainer's (dtype, tied head, adapters); if the difference is "
            "rounding, raise engine.parity_limit",
        )
    return worst


def check_in_process(trainer: Any, rollouts: list[Rollout], limit: float | None) -> float:
    """As `check_parity`, of what the trainer's own model sampled: decoding with a cache against the pass that trains.

    All ranks call it, each with rollouts of its own. Nothing is logged, and the ledger counts none of it.

    Raises:
        ParityError: the difference is above the limit on some rank, or not a number.
    """
    ledger = getattr(trainer, "ledger", None)
    counted = {} if ledger is None else dict(ledger.tokens)
    difference = score_difference(trainer, rollouts).max().reshape(1)
    if ledger is not None:
        ledger.tokens.clear()
        ledger.tokens.update(counted)
    worst = float(trainer.accelerator.gather(difference.to(trainer.accelerator.device)).max())
    limit = _limit(trainer, limit)
    if not worst <= limit:
        model = trainer.accelerator.unwrap_model(trainer.model)
        name = type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__
        raise ParityError(
            f"log-probs that {name} samples with differ from the trainer's by {worst:.2g}, limit {limit:g}",
            reason="token by token, with a cache, the model computes other numbers than in the pass that trains; its "
            "rollouts would be another policy's",
            remedy="compare model.generate with model.forward in this dtype, or take engine.type: vllm; if the "
            "difference is rounding, raise engine.parity_limit; self_checks: {engine: false} trains nevertheless",
        )
    return worst


def _probed(engine: Any, prompts: list[list[int]], sampling: SamplingParams) -> list[list[Rollout]]:
    """One rollout a prompt: [engine][prompt]."""
    if hasattr(engine, "probe"):
        return engine.probe(prompts, sampling)
    return [[group[0] for group in engine.generate(prompts, sampling)]]


def probe_sampling(trainer: Any) -> SamplingParams:
    """A few tokens at the trainer's temperature, untruncated, with a seed of their own."""
    return SamplingParams(min(PROBE_TOKENS, trainer.args.max_completion_length), trainer.args.temperature, seed=0)


def _limit(trainer: Any, limit: float | None) -> float:
    return default_limit(_computed(trainer)) if limit is None else limit


def _computed(trainer: Any) -> torch.dtype:
    """What the trainer's passes compute in: mixed precision's dtype, else the weights'."""
    mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.accelerator.mixed_precision)
    return mixed or trainer.accelerator.unwrap_model(trainer.model).dtype


def score_difference(trainer: Any, rollouts: list[Rollout]) -> Tensor:
    """`[B, T]` |log-prob by the trainer - log-prob by the engine| of each sampled token, 0 past a completion's end."""
    pad = trainer.processing_class.pad_token_id
    prompts = _padded([r.prompt_ids for r in rollouts], pad, left=True)
    completions = _padded([r.completion_ids for r in rollouts], pad)
    sampled = _padded([r.logprobs for r in rollouts], 0.0)
    mask = torch.cat(
        [
            _padded([[1] * len(r.prompt_ids) for r in rollouts], 0, left=True),
            _padded([[1] * len(r.completion_ids) for r in rollouts], 0),
        ],
        1,
    )
    device, width = trainer.accelerator.device, completions.shape[1]
    training = trainer.model.training
    trainer.model.eval()  # dropout off, as in the engine
    try:
        with torch.no_grad():
            scored, *_ = trainer._get_per_token_logps_and_entropies(
                trainer.model, torch.cat([prompts, completions], 1).to(device), mask.to(device), width
            )
    finally:
        trainer.model.train(training)
    return ((scored.float().cpu() - sampled) * mask[:, -width:]).abs()


def _padded(rows: list, fill: float, left: bool = False) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[fill] * (width - len(r)) + [*r] if left else [*r] + [fill] * (width - len(r)) for r in rows])
