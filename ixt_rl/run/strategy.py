"""How several ranks share the training of a model: what `launch.strategy` is in transformers' TrainingArguments.

ddp     every rank has the whole model; gradients are averaged
zero2   DeepSpeed: gradients and optimizer state are spread over the ranks
zero3   DeepSpeed: the parameters too
fsdp2   torch's fully_shard: parameters, gradients and optimizer state are spread over the ranks
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from ixt_rl.blocks.launch import LaunchBlock
from ixt_rl.errors import ConfigError
from ixt_rl.rollout.weights.policy import policy_tensors


def check_offload(launch: LaunchBlock) -> None:
    """Refuses ranks on CPUs that are to offload.

    Raises:
        ConfigError: there is nothing to offload from.
    """
    if launch.ranks > 1 and launch.offload and not torch.accelerator.is_available():
        raise ConfigError(
            "launch.offload without an accelerator",
            reason="weights and optimizer state are in the host's memory already",
            remedy="leave offload out",
        )


def strategy_arguments(launch: LaunchBlock) -> dict[str, Any]:
    """Keys for the TrainingArguments of a rank; none for one process.

    Raises:
        ConfigError: see `check_offload`.
    """
    if launch.ranks == 1:
        return {}
    check_offload(launch)
    on_cpus = not torch.accelerator.is_available()
    arguments: dict[str, Any] = {"use_cpu": True, "ddp_backend": "gloo"} if on_cpus else {}
    if launch.strategy == "fsdp2":
        # Each rank has loaded the model: nothing needs to be sent from the first one.
        sharded = {"version": 2, "state_dict_type": "FULL_STATE_DICT", "cpu_ram_efficient_loading": False}
        return {**arguments, "fsdp": True, "fsdp_config": {**sharded, "cpu_offload": launch.offload}}
    if launch.strategy == "ddp":
        return arguments
    stage = {"zero2": 2, "zero3": 3}[launch.strategy]
    return {**arguments, "deepspeed": _deepspeed(stage, launch.offload, on_cpus)}


def _deepspeed(stage: int, offload: bool, on_cpus: bool) -> dict[str, Any]:
    """DeepSpeed's config; `auto` is filled in by transformers from the stage's own keys."""
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        zero |= {
            "stage3_gather_16bit_weights_on_model_save": True,  # models are saved whole
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "reduce_bucket_size": "auto",
        }
    if offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",  # its own default is 1
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "zero_optimization": zero,
    }
    if on_cpus:
        config["zero_force_ds_cpu_optimizer"] = False  # DeepSpeed's own is C++ that would be built first
    return config


def forget_strategy() -> None:
    """Models are loaded whole again: transformers loads each in pieces, on all ranks together, as long as the arguments
    of a training under ZeRO-3 are somewhere in the process."""
    unset_hf_deepspeed_config()


def is_sharded(trainer: Any) -> bool:
    """Whether DeepSpeed or FSDP has the model that a trainer trains: it is read and written through them."""
    return trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled


def save_merged(model: Any, folder: Path, writes: bool) -> None:
    """A model with its adapters merged into it, as a folder; weight by weight, since no rank has all. Collective.

    Args:
        model: a `PeftModel`.
        folder: where to.
        writes: whether this rank does; the others take part.
    """
    whole = {}
    for name, tensor in policy_tensors(model):
        if writes:
            whole[name] = tensor.to("cpu", copy=True)
    if not writes:
        return
    base = model.get_base_model()
    tied = base._tied_weights_keys if base.config.get_text_config().tie_word_embeddings else None
    for name, same in (tied or {}).items():
        if {name, same} <= whole.keys():
            whole[name] = whole[same]  # saved once
    base.save_pretrained(folder, state_dict=whole)
