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
from ixt_rl.files import read_json, write_json
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
    """Keys for the TrainingArguments of a rank; none for one process."""
    if launch.ranks == 1:
        return {}
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


def save_whole(model: Any, folder: Path, writes: bool) -> None:
    """A model that no rank has whole, or whose adapters are merged into it, as a folder; weight by weight. Collective.

    Tied weights are saved once. What DeepSpeed trains in 16 bits is saved as the float32 weights that it updates.

    Args:
        model: a model of transformers or a `PeftModel`, wrapped or in pieces.
        folder: where to.
        writes: whether this rank does; the others take part.
    """
    whole = {}
    for name, tensor in policy_tensors(model, trained=True):
        if writes:
            whole[name] = tensor.to("cpu", copy=True)
    if not writes:
        return
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    for name, same in base.all_tied_weights_keys.items():
        if {name, same} <= whole.keys() and torch.equal(whole[name], whole[same]):
            whole[name] = whole[same]
    wide = base.dtype != torch.float32 and any(tensor.dtype == torch.float32 for tensor in whole.values())
    base.save_pretrained(folder, state_dict=whole)
    if wide:
        config = folder / "config.json"  # says what the model has in memory
        write_json(config, {**(read_json(config) or {}), "dtype": "float32"}, indent=2)
