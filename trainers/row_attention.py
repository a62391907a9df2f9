"""Attention in packed rows, document by document: what a mask over the whole row would compute and then throw away.

    q, k, v (B, H, T, d), documents at s:e of a row -> causal attention in each s:e alone

A dense mask costs T^2 whatever lies in the row; documents cost the sum of their squares, halved because each is causal.
transformers hands an attention function what stands in the mask's place, so the row's documents travel there: as
(B, 1, 1, T) segment ids, which no model looks into. For CPUs, where a call costs little; accelerators keep their masks.

Shapes: B rows, T tokens, H heads, d of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ixt_rl.conditioning import Batch

NAME = "ixt_rl_documents"
_PLAIN = {"full_attention", "sliding_attention"}


def documents_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """transformers' sdpa attention, (B, T, H, d); `attention_mask` that is (B, 1, 1, T) segment ids: in each document.

    Padding (segment 0) looks at padding.
    """
    if attention_mask is None or attention_mask.dtype != torch.long:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    rows = []
    for row, segments in enumerate(attention_mask[:, 0, 0]):
        _, lengths = segments.unique_consecutive(return_counts=True)
        parts, at, start = [], slice(row, row + 1), 0
        for length in lengths.tolist():
            inside = slice(start, start + length)
            q, k, v = (x[at, :, inside] for x in (query, key, value))
            parts.append(sdpa_attention_forward(module, q, k, v, None, **kwargs)[0])
            start += length
        rows.append(torch.cat(parts, 1))
    return torch.cat(rows), None


AttentionInterface.register(NAME, documents_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def row_inputs(batch: Batch, config: Any) -> dict[str, Any]:
    """Keyword arguments of a forward pass over a batch, as `Batch.model_inputs` gives them; in `row_attention` with
    documents in the mask's place, where no layer looks less far than a document is long or is no attention."""
    attention = config._attn_implementation
    if attention != NAME:
        return batch.model_inputs(attention, config)
    if not batch.is_packed or not looks_back(config, int(batch.position_ids.max()) + 1):
        return batch.model_inputs("sdpa", config)
    return {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "attention_mask": batch.segment_ids[:, None, None],  # (B, 1, 1, T)
        "use_cache": False,
    }


def looks_back(config: Any, length: int) -> bool:
    """Whether every layer of a model is attention that looks at all of `length` tokens."""
    text = config.get_text_config()
    windows = [getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size")]
    short = any(isinstance(w, int) and w < length for w in windows)
    return not (short or set(getattr(text, "layer_types", None) or ()) - _PLAIN)


def attends_by_documents(model: PreTrainedModel) -> bool:
    """Whether a model can attend document by document: on a CPU, by sdpa, through transformers' attention interface."""
    supported = getattr(model, "_supports_attention_backend", False) and model.config._attn_implementation == "sdpa"
    return supported and all(p.device.type == "cpu" for p in model.parameters())


@contextmanager
def row_attention(model: PreTrainedModel) -> Iterator[None]:
    """While it lasts, forward and backward passes of `model` (a plain one) may attend document by document."""
    if not attends_by_documents(model):
        yield
        return
    with attention(model, NAME):
        yield


@contextmanager
def attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """While it lasts, `model` attends by what is registered under `name`; layers may have configs of their own."""
    before = model.config._attn_implementation
    held: list[Any] = [vars(module).get("config") for module in model.modules()] + [model.config.get_text_config()]
    configs = {id(one): one for one in held if getattr(one, "_attn_implementation", None) == before}.values()
    for config in configs:
        config._attn_implementation = name
    try:
        yield
    finally:
        for config in configs:
            config._attn_implementation = before
