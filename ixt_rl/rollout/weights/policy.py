"""A trainer's policy as whole tensors under plain names, and the manifest that shows what arrived is what was sent.

Whatever wraps the model (DDP, FSDP, ZeRO-3, torch.compile, LoRA), the names are those of the plain Hugging Face model's
`state_dict()`: a tied `lm_head.weight` is there too, adapters are not: what they do is added to the weights they adapt.
A mixture of experts has the names of its checkpoints, one tensor an expert and matrix, which engines load.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ixt_rl.errors import ConfigError
from ixt_rl.kernels.head import zero3_gathered

if TYPE_CHECKING:
    pass


_INNER = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "DeepSpeedEngine": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
    "OptimizedModule": "_orig_mod",
    "PeftModel": "base_model",
    "BaseTuner": "model",
}
"""Wrappers by class name, so that none of their packages is imported, and where each keeps the module it wraps."""


def policy_tensors(model: nn.Module, trained: bool = False) -> Generator[tuple[str, Tensor], None, None]:
    """The policy that `model.forward` computes now, as `(name, tensor)` under the plain model's names.

    - Experts that the model holds fused in one tensor come as saving them would write them.

    - FSDP2, ZeRO-3: one whole parameter exists at a time (with LoRA also the adapter of that parameter). FSDP1: the
      parameters of one FSDP unit, which cannot be gathered apart.
    - LoRA: `W + sum over active adapters of scaling * B A`, computed beside W and rounded once, to W's dtype. With
      DoRA an adapter adds `m (W + scaling * B A) / |W + scaling * B A| - W` instead, norms being those of the rows.
    - A base in 4 bits comes as the forward pass reads it: each matrix in the dtype it was quantized from.
    - `trained`: the float32 weights that DeepSpeed updates in place of those in 16 bits, where they round to these.
    - Tensors are detached, in the parameter's own dtype and on its device. Each is valid until the next is asked for:
      copy what has to last.
    - Gathering is collective: every rank takes every tensor, and does not run the model in between. Gradients are off
      until the last one is taken, or the generator is closed.

    Raises:
        ConfigError: an adapter that comes to no other weight in W's place (adapters merged in place, tied weights or
            weights in 8 bits, methods other than LoRA and DoRA). Nothing has been gathered by then, FSDP1 aside.
    """
    walk, saved = _Walk([("", model)]), _saved_form(model)
    while walk.units:
        prefix, unit = walk.units.pop(0)
        with _fsdp1_whole(unit):
            for slot in walk.slots_of_unit(prefix, unit):
                with zero3_gathered(slot.tensor, *slot.adapter_parameters()), torch.no_grad():
                    yield from saved(slot.name, _whole(slot.updated() if trained else slot.merged()))


def _saved_form(model: nn.Module) -> Callable[[str, Tensor], list[tuple[str, Tensor]]]:
    """What `save_pretrained` writes for a parameter of a mixture of experts; anything else as it is."""
    from transformers import PreTrainedModel
    from transformers.core_model_loading import revert_weight_conversion

    plain = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    names = (name.split(".") for name, _ in model.named_parameters())
    if plain is None or not any("experts" in name for name in names):
        return lambda name, tensor: [(name, tensor)]
    return lambda name, tensor: list(revert_weight_conversion(plain, {name: tensor}).items())


@dataclass(frozen=True)
class _Slot:
    """One entry of the plain model's state dict: parameter or buffer `key` of `owner`.

    Args:
        name: its name in the state dict.
        owner: the module that holds it.
        key: its name there.
        lora: the LoRA layer that adapts it, if any.
        adapters: names of the active adapters.
    """

    name: str
    owner: nn.Module
    key: str
    lora: Any = None
    adapters: tuple[str, ...] = ()

    @property
    def tensor(self) -> Tensor:
        return getattr(self.owner, self.key)

    def adapter_parameters(self) -> list[Tensor]:
        if not self.adapters:
            return []
        return [p for name, p in self.lora.named_parameters() if not name.startswith("base_layer.")]

    def updated(self) -> Tensor:
        """What the optimizer has of a weight that DeepSpeed trains in 16 bits; else what the forward pass reads."""
        tensor: Any = self.tensor
        spread = hasattr(tensor, "ds_id") or hasattr(tensor, "_hp_mapping")
        if self.adapters or not spread or not tensor.requires_grad or tensor.dtype == torch.float32:
            return self.merged()
        from deepspeed.utils import safe_get_full_fp32_param

        wide = safe_get_full_fp32_param(tensor)
        return wide if wide is not None and torch.equal(wide.to(tensor.dtype), tensor) else self.merged()

    def merged(self) -> Tensor:
        tensor = dequantized(self.tensor)
        if not self.adapters:
            return tensor
        deltas = {adapter: self.lora.get_delta_weight(adapter) for adapter in self.adapters}
        if not any(adapter in self.lora.lora_variant for adapter in self.adapters):
            return (tensor + sum(deltas.values())).to(tensor.dtype)
        whole = _whole(tensor)
        changed = [self._alone(adapter, whole, _whole(delta)) for adapter, delta in deltas.items()]
        return (changed[0] + sum(other - whole for other in changed[1:])).to(tensor.dtype)

    def _alone(self, adapter: str, weight: Tensor, delta: Tensor) -> Tensor:
        """What one adapter makes of a whole weight, in float32 where delta is."""
        if adapter not in self.lora.lora_variant:
            return weight + delta
        turned = self.lora.fan_in_fan_out
        rows = (weight + delta).T if turned else weight + delta  # (out, in)
        rows = rows * (_whole(self.lora.lora_magnitude_vector[adapter].weight) / rows.norm(dim=1))[:, None]
        return rows.T if turned else rows


def dequantized(tensor: Any) -> Tensor:
    """What a forward pass reads of a parameter: of 4 bits by bitsandbytes, (out, in) in the dtype it came from."""
    state = getattr(tensor, "quant_state", None)
    if state is None:
        return tensor.detach()
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(tensor.data, state)


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


class _Walk:
    """Visits a wrapped model in the order of the plain model's `state_dict()`.

    Args:
        units: FSDP1 units still to visit, as (prefix, module). Those inside another unit are put off to the end, when
            the outer one has been given back.
    """

    def __init__(self, units: list[tuple[str, nn.Module]]):
        self.units = units
        self._replaced: set[int] = set()

    def slots_of_unit(self, prefix: str, unit: nn.Module) -> list[_Slot]:
        slots = list(self._slots(prefix, unit, top=True))
        uses = Counter(id(slot.tensor) for slot in slots)
        for slot in slots:
            if id(slot.tensor) in self._replaced or (slot.adapters and uses[id(slot.tensor)] > 1):
                raise _refusal(slot.name, "it is tied to another weight, and an adapter changes only one of the two")
        return slots

    def _slots(
        self, prefix: str, module: nn.Module, top: bool = False, lora: Mapping[str, Any] | None = None
    ) -> Iterator[_Slot]:
        """Slots of a module; `lora` has the LoRA layers that adapt its own parameters, by name."""
        classes = {cls.__name__ for cls in type(module).__mro__}
        if "FullyShardedDataParallel" in classes and not top:
            self.units.append((prefix, module))
        elif "BaseTunerLayer" in classes:
            layer, adapted = _base_layer(prefix, module)
            yield from self._slots(prefix, layer, lora=adapted)
        elif "AuxiliaryTrainingWrapper" in classes:
            yield from self._slots(prefix, self._trained_copy(prefix, module, classes))
        elif wrapper := classes & _INNER.keys():
            _refuse_other_methods(module, classes)
            yield from self._slots(prefix, getattr(module, _INNER[wrapper.pop()]))
        else:
            tensors = dict(module._parameters) | module._buffers
            for key, tensor in tensors.items():
                if tensor is None or key in module._non_persistent_buffers_set:
                    continue
                if lora is not None and key in lora:
                    yield _Slot(prefix + key, module, key, lora[key], _active_adapters(prefix, lora[key], tensor))
                else:
                    yield _Slot(prefix + key, module, key)
            for name, child in module._modules.items():
                if child is not None:
                    yield from self._slots(f"{prefix}{name}.", child)

    def _trained_copy(self, prefix: str, module: Any, classes: set[str]) -> nn.Module:
        """Of peft's `modules_to_save`: the copy in use."""
        if "ModulesToSaveWrapper" not in classes:
            raise _refusal(prefix, f"it is under a {type(module).__name__}")
        active = module.active_adapters[:1]
        if module.disable_adapters or not active or active[0] not in module.modules_to_save:
            return module.original_module
        self._replaced |= {id(p) for p in module.original_module.parameters()}
        return module.modules_to_save[active[0]]


