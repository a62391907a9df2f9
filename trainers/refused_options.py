"""Every inherited TRL option is honoured or refused; none is dropped in silence.

The tables list, per trainer, the options of `GRPOConfig` or `SFTConfig` whose effect the trainer does not have, with
the reason. A contract test compares the list with TRL's fields, so that an option TRL adds must be
put on one side before the version range moves.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from transformers import TrainingArguments

from ixt_rl.errors import ConfigError

OWN_ROLLOUTS = "rollouts come from the rollout engine"

ENGINE: dict[str, str] = {
    "use_vllm": f"{OWN_ROLLOUTS}; choose it with `engine`",
    "use_transformers_continuous_batching": OWN_ROLLOUTS,
    "transformers_continuous_batching_config": OWN_ROLLOUTS,
    "use_transformers_paged": OWN_ROLLOUTS,
    "cache_implementation": OWN_ROLLOUTS,
    "generation_kwargs": f"{OWN_ROLLOUTS}; it takes temperature, top_p, top_k, min_p and max_completion_length",
    "repetition_penalty": "it changes the sampling distribution, and the loss does not know",
    "pad_to_multiple_of": "batches are rebuilt from the kept ids",
    "max_tool_calling_iterations": "tools are not supported",
    "log_multimodal": "images are not supported",
}
"""Refused by every trainer here: they replace TRL's generation."""

OWN_LOSS: dict[str, str] = {
    name: f"this trainer has its own loss; `{name}` belongs to GRPO's"
    for name in (
        "loss_type",
        "beta",
        "delta",
        "epsilon",
        "epsilon_high",
        "importance_sampling_level",
        "sapo_temperature_neg",
        "sapo_temperature_pos",
        "vespo_k_pos",
        "vespo_lambda_pos",
        "vespo_k_neg",
        "vespo_lambda_neg",
        "scale_rewards",
        "multi_objective_aggregation",
        "sync_ref_model",
        "ref_model_mixup_alpha",
        "ref_model_sync_steps",
        "top_entropy_quantile",
        "entropy_coef",
        "use_adaptive_entropy",
        "entropy_coef_min",
        "entropy_coef_max",
        "entropy_coef_delta",
        "entropy_target",
        "off_policy_mask_threshold",
        "use_bias_correction_kl",
    )
}
"""Refused by trainers that replace GRPO's loss."""

RATIO: dict[str, str] = {
    "top_p": "truncated sampling renormalises over the tokens it keeps, the loss does not",
    "top_k": "truncated sampling renormalises over the tokens it keeps, the loss does not",
    "min_p": "truncated sampling renormalises over the tokens it keeps, the loss does not",
}
"""Refused where the loss forms ratios of probabilities."""

ON_POLICY: dict[str, str] = {
    "num_iterations": "rollouts would be reused after the policy has moved, uncorrected",
}
"""Refused where nothing weighs rollouts by the policy that sampled them; see `refuse_reuse`."""


_OWN_ROWS = "rows are made by the conditioning kernel"
DOCUMENTS: dict[str, str] = {
    "packing": f"{_OWN_ROWS}; set `pack`",
    "packing_strategy": f"{_OWN_ROWS}; set `pack`",
    "eval_packing": _OWN_ROWS,
    "padding_free": f"{_OWN_ROWS}; with flash attention they are padding-free",
    "completion_only_loss": f"{_OWN_ROWS}; set `chat`",
    "assistant_only_loss": f"{_OWN_ROWS}; set `chat`",
    "dataset_text_field": f"{_OWN_ROWS} from `Document`s",
    "dataset_kwargs": _OWN_ROWS,
    "dataset_num_proc": _OWN_ROWS,
    "truncation_mode": "documents longer than a row are cut into pieces, nothing is lost",
    "shuffle_dataset": "the stream of documents has its own order",
    "pad_to_multiple_of": _OWN_ROWS,
    "dataloader_num_workers": "the cursor of the stream is in this process",
    "train_sampling_strategy": "the stream of documents has its own order",
}
"""Refused by trainers on streams of documents; options of `SFTConfig`."""

