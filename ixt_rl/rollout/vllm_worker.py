"""What runs in every worker of a vLLM engine when weights change; `LLMEngine.collective_rpc` calls it there.

A set of tensors is tried on a model without storage first, so that what would not fit leaves the one that runs alone.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import inspect
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ixt_rl.rollout.weights.broadcast import Meeting, TransferGroup, receive
from ixt_rl.rollout.weights.manifest import TensorEntry


def fitting(worker: Any, shapes: dict[str, tuple[int, ...]]) -> tuple[tuple[str, str] | None, list[str]]:
    """The first tensor that its model would not take, and why; parameters left out.

    A second model without storage is loaded with zeros, by the model's own loaders: they alone know all names and
    shapes. What they fill is counted, because the names that they report are not always those of parameters.
    """
    from vllm.model_executor.layers.fused_moe.routed_experts import RoutedExperts
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    config = copy.copy(worker.vllm_config)
    config.compilation_config = copy.copy(config.compilation_config)
    config.compilation_config.static_forward_context = {}  # where the layers of the model that runs are registered
    config.compilation_config.static_all_moe_layers = []
    with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
        model = initialize_model(config)
    filled = {name: _count_filled(parameter) for name, parameter in model.named_parameters()}
    alone = config.parallel_config.tensor_parallel_size == 1
    last: list[str] = []

    def zeros() -> Iterator[tuple[str, Tensor]]:
        for name, shape in shapes.items():
            before = sum(map(sum, filled.values()))
            last[:] = [f"{name} of shape {list(shape)}"]
            yield name, torch.zeros(shape)
            taken = sum(map(sum, filled.values())) - before
            if alone and 0 < taken < math.prod(shape):  # loaders that cut shards out cut what is too large
                raise ValueError(f"the model has room for {taken} of its {math.prod(shape)} elements")

    try:
        with torch.no_grad():
            model.load_weights(zeros())
    except Exception as error:  # each loader has its own way to refuse
        return (last[0] if last else "empty set of weights", f"{type(error).__name__}: {error}"), []
    experts: set[int] = set()  # loaded one by one; other parameters, and quantised ones, may be padded
    if config.quant_config is None:
        experts |= {id(p) for m in model.modules() if isinstance(m, RoutedExperts) for p in m.parameters()}
    whole = {name: p.numel() if id(p) in experts else 1 for name, p in model.named_parameters()}
    return None, sorted(name for name, count in filled.items() if sum(count) < whole[name])


def _count_filled(parameter: Any) -> list[int]:
    """Elements that each call of a parameter's loader fills, from now on."""
    from vllm.model_executor.model_loader.reload.meta import get_numel_loaded
    from vllm.model_executor.model_loader.weight_utils import default_weight_loader

    loader = getattr(parameter, "weight_loader", default_weight_loader)
    signature, counts = inspect.signature(loader), []

    @functools.wraps(loader)
    def counting(*args: Any, **kwargs: Any) -> Any:
        count, result = get_numel_loaded(loader, signature.bind(*args, **kwargs))
        counts.append(count)
        return result

    parameter.weight_loader = counting
    return counts


def load(worker: Any, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Loads a checkpoint's tensors layer by layer, as `reload_weights` does, but from a
    generator."""
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.layers.fused_moe.routed_experts import RoutedExperts
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    runner = worker.model_runner
    model = runner.get_model()
    with set_current_vllm_config(worker.vllm_config), torch.no_grad():
        if worker.device.type == "cpu" and worker.vllm_config.quant_config is None:
            for module in model.modules():
                if isinstance(module, RoutedExperts):
                    module.quant_method.moe_kernel = None  # its CPU kernels pack experts when they are made, only then
        initialize_layerwise_reload(model)
        model.load_weights(named_tensors)
        finalize_layerwise_reload(model, runner.model_config)
    if worker.device.type == "cpu":
        _return_memory()


def join(worker: Any, meeting: Meeting, first_rank: int, node: str) -> None:
    """Enters a group that tensors are broadcast in."""
    if (old := getattr(worker, "ixt_rl_group", None)) is not None:
        old.abort()
    worker.ixt_rl_group = TransferGroup(meeting, first_rank + worker.rank, worker.device, node)


def receive_and_load(worker: Any) -> dict[str, TensorEntry]:
    """Loads what is broadcast; what arrived."""
    entries: dict[str, TensorEntry] = {}
    load(worker, receive(worker.ixt_rl_group, entries))
    return entries


def _return_memory() -> None:
    """Has the C library give freed memory back: on a CPU each update frees the packed weights of before, and what is
    allocated next does not fit the holes they leave."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's
        trim(0)
