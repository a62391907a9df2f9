"""A trainer's policy as whole tensors under plain names, and the manifest that shows what arrived is what was sent.

Whatever wraps the model (DDP, FSDP, ZeRO-3, torch.compile, LoRA), the names are those of the plain Hugging Face model's
`state_dict()`: a tied `lm_head.weight` is there too, adapters are not: what they do is added to the weights they adapt.
A mixture of experts has the names of its checkpoints, one tensor an expert and matrix, which engines load.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ixt_rl.errors import ConfigError, WeightMismatch, WeightsLost
from ixt_rl.kernels.head import zero3_gathered

if TYPE_CHECKING:
    from ixt_rl.rollout.engine import RolloutEngine

T = TypeVar("T")

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


def policy_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The policy that `model.forward` computes now, as `(name, tensor)` under the plain model's names.

    - Experts that the model holds fused in one tensor come as saving them would write them.

    - FSDP2, ZeRO-3: one whole parameter exists at a time (with LoRA also the adapter of that parameter). FSDP1: the
      parameters of one FSDP unit, which cannot be gathered apart.
    - LoRA: `W + sum over active adapters of scaling * B A`, computed beside W and rounded once, to W's dtype.
    - Tensors are detached, in the parameter's own dtype and on its device. Each is valid until the next is asked for:
      copy what has to last.
    - Gathering is collective: every rank takes every tensor, and does not run the model in between.

    Raises:
        ConfigError: an adapter whose result is not a plain `W + delta` of one weight (DoRA, adapters merged in place,
            quantised or tied weights, methods other than LoRA). Nothing has been gathered by then, FSDP1 aside.
    """
    walk, saved = _Walk([("", model)]), _saved_form(model)
    while walk.units:
        prefix, unit = walk.units.pop(0)
        with _fsdp1_whole(unit):
            for slot in walk.slots_of_unit(prefix, unit):
                with zero3_gathered(slot.tensor, *slot.adapter_parameters()), torch.no_grad():
                    tensor = slot.merged()
                    yield from saved(slot.name, tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor)


def _saved_form(model: nn.Module) -> Callable[[str, Tensor], list[tuple[str, Tensor]]]:
    """What `save_pretrained` writes for a parameter of a mixture of experts; anything else as it is."""
    from transformers import PreTrainedModel
    from transformers.core_model_loading import revert_weight_conversion

    plain = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    names = (name.split(".") for name, _ in model.named_parameters())
    if plain is None or not any("experts" in name for name in names):
        return lambda name, tensor: [(name, tensor)]
    return lambda name, tensor: list(revert_weight_conversion(plain, {name: tensor}).items())


def whole_set(named_tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """All tensors by name, to look at them before any is used. What an iterator gives may not outlast its next, so that
    it is copied, to the CPU."""
    if not isinstance(named_tensors, Iterator):
        return dict(named_tensors)
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in named_tensors}


def send_policy(engine: RolloutEngine | None, model: nn.Module, version: int) -> None:
    """Brings an engine to `policy_tensors(model)`; once more whenever the weights are lost on the way. Collective.

    Args:
        engine: on rank 0; None elsewhere.
        model: the policy.
        version: what rollouts carry from now on.

    Raises:
        ConfigError: see `policy_tensors`.
        WeightMismatch: see `RolloutEngine.update_weights`.
        BackendFailed: likewise.
    """
    again = True
    while again:
        again = False
        tensors = policy_tensors(model)
        if engine is None:
            for _ in tensors:  # gathering is collective
                pass
        else:
            try:
                engine.update_weights(tensors, version)
            except WeightsLost:  # it costs the engine's fault budget, so this ends
                again = True
        if dist.is_available() and dist.is_initialized():
            everyone = [again]
            dist.broadcast_object_list(everyone, src=0)
            again = everyone[0]


def until_weights_last(work: Callable[[], T]) -> T:
    """`work()`, which brings an engine to the policy and uses it; anew whenever the engine loses the weights meanwhile,
    which costs its fault budget, so this ends. In one process."""
    while True:
        with suppress(WeightsLost):
            return work()


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

    def merged(self) -> Tensor:
        tensor = self.tensor.detach()
        if not self.adapters:
            return tensor
        delta = sum(self.lora.get_delta_weight(adapter) for adapter in self.adapters)
        return (tensor + delta).to(tensor.dtype)


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
        if adapter in lora.lora_variant:
            raise _refusal(prefix, f"adapter {adapter!r} is a {type(lora.lora_variant[adapter]).__name__}")
        if lora.lora_bias[adapter]:
            raise _refusal(prefix, f"adapter {adapter!r} has lora_bias=True")
    if active and not weight.is_floating_point():
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
        remedy="use plain LoRA (no DoRA, no lora_bias) on weights that are neither tied nor quantised, "
        "or train all weights",
    )


def _fsdp1_whole(unit: nn.Module) -> AbstractContextManager[None]:
    from torch.distributed.fsdp import FullyShardedDataParallel

    if not isinstance(unit, FullyShardedDataParallel):
        return nullcontext()
    return FullyShardedDataParallel.summon_full_params(unit, recurse=False, writeback=False)