_OWN_PAIRS = "prompts and candidates stay the ids that were cut and sampled"
PROMPTS: dict[str, str] = {
    "loss_type": "set `objective`",
    "label_smoothing_factor": "set `objective`; none smooths labels",
    "max_length": f"{_OWN_PAIRS}; the stream of prompts limits prefixes, `max_completion_length` rollouts",
    "truncation_mode": f"{_OWN_PAIRS}; the stream of prompts cuts",
    "chat_template_path": _OWN_PAIRS,
    "completion_only_loss": f"{_OWN_PAIRS}; prefixes are never in the loss",
    "assistant_only_loss": f"{_OWN_PAIRS}; prefixes are never in the loss",
    "dataset_text_field": _OWN_PAIRS,
    "dataset_kwargs": _OWN_PAIRS,
    "dataset_num_proc": _OWN_PAIRS,
    "packing": "pairs and groups are padded",
    "packing_strategy": "pairs and groups are padded",
    "eval_packing": "pairs and groups are padded",
    "padding_free": "pairs and groups are padded",
    "pad_to_multiple_of": "pairs and groups are padded to the longest",
    "shuffle_dataset": "the stream of prompts has its own order",
    "train_sampling_strategy": "the stream of prompts has its own order",
    "dataloader_num_workers": "the cursor of the stream is in this process",
    "auto_find_batch_size": "the cursor counts prompts by update, and the number of an update's prompts is fixed",
    "include_num_input_tokens_seen": "tokens are counted by phase, in `ledger`",
    "parallelism_config": "the rows of an update are made in the trainer, where nothing splits them along the tokens",
    "eval_strategy": "no loss is defined on prompts that nobody judged; evaluate generations, with a callback",
    "eval_on_start": "no loss is defined on prompts that nobody judged; evaluate generations, with a callback",
}
"""Refused by trainers on streams of prompts; options of `SFTConfig`."""


def refuse_options(args: TrainingArguments, *tables: dict[str, str]) -> None:
    """Raises `ConfigError` for the first option that `tables` list and that is not at its default.

    `vllm_*` options are refused as well: without `use_vllm` they would do nothing.
    """
    reasons = {name: reason for table in tables for name, reason in table.items()}
    for option in fields(args):
        reason = reasons.get(option.name)
        if option.name.startswith("vllm_"):
            reason = ENGINE["use_vllm"]
        default = option.default if option.default is not MISSING else None
        value = getattr(args, option.name)
        resolved = None if default == "auto" else default  # TRL resolves "auto" when it constructs the config
        if reason and value not in (default, resolved):
            raise ConfigError(
                f"{type(args).__name__}.{option.name}={value!r}",
                reason=reason,
                remedy=f"leave it at its default, {default!r}",
            )


def own_loss(*honoured: str) -> dict[str, str]:
    """`OWN_LOSS` without the options that a trainer's own loss reads, too."""
    return {name: reason for name, reason in OWN_LOSS.items() if name not in honoured}


def refuse_reuse(args: Any) -> None:
    """Raises `ConfigError` if rollouts serve several updates and `importance_ratio` does not weigh them, or is no
    option of the method's."""
    stale = args.num_iterations > 1 or args.steps_per_generation > args.gradient_accumulation_steps
    weighed = getattr(args, "importance_ratio", None)
    if stale and not weighed:
        raise ConfigError(
            f"num_iterations={args.num_iterations}, steps_per_generation={args.steps_per_generation}"
            + (" without importance_ratio" if weighed is False else ""),
            reason=ON_POLICY["num_iterations"],
            remedy=("set importance_ratio=True, or " if weighed is False else "") + "use each rollout for one update",
        )


def check_ranges(args: Any, reason: str, *ranges: tuple[str, bool, str]) -> None:
    """Refuses numbers outside of what they may be.

    Args:
        args: has them.
        reason: why they may not.
        ranges: of each its name, whether it fits, and what is allowed, in words.

    Raises:
        ConfigError: one does not fit.
    """
    for name, fits, allowed in ranges:
        if not fits:
            raise ConfigError(f"{name}={getattr(args, name)}", reason=reason, remedy=f"choose a number {allowed}")
