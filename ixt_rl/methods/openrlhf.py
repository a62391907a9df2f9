"""What a stage on rollouts may ask of OpenRLHF: everything else is refused before anything starts. Imports no torch."""

from __future__ import annotations

from typing import Any

from ixt_rl.errors import ConfigError

METHODS = ("intro", "rlsd")
"""Types of stages whose loss is there for OpenRLHF's actors."""


def check_openrlhf(stage: Any) -> None:
    """Raises ConfigError for what OpenRLHF, or the method in it, cannot honour.

    Args:
        stage: an `OnlineStage` with `backend: openrlhf`.
    """
    if stage.type not in METHODS:
        raise ConfigError(
            f"backend: openrlhf with type: {stage.type}",
            reason=f"the losses that its actors can compute are those of {' and '.join(METHODS)}"
            + ("; a class of one's own trains in this library's loop" if stage.type == "python" else ""),
            remedy=f"set type: {' or '.join(METHODS)}, or leave backend out",
        )
    for what, reason, remedy in _conflicts(stage):
        raise ConfigError(f"{what} with backend: openrlhf", reason=reason, remedy=remedy)


def _conflicts(stage: Any) -> list[tuple[str, str, str]]:
    """(what, why it cannot be, what to do) of each key that OpenRLHF cannot honour."""
    settings, sampling, own = stage.openrlhf, stage.sampling, stage.own
    ranks = settings.ranks
    found: list[tuple[bool, str, str, str]] = [
        (stage.lora is not None, "lora", "its LoRA names weights that its vLLM engines do not know",
         "leave lora out"),
        (stage.reuses_rollouts, f"steps_per_generation={stage.steps_per_generation}, num_iterations="
         f"{stage.num_iterations}", "every rollout is trained on once", "leave both at 1"),
        (stage.dynamic_sampling is not None, "dynamic_sampling", "its filter asks for means of rewards, not for "
         "what a method learns from", "leave it out"),
        (bool(sampling.stop), f"sampling.stop={sampling.stop}", "its requests have no stop strings", "leave it out"),
        (bool(sampling.truncated), f"sampling: {sampling.truncated}", "it would bias every ratio",
         "leave top_p, top_k and min_p at their defaults"),
        (stage.optim.name != "adamw", f"optim.name={stage.optim.name}", "DeepSpeed runs AdamW or Muon there",
         "set optim.name: adamw"),
        (stage.keep_best is not None, "keep_best", "it is measured before and after training alone",
         "leave keep_best out"),
        (stage.evaluation is not None and stage.evaluation.suites is not None, "evaluation.suites",
         "it is measured on the stage's problems alone", "add an evaluation of suites with `ixt-rl eval`"),
        (own.posterior.source in ("ema", "lagged"), f"{stage.block}.posterior.source={own.posterior.source}",
         "its actors have the policy and, for a frozen posterior, a copy that stays",
         "set posterior.source: live or frozen"),
        (own.posterior.source == "frozen" and settings.zero_stage == 3, "posterior.source=frozen and zero_stage=3",
         "each actor has the frozen copy whole", "set openrlhf.zero_stage: 2, or posterior.source: live"),
        (own.contrast, f"{stage.block}.contrast", "its actors run one told pass", "leave contrast out"),
        (getattr(own, "sign", None) is not None, "intro.sign", "its actors train what is kept", "leave sign out"),
        (stage.rollouts_per_step % ((stage.micro_batch_size or stage.rollouts_per_step // ranks or 1) * ranks) != 0,
         f"rollouts_per_step={stage.rollouts_per_step}, micro_batch_size={stage.micro_batch_size}, {ranks} actors",
         "each actor computes the same number of whole micro-batches",
         "make rollouts_per_step a multiple of micro_batch_size times the actors"),
    ]  # fmt: skip
    return [(what, reason, remedy) for wrong, what, reason, remedy in found if wrong]
