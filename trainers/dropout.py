"""Both passes of a ratio are the same network: no dropout, in either, unless it is asked for.

Two passes that each draw their own masks differ by noise, and the mean of q / p over noise is not 1.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.dropout import _DropoutNd

_NAMES = ("drop", "jitter")


def disable_dropout(model: torch.nn.Module) -> None:
    """Sets what a model drops or jitters at random in training to 0: dropout, layer drop, noise of routers, LoRA's.

    TRL's function of this purpose sees `torch.nn.Dropout` alone. Attention's dropout is a plain number in most models
    of transformers, and some read it from their config in each pass; these get a copy of it, so that the config that
    is saved with the model keeps what it says.
    """
    held: Any = model
    saved = (model, held.get_base_model() if hasattr(model, "get_base_model") else model)
    configs: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        _zero(module)
        config = vars(module).get("config")
        if hasattr(config, "to_dict") and module not in saved and _chances(config):
            if id(config) not in configs:
                configs[id(config)] = copy.copy(config)
                _zero(configs[id(config)])
            module.config = configs[id(config)]


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Every module is in evaluation mode inside, and in its own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _chances(thing: Any) -> dict[str, float]:
    """Its numbers above 0 that are chances, by their names."""
    return {
        name: value
        for name, value in vars(thing).items()
        if isinstance(value, float) and value > 0 and any(part in name for part in _NAMES)
    }


def _zero(thing: Any) -> None:
    for name in _chances(thing):
        setattr(thing, name, 0.0)
