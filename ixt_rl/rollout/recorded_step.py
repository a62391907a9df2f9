"""A decoding step of all slots as one CUDA graph: what the device has to do is recorded once, then started anew.

A step of a small model is some thousand kernels of a few microseconds each. The host takes several times as long to
launch them one by one as the device to run them.

Shapes: S slots, A active ones (the first), L positions of the cache's block, V vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ixt_rl.rollout.slots import SlotCache, attention_in_slots

_WORTH = 16
"""New tokens from which on it pays: to record takes about as long as three steps, each time the block has grown."""

_MIXTURES = frozenset({"mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "deepseek_v3"})
"""Types of models in which the host asks the device which experts to launch: that cannot be recorded."""


def records_steps(model: Any, steps: int) -> bool:
    """Whether `steps` decoding steps of a model are recorded: on one CUDA device, where they are many enough and no
    layer is a mixture of experts."""
    base = model.get_base_model() if getattr(model, "peft_config", None) else model
    devices = {parameter.device for parameter in model.parameters()}
    cuda = len(devices) == 1 and next(iter(devices)).type == "cuda"
    return cuda and steps >= _WORTH and base.config.model_type not in _MIXTURES


class Recorded:
    """What a function without arguments has the device do; `result` is what it returned, in memory that `again`
    overwrites. The tensors that it reads and writes must stay where they are."""

    def __init__(self, function: Callable[[], Tensor]):
        self._graph = torch.cuda.CUDAGraph()
        apart, current = torch.cuda.Stream(), torch.cuda.current_stream()
        apart.wait_stream(current)
        with torch.cuda.stream(apart):
            function()  # handles, workspaces and autocast's copies are made by a first call
            self._graph.capture_begin(capture_error_mode="thread_local")
            try:
                self.result = function()
            finally:
                self._graph.capture_end()
        current.wait_stream(apart)

    def again(self) -> Tensor:
        self._graph.replay()
        return self.result


class RecordedStep:
    """A step of all slots of a cache, active or not, at the whole width of its block; recorded anew when that grows.

    Args:
        model: one that `records_steps`, in evaluation mode; its weights stay where they are.
        cache: filled by a prefill before the first step.
    """

    def __init__(self, model: Any, cache: SlotCache):
        self.model, self.cache = model, cache
        self._inputs = torch.zeros((2, cache.slots), dtype=torch.long, device=model.device)  # tokens, lengths
        self._recorded: Recorded | None = None
        self._block: Tensor | None = None
        self._failed = False

    def __call__(self, tokens: list[int], lengths: list[int]) -> Tensor:
        """(A, V) logits after one token a row.

        Args:
            tokens: the last of each active row.
            lengths: tokens before it, whose keys are in the row's slot.
        """
        free = [0] * (self.cache.slots - len(tokens))  # their keys go where a prefill will write
        self._inputs.copy_(torch.tensor([tokens + free, lengths + free]))
        self.cache.grow(max(lengths) + 1)
        if self._block is not self.cache.block:
            self._recorded, self._block = None, self.cache.block  # the old memory is free before new is taken
            self._recorded = self._record()
        logits = self._forward() if self._recorded is None else self._recorded.again()
        return logits[: len(tokens)]

    def _record(self) -> Recorded | None:
        if self._failed:
            return None
        try:
            return Recorded(self._forward)
        except RuntimeError as error:
            warnings.warn(f"sampling without CUDA graphs, which is slower: {error}", stacklevel=2)
            self._failed = True
            return None

    def _forward(self) -> Tensor:
        tokens, lengths = self._inputs
        mask = self.cache.start_step(lengths, self.cache.block.shape[2])
        with attention_in_slots(self.model):
            return self.model(
                input_ids=tokens[:, None], attention_mask=mask, position_ids=lengths[:, None],
                past_key_values=self.cache, use_cache=True,
            ).logits[:, -1]  # fmt: skip
