"""What a `lora` block makes of a stage's model: a base in 4 bits, and peft's config, compared with its modules."""

from __future__ import annotations

import re
from typing import Any

import torch

from ixt_rl.blocks.model import LoraBlock
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.models import load_model
from ixt_rl.pretrained.quantizing import quantize, quantized_layers
from ixt_rl.run.stages.context import StageRun


def base_model(section: LoraBlock | None, at: StageRun) -> Any:
    """The model that a stage trains, or its adapters; its linear layers in 4 bits where a `lora` block says so.

    Raises:
        ConfigError: it cannot be quantized.
    """
    model = load_model(at.origin, at.model, train=True)
    if section is not None and section.quantize:
        quantize(model, section.quantize, getattr(torch, at.model.dtype), section.modules_to_save)
    return model


def lora_config(section: LoraBlock | None, model: Any) -> Any:
    """peft's config of a `lora` block; None without one.

    Args:
        model: the plain model that will get the adapters.

    Raises:
        ConfigError: the model has no such module, or one for which that kind of adapter cannot be right.
    """
    if section is None:
        return None
    from peft import LoraConfig

    _check_targets(section.target_modules, model)
    _check_whole(section.modules_to_save, model)
    _check_experts(section, model)
    config = LoraConfig(
        r=section.r,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=section.target_modules,
        use_rslora=section.rslora,
        use_dora=section.dora,
        modules_to_save=section.modules_to_save or None,
        init_lora_weights=True if section.init == "default" else section.init,
        task_type="CAUSAL_LM",
    )
    if section.quantize:
        # Not by the flag that transformers sets: TRL then rounds what is trained to bfloat16.
        config._register_custom_module(quantized_layers())
    return config


def _check_targets(wanted: str | list[str], model: Any) -> None:
    """Each name is that of some module, and a pattern fits some: peft passes over names that are nowhere."""
    if wanted == "all-linear":
        return
    names = [name for name, _ in model.named_modules()]
    if isinstance(wanted, str):
        missing = [] if any(re.fullmatch(wanted, name) for name in names) else [wanted]
    else:
        missing = [one for one in wanted if not any(name == one or name.endswith(f".{one}") for name in names)]
    if missing:
        raise _no_such("target_modules", missing[0], model)


def _check_whole(wanted: list[str], model: Any) -> None:
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = embedding is not None and head is not None and embedding.weight is head.weight
    for one in wanted:
        found = [module for name, module in model.named_modules() if name.endswith(one)]
        if not found:
            raise _no_such("modules_to_save", one, model)
        if tied and any(module is embedding or module is head for module in found):
            raise ConfigError(
                f"lora.modules_to_save: {one!r} of {type(model).__name__}",
                reason="its head is tied to its embedding: the copy that is trained would be one of the two, and the "
                "saved model would lose it",
                remedy="leave it out, or start from a model with `tie_word_embeddings: false`",
            )


def _check_experts(section: LoraBlock, model: Any) -> None:
    """peft's wrapper of fused experts has neither DoRA nor dropout."""
    fused = section.target_modules == "all-linear" and any(
        parameter.dim() == 3 and "experts" in name for name, parameter in model.named_parameters()
    )
    if fused and (section.dora or section.dropout):
        raise ConfigError(
            f"lora.{'dora: true' if section.dora else f'dropout: {section.dropout}'} on the experts of "
            f"{type(model).__name__}",
            reason="peft adapts experts that are fused in one tensor by plain LoRA without dropout alone",
            remedy="leave it out, or list target_modules of the attention: [q_proj, k_proj, v_proj, o_proj]",
        )


def _no_such(key: str, name: str, model: Any) -> ConfigError:
    ends = sorted({full.rpartition(".")[2] for full, _ in model.named_modules() if full} - {str(i) for i in range(999)})
    return ConfigError(
        f"lora.{key}: {name!r}",
        reason=f"{type(model).__name__} has no module of that name",
        remedy=did_you_mean(name, ends) + f"one of: {', '.join(ends)}",
    )