@dataclass(frozen=True)
class TensorEntry:
    """What is known of one tensor.

    Args:
        shape: its shape.
        dtype: its dtype, such as "bfloat16".
        checksum: `checksum` of it.
    """

    shape: tuple[int, ...]
    dtype: str
    checksum: int


def describe(tensor: Tensor) -> TensorEntry:
    """The entry of a tensor in a manifest."""
    return TensorEntry(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), checksum(tensor))


@dataclass(frozen=True)
class Manifest:
    """What one version of the weights consists of.

    Args:
        version: the policy's version.
        entries: name to entry, of every tensor.
    """

    version: int
    entries: dict[str, TensorEntry]

    def check(self, entries: Mapping[str, TensorEntry], where: str) -> None:
        """Compare with what arrived.

        Args:
            entries: `describe` of each tensor that arrived, by name.
            where: who received them, for the message.

        Raises:
            WeightMismatch: names missing, additional, and the first that differs.
        """
        faults = []
        for kind, names in (
            ("missing", [name for name in self.entries if name not in entries]),
            ("not in the manifest", [name for name in entries if name not in self.entries]),
            ("different", [name for name in self.entries if name in entries and entries[name] != self.entries[name]]),
        ):
            if names:
                faults.append(f"{len(names)} {kind}, first {names[0]}")
        if not faults:
            return
        differing = next((n for n in self.entries if n in entries and entries[n] != self.entries[n]), None)
        if differing is not None:
            faults.append(f"sent as {self.entries[differing]}, arrived as {entries[differing]}")
        raise WeightMismatch(
            f"weights of version {self.version} at {where} are not those sent: {'; '.join(faults)}",
            reason="an engine would sample from another policy than the one that is trained",
            remedy="if names differ, the engine was started from another model than the trainer's; if only checksums "
            "do, the transport damaged the tensors or they changed while they were sent",
        )


_COLUMNS = 1 << 15
"""Words of a row of `checksum`: 256 KiB, which stays in a core's cache."""
_ROWS_AT_ONCE = 128
"""Rows of one step on an accelerator, where starting an operation costs more than memory: 32 MiB."""


def checksum(tensor: Tensor) -> int:
    """A 64-bit checksum of a tensor's values, order and dtype, the same on every device.

    The tensor's bytes are read as 64-bit words `x`, in rows of fixed length; modulo 2^64,

        sum over rows r of u_r * sum over columns c of w_c * (x_rc xor (x_rc >> 32)),

    with fixed pseudo-random odd `u`, `w`, then joined with dtype and length. Sums modulo 2^64 do not depend on their
    order. Odd weights let no change within one word pass; the shift carries sign bits to where a difference of two
    (even) weights does not drop them, so that swapped words show. Protects against accidents, not against intent.

    Args:
        tensor: any shape and dtype; nothing of its size is copied unless it is not contiguous.
    """
    flat = tensor.detach().contiguous().view(-1)
    if flat.data_ptr() % 8 or flat.storage_offset() * flat.element_size() % 8:
        flat = flat.clone()
    data = flat.view(torch.uint8)
    end = data.numel() // 8 * 8
    words = data[:end].view(torch.int64)
    whole = words.numel() // _COLUMNS
    rows = -(-data.numel() // (8 * _COLUMNS))
    weights = _odd_weights("columns", _COLUMNS, data.device)
    sums = torch.zeros(rows, dtype=torch.int64, device=data.device)
    step = 1 if data.device.type == "cpu" else _ROWS_AT_ONCE
    table = words[: whole * _COLUMNS].view(whole, _COLUMNS)
    buffer = torch.empty(min(step, whole), _COLUMNS, dtype=torch.int64, device=data.device)
    for start in range(0, whole, step):
        x = table[start : start + step]
        _weigh(x, weights, buffer[: len(x)], sums[start : start + step])
    if rows > whole:
        rest = torch.zeros(-(-(data.numel() - whole * _COLUMNS * 8) // 8), dtype=torch.int64, device=data.device)
        rest.view(torch.uint8)[: data.numel() - whole * _COLUMNS * 8] = data[whole * _COLUMNS * 8 :]
        _weigh(rest[None], weights[: len(rest)], torch.empty_like(rest)[None], sums[whole:])
    total = int((sums * _odd_weights("rows", rows, data.device)).sum()) % (1 << 64)
    return total ^ (zlib.crc32(f"{tensor.dtype} {tensor.numel()}".encode()) << 32)


def _weigh(x: Tensor, weights: Tensor, buffer: Tensor, out: Tensor) -> None:
    """`out[r] = sum_c weights[c] * (x[r, c] xor (x[r, c] >> 32))`; `buffer` is overwritten."""
    torch.bitwise_right_shift(x, 32, out=buffer)
    buffer.bitwise_xor_(x).mul_(weights)
    torch.sum(buffer, dim=1, out=out)


@lru_cache(maxsize=64)
def _odd_weights(stream: str, n: int, device: torch.device) -> Tensor:
    """The first `n` of a fixed sequence of odd 64-bit numbers, `[n]` int64."""
    state = np.random.PCG64(zlib.crc32(stream.encode()))
    return torch.from_numpy(state.random_raw(n).view(np.int64) | 1).to(device)
