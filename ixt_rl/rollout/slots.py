"""Keys and values of running rows in one preallocated block, and the attention that reads them there.

`generate` copies the whole cache at every step, and repeats keys and values for each query head that shares them. Here
a row has a slot, its new key is written into it, and attention reads the block as it is:

    out[b, h] = softmax(q[b, h] K[b, g]^T * scale + mask[b]) V[b, g],  g = h // (H / G)

Shapes: S slots, A active ones (the first), H heads, G heads of keys, L positions, D head size, W positions in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ixt_rl.kernels.head import product_dtype
from ixt_rl.rollout.weights.gathered import gathers_in_passes

_NAME = "ixt_slots"
_ROOM = 64
"""Positions that a block has at least beyond what is in use, when it grows."""
_EVEN = 16
"""Of which its length is a multiple: GPUs' attention kernels read masks so aligned."""

_KNOWN = """
    llama mistral mixtral qwen2 qwen3 qwen2_moe qwen3_moe smollm3 gemma olmo olmo2 olmoe granite granitemoe starcoder2
    stablelm gpt2 gpt_neox phi cohere glm glm4 helium ernie4_5 seed_oss arcee deepseek_v3
"""
KNOWN = frozenset(_KNOWN.split())
"""Types of models whose decoding in slots is tested to be `generate`'s, where `decodes_in_slots` says yes."""


def decodes_in_slots(model: Any) -> bool:
    """Whether rows of a model are decoded here: its architecture is known to be right, every layer keeps all keys
    (no window, no recurrent state), its weights are whole in this process, and nothing goes before its prompts."""
    adapters = getattr(model, "peft_config", {}).values()
    base = model.get_base_model() if adapters else model
    if not isinstance(base, PreTrainedModel) or base.config.model_type not in KNOWN:
        return False
    kind: Any = type(base)
    plain = kind.prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
    layers = DynamicCache(config=base.config).layers
    return (
        plain
        and base.config._attn_implementation in ("sdpa", "eager")
        and not any(adapter.is_prompt_learning for adapter in adapters)
        and len(layers) > 0
        and all(type(layer) is DynamicLayer for layer in layers)
        and not gathers_in_passes(model)
    )


class SlotCache(Cache):
    """A cache of S rows at their own lengths; layers get their size from the first keys that come.

    Within autocast, whose attention rounds keys (float32, by the rotation) and values, it keeps them rounded already.

    Args:
        slots: S.
        layers: how many the model has.
        most: positions that no row goes beyond.
    """

    def __init__(self, slots: int, layers: int, most: int):
        super().__init__(layers=[])
        self.slots, self.most = slots, most
        self.blocks: list[list[Tensor]] = [[] for _ in range(layers)]  # keys (S, G, L, D), values the same
        self.width = 0
        self._at: tuple[Tensor, Tensor] | None = None

    def fill(self, cache: DynamicCache, slots: list[list[int]], lengths: list[int]) -> None:
        """Copies the prompts of a prefill, padded on the left, each into several slots.

        Args:
            cache: of the prefill.
            slots: of each prompt.
            lengths: of each prompt, in tokens.
        """
        self._reserve(cache, max(lengths) + 1)
        most, states = max(lengths), _states(cache)
        width, device = states[0][0].shape[2], self.block.device
        prompts = torch.tensor([row for row, into in enumerate(slots) for _ in into], device=device)
        into = torch.tensor([slot for one in slots for slot in one], device=device)
        # Behind a prompt's end its last token, until a step writes there: what padding left could be NaN.
        places = [[min(width - length + i, width - 1) for i in range(most)] for length in lengths]
        at = torch.tensor(places, device=device)[prompts]  # (rows, most)
        for blocks, both in zip(self.blocks, states, strict=True):
            for block, given in zip(blocks, both, strict=True):
                block[into, :, :most] = given[prompts[:, None], :, at].transpose(1, 2).to(block.dtype)

    def move(self, source: int, target: int, length: int) -> None:
        """Copies a slot's first `length` positions into another slot."""
        for block in (block for blocks in self.blocks for block in blocks):
            block[target, :, :length] = block[source, :, :length]

    def start_step(self, lengths: Tensor, width: int) -> Tensor:
        """Says where the next keys go; returns the mask of the step.

        Args:
            lengths: (A,) int64, positions that each active row has.
            width: W, the largest of them and 1.

        Returns:
            (A, 1, 1, W) fp32: 0 where a row's position is in use, the new one included, else -inf.
        """
        self.grow(width)
        self.width, self._at = width, (torch.arange(len(lengths), device=lengths.device), lengths)
        unused = torch.arange(width, device=lengths.device) > lengths[:, None, None, None]
        return torch.zeros(unused.shape, device=lengths.device).masked_fill_(unused, -torch.inf)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes (A, G, 1, D) keys and values, and returns views (A, G, W, D) of all."""
        assert self._at is not None
        keys, values = self.blocks[layer_idx]
        rows, at = self._at
        keys[rows, :, at] = key_states[:, :, 0].to(keys.dtype)
        values[rows, :, at] = value_states[:, :, 0].to(values.dtype)
        return keys[: len(rows), :, : self.width], values[: len(rows), :, : self.width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.width

    def _reserve(self, cache: DynamicCache, width: int) -> None:
        if not self.blocks[0]:
            for blocks, both in zip(self.blocks, _states(cache), strict=True):
                for states in both:
                    _, heads, _, size = states.shape
                    dtype = product_dtype(states, states)
                    blocks.append(states.new_zeros(self.slots, heads, 0, size, dtype=dtype))
        self.grow(width)

    @property
    def block(self) -> Tensor:
        """(S, G, L, D) keys of the first layer; another tensor once the blocks have grown."""
        return self.blocks[0][0]

    def grow(self, width: int) -> None:
        """Makes room for `width` positions; zeros, and not what memory held: 0 times NaN would be one."""
        had = self.block.shape[2]
        if width <= had:
            return
        length = -(-min(self.most, max(width + _ROOM, had + had // 2)) // _EVEN) * _EVEN
        for blocks in self.blocks:
            for index, block in enumerate(blocks):
                blocks[index] = F.pad(block, (0, 0, 0, length - had))


def _states(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer after a prefill, (B, G, T, D)."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def slot_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token a row; query heads that share keys are read as several queries of one head.

    Args:
        query: (A, H, 1, D).
        key, value: (A, G, W, D).
        attention_mask: (A, 1, 1, W), added.

    Returns:
        (A, 1, H, D).
    """
    assert kwargs.get("softcap") is None and kwargs.get("s_aux") is None and kwargs.get("sliding_window") is None
    rows, heads, _, size = query.shape
    grouped = query.view(rows, key.shape[1], heads // key.shape[1], size)
    out = F.scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask.to(query.dtype), scale=scaling)
    return out.reshape(rows, 1, heads, value.shape[3]), None


AttentionInterface.register(_NAME, slot_attention)


@contextmanager
def attention_in_slots(model: Any) -> Iterator[None]:
    """The model attends by `slot_attention` while the block lasts."""
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