def _base_layer(prefix: str, module: Any) -> tuple[nn.Module, dict[str, Any]]:
    """What LoRA layers wrap, and which of them adapts which of its parameters: the weight of a linear layer, or any
    parameters, such as fused experts, a wrapper around another for each."""
    adapted: dict[str, Any] = {}
    while "BaseTunerLayer" in (classes := {cls.__name__ for cls in type(module).__mro__}):
        if "LoraLayer" not in classes:
            raise _refusal(prefix, f"it is under a {type(module).__name__}")
        adapted[module.parameter_name if "ParamWrapper" in classes else "weight"] = module
        module = module.base_layer
    return module, adapted


def _active_adapters(prefix: str, lora: Any, weight: Tensor) -> tuple[str, ...]:
    """The adapters whose deltas `lora.forward` adds to `weight`."""
    if lora.merged:
        raise _refusal(prefix, "its adapters are merged in place: call unmerge_adapter() first")
    if lora.disable_adapters:
        return ()
    active = tuple(a for a in lora.active_adapters if a in lora.lora_A or a in lora.lora_embedding_A)
    for adapter in active:
        if adapter in lora.lora_variant and type(lora.lora_variant[adapter]).__name__ != "DoraLinearVariant":
            raise _refusal(prefix, f"adapter {adapter!r} is a {type(lora.lora_variant[adapter]).__name__}")
        if lora.lora_bias[adapter]:
            raise _refusal(prefix, f"adapter {adapter!r} has lora_bias=True")
    if active and not weight.is_floating_point() and getattr(weight, "quant_state", None) is None:
        raise _refusal(prefix, f"it is quantised ({weight.dtype})")
    return active


def _refuse_other_methods(module: Any, classes: set[str]) -> None:
    if "PeftModel" in classes:
        for adapter in module.active_adapters:
            method = module.peft_config[adapter].peft_type
            if method != "LORA":
                raise _refusal(f"adapter {adapter}", f"its method is {getattr(method, 'value', method)}")


def _refusal(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"cannot give {name.rstrip('.')} of the adapted policy to a rollout engine",
        reason=reason,
        remedy="use LoRA or DoRA (no lora_bias) on linear weights that are neither tied nor in 8 bits, "
        "or train all weights",
    )


def _fsdp1_whole(unit: nn.Module) -> AbstractContextManager[None]:
    from torch.distributed.fsdp import FullyShardedDataParallel

    if not isinstance(unit, FullyShardedDataParallel):
        return nullcontext()
    return FullyShardedDataParallel.summon_full_params(unit, recurse=False, writeback=False)
