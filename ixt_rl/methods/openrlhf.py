"""What a stage may ask of OpenRLHF: everything else is refused before anything starts. Imports no torch."""

from __future__ import annotations

from typing import Any

from ixt_rl.blocks.rewards import judges_asked
from ixt_rl.errors import ConfigError

METHODS = ("intro", "rlsd")
"""Types of stages whose loss is there for OpenRLHF's actors."""

ON_DOCUMENTS = ("ixt", "sft")
"""Types of stages whose rows OpenRLHF's SFT trainer takes."""

Conflict = tuple[bool, str, str, str]
"""(whether it is there, what, why it cannot be, what to do)."""


def check_openrlhf(stage: Any) -> None:
    """Raises ConfigError for what OpenRLHF, or the method in it, cannot honour.

    Args:
        stage: an `OnlineStage` with `backend: openrlhf`.
    """
    _refuse_type(stage, METHODS, "the losses that its actors can compute are those of")
    _refuse([*_on_rollouts(stage), *_of_both(stage, "actor", "rollouts_per_step")])


def check_openrlhf_documents(stage: Any) -> None:
    """Raises ConfigError for what OpenRLHF's SFT trainer cannot honour.

    Args:
        stage: a `DocumentStage` with `backend: openrlhf`.
    """
    _refuse_type(stage, ON_DOCUMENTS, "what its SFT trainer is given are rows of")
    _refuse([*_on_documents(stage), *_of_both(stage, "model", "batch_size")])


def _refuse_type(stage: Any, types: tuple[str, ...], what: str) -> None:
    """`what`: the reason, up to the types that there are."""
    if stage.type not in types:
        raise ConfigError(
            f"backend: openrlhf with type: {stage.type}",
            reason=f"{what} {' and '.join(types)}"
            + ("; a class of one's own trains in this library's loop" if stage.type == "python" else ""),
            remedy=f"set type: {' or '.join(types)}, or leave backend out",
        )


def _refuse(conflicts: list[Conflict]) -> None:
    for there, what, reason, remedy in conflicts:
        if there:
            raise ConfigError(f"{what} with backend: openrlhf", reason=reason, remedy=remedy)


def _of_both(stage: Any, section: str, rows_key: str) -> list[Conflict]:
    """`section`: where flags of the model stand; `rows_key`: the key of an update's rows."""
    settings, ranks, rows = stage.openrlhf, stage.openrlhf.ranks, getattr(stage, rows_key)
    zpg, reentrant = settings.flags.get("ds.zpg", 1), f"{section}.gradient_checkpointing_reentrant"
    return [
        (stage.optim.name != "adamw", f"optim.name={stage.optim.name}", "DeepSpeed runs AdamW or Muon there",
         "set optim.name: adamw"),
        (stage.keep_best is not None, "keep_best", "it is measured before and after training alone",
         "leave keep_best out"),
        (rows % ((stage.micro_batch_size or rows // ranks or 1) * ranks) != 0,
         f"{rows_key}={rows}, micro_batch_size={stage.micro_batch_size}, {ranks} actors",
         "each actor computes the same number of whole micro-batches",
         f"make {rows_key} a multiple of micro_batch_size times the actors"),
        (zpg > 1 and settings.zero_stage != 3, f"flags: ds.zpg={zpg} and zero_stage={settings.zero_stage}",
         "only ZeRO-3 shards the weights that it groups", "set openrlhf.zero_stage: 3, or leave ds.zpg out"),
        (ranks % min(zpg, ranks) != 0, f"flags: ds.zpg={zpg} and {ranks} actors",
         "all actors are in groups of that many", "make the number of actors a multiple of ds.zpg"),
        (bool(settings.flags.get(reentrant)) and not stage.gradient_checkpointing, f"flags: {reentrant}",
         "nothing reads it without gradient_checkpointing", "set gradient_checkpointing: true, or leave it out"),
    ]  # fmt: skip


def _on_documents(stage: Any) -> list[Conflict]:
    return [
        (stage.packing.packed, "packing.packed: true", "it packs by flash-attn's own rules, and padded rows are kept "
         "apart on every backend", "set packing.packed: false"),
        (stage.lora is not None, "lora", "its model would come back as an adapter of other names",
         "leave lora out, or backend"),
        (stage.ema is not None, "ema", "its SFT trainer keeps no average of the weights", "leave ema out"),
    ]  # fmt: skip


def _on_rollouts(stage: Any) -> list[Conflict]:
    settings, sampling, own = stage.openrlhf, stage.sampling, stage.own
    loaded = [one.judge for one in judges_asked(stage.rewards) if one.judge.startswith(("hf:", "vllm:"))]
    return [
        (bool(loaded), f"the judge {''.join(loaded[:1])}", "each of its engines would load that model beside its own, "
         "and the process that evaluates once more", "serve it (`vllm serve FOLDER`), and name judge: openai:MODEL, "
         "with the server's base_url in its options"),
        (stage.lora is not None, "lora", "its LoRA names weights that its vLLM engines do not know",
         "leave lora out"),
        (stage.reuses_rollouts, f"steps_per_generation={stage.steps_per_generation}, num_iterations="
         f"{stage.num_iterations}", "every rollout is trained on once", "leave both at 1"),
        (stage.dynamic_sampling is not None, "dynamic_sampling", "its filter asks for means of rewards, not for "
         "what a method learns from", "leave it out"),
        (bool(sampling.stop), f"sampling.stop={sampling.stop}", "its requests have no stop strings", "leave it out"),
        (bool(sampling.truncated), f"sampling: {sampling.truncated}", "it would bias every ratio",
         "leave top_p, top_k and min_p at their defaults"),
        (stage.evaluation is not None and stage.evaluation.suites is not None, "evaluation.suites",
         "it is measured on the stage's problems alone", "add an evaluation of suites with `ixt-rl eval`"),
        (own.posterior.source in ("ema", "lagged"), f"{stage.block}.posterior.source={own.posterior.source}",
         "its actors have the policy and, for a frozen posterior, a copy that stays",
         "set posterior.source: live or frozen"),
        (own.posterior.source == "frozen" and settings.zero_stage == 3, "posterior.source=frozen and zero_stage=3",
         "each actor has the frozen copy whole", "set openrlhf.zero_stage: 2, or posterior.source: live"),
        (own.contrast, f"{stage.block}.contrast", "its actors run one told pass", "leave contrast out"),
        (getattr(own, "sign", None) is not None, "intro.sign", "its actors train what is kept", "leave sign out"),
        (getattr(own, "importance_ratio", False) and settings.correction is None,
         f"{stage.block}.importance_ratio and openrlhf.correction: null",
         "the ratio to what sampled is weighed by openrlhf.correction alone", "leave one of the two out"),
    ]  # fmt: skip
