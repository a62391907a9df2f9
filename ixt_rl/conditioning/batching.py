"""TokenSequences -> tensors: left or right padding, or packing that isolates documents.

Positions always come from the sequence itself, never from the padded index, so that a sequence has
the same log-probs alone, padded on either side, and packed.

Shapes: B rows, T tokens, N loss-bearing tokens of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ixt_rl.types import TokenSequence

PACKED_ATTENTION = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")


@dataclass(frozen=True)
class Batch:
    """Model inputs; every tensor is (B, T).

    Args:
        input_ids: int64, pad id where `attention_mask` is 0.
        attention_mask: int64, 1 on real tokens.
        position_ids: int64, 0 at each sequence's first token (and on padding).
        segment_ids: int64, 0 on padding, 1, 2, ... for the sequences packed in a row.
        loss_mask: bool, the tokens that are targets; a sequence's first token never is.
        role_ids: int64, index into `ROLES`; -1 on padding.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    segment_ids: Tensor
    loss_mask: Tensor
    role_ids: Tensor

    def to(self, device: torch.device | str) -> Batch:
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    @property
    def predictor_mask(self) -> Tensor:
        """(B, T) bool: positions whose hidden state predicts a loss-bearing token (one to the left)."""
        shifted = torch.zeros_like(self.loss_mask)
        shifted[:, :-1] = self.loss_mask[:, 1:]
        return shifted

    @property
    def target_ids(self) -> Tensor:
        """(N,) loss-bearing token ids, row by row, in the order of `hidden[predictor_mask]`."""
        return self.input_ids[self.loss_mask]

    @property
    def target_rows(self) -> Tensor:
        """(N,) the row each loss-bearing token lies in."""
        return self.loss_mask.nonzero()[:, 0]

    @property
    def counted(self) -> int:
        """Real tokens, as a ledger counts them: 0 of a batch without a target, which stands in where a rank or a
        micro-batch has nothing to train. So how an update is split changes no count."""
        return int(self.attention_mask.sum()) if self.loss_mask.any() else 0

    @property
    def is_packed(self) -> bool:
        return bool((self.segment_ids > 1).any())

    def flattened(self) -> Batch:
        """The same tokens in one row without padding, every sequence a segment: what flash attention takes.

        It finds sequences by positions that restart at 0, and looks for them in batches of one row only.
        """
        real = self.attention_mask.bool()
        offset = torch.cat([self.segment_ids.new_zeros(1), self.segment_ids.amax(1).cumsum(0)[:-1]])
        numbered = {**vars(self), "segment_ids": self.segment_ids + offset[:, None]}
        return Batch(**{name: tensor[real][None] for name, tensor in numbered.items()})

    def model_inputs(self, attention: str = "sdpa", config: Any = None) -> dict[str, Any]:
        """Keyword arguments for a transformers model.

        A padded batch gets the usual (B, T) mask. A packed one must keep documents apart whatever the attention
        backend, and each layer may look no further than it does in one document: sdpa, eager and flex get masks,
        one by layer type where layers differ; flash takes documents from positions that restart at 0, without a mask.
        No cache, because with one positions are not looked at. What recurrent and convolution layers carry over no
        mask can stop: see `ixt_rl.trainers.self_checks`.

        Args:
            attention: the backend.
            config: of the model: its windows and chunks count. None: all layers look at whole documents.

        Raises:
            ValueError: a packed batch on an attention backend that is not known to isolate.
        """
        inputs: dict[str, Any] = {"input_ids": self.input_ids, "position_ids": self.position_ids}
        if not self.is_packed:
            return {**inputs, "attention_mask": self.attention_mask}
        if attention.startswith("flash") and len(self.input_ids) > 1:
            raise ValueError("flash attention keeps packed documents apart in one row only; use `flattened()`")
        if attention not in PACKED_ATTENTION:
            raise ValueError(
                f"packing with attention {attention!r}: documents may leak into each other; "
                f"use one of {', '.join(PACKED_ATTENTION)}, or pad instead"
            )
        inputs |= {"attention_mask": None, "use_cache": False}
        if config is not None and not attention.startswith("flash"):
            inputs["attention_mask"] = layer_masks(config, self.position_ids)
        elif attention in ("sdpa", "eager"):
            allowed = block_causal_mask(self.segment_ids)
            inputs["attention_mask"] = allowed if attention == "sdpa" else _added(allowed)
        return inputs


def layer_masks(config: Any, position_ids: Tensor) -> Any:
    """What a transformers model with this config takes as `attention_mask` for documents that positions tell apart.

    Made by transformers itself, in the form of the config's attention backend: a mask, a dict of them by layer type, or
    None where a layer type is not known there, so that the model makes its own from the positions.

    Args:
        config: of the model.
        position_ids: (B, T), 0 at each document's first token, and on padding.
    """
    from transformers import masking_utils as masks

    text = config.get_text_config()
    given: dict[str, Any] = {
        "config": text,
        "inputs_embeds": torch.empty((*position_ids.shape, 0), device=position_ids.device),  # its shape is read
        "attention_mask": None,
        "past_key_values": None,
        "position_ids": position_ids,
    }
    kinds = set(getattr(text, "layer_types", None) or ())
    makers: dict[str, Any] = masks.LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING
    if kinds - makers.keys():
        return None
    makers = {**makers, "chunked_attention": _chunked_mask}
    made: dict[str, Any] = {}
    for kind in kinds:
        of_kind = makers[kind] if isinstance(makers[kind], dict) else {kind: makers[kind]}
        made |= {name: make(**given) for name, make in of_kind.items()}
    if made:
        return made
    if getattr(text, "sliding_window", None) is not None:
        return masks.create_sliding_window_causal_mask(**given)
    if getattr(text, "attention_chunk_size", None) is not None:
        return _chunked_mask(**given)
    return masks.create_causal_mask(**given)


def _chunked_mask(**given: Any) -> Any:
    """A mask of chunks that begin with each document; transformers 5.15's own begin with the row.

    Chunks are counted through the row, and positions kept back: a mask function is called with a row's indices in some
    versions, and with positions in those that find the documents in the positions.
    """
    from transformers.masking_utils import create_causal_mask

    chunks = (given["position_ids"] % given["config"].attention_chunk_size == 0).cumsum(-1)  # (B, T)
    return create_causal_mask(
        **{**given, "position_ids": None}, and_mask_function=lambda b, head, q, kv: chunks[b, q] == chunks[b, kv]
    )


def _added(allowed: Tensor) -> Tensor:
    """A bool mask as the numbers that eager attention adds to its scores."""
    return torch.zeros_like(allowed, dtype=torch.float32).masked_fill(~allowed, torch.finfo(torch.float32).min)


def block_causal_mask(segment_ids: Tensor) -> Tensor:
    """(B, T) segment ids -> (B, 1, T, T) bool, True where a query may look: same segment, not later.

    Padding (segment 0) looks at itself only among padding, so that no softmax row is empty.
    """
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    return (same & torch.ones_like(same).tril())[:, None]


def pad(sequences: Sequence[TokenSequence], pad_id: int, side: Literal["left", "right"] = "right") -> Batch:
    """One sequence a row, padded to the longest."""
    return _fill([[s] for s in sequences], max(len(s) for s in sequences), pad_id, side)


def pack(sequences: Sequence[TokenSequence], pad_id: int, capacity: int) -> Batch:
    """Several sequences a row, first-fit decreasing, each row at most `capacity` tokens.

    Rows keep the sequences' relative order within a row; use `segment_ids` to tell them apart.

    Raises:
        ValueError: a sequence is longer than `capacity`.
    """
    longest = max(len(s) for s in sequences)
    if longest > capacity:
        raise ValueError(f"a sequence of {longest} tokens does not fit in rows of {capacity}")
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])):
        need = len(sequences[index])
        row = next((r for r, free in enumerate(room) if free >= need), None)
        if row is None:
            rows.append([])
            room.append(capacity)
            row = len(rows) - 1
        rows[row].append(index)
        room[row] -= need
    packed = [[sequences[i] for i in sorted(row)] for row in rows]
    return _fill(packed, capacity - min(room), pad_id, "right")


def _fill(rows: list[list[TokenSequence]], width: int, pad_id: int, side: str) -> Batch:
    shape = (len(rows), width)
    input_ids = torch.full(shape, pad_id, dtype=torch.long)
    position_ids = torch.zeros(shape, dtype=torch.long)
    segment_ids = torch.zeros(shape, dtype=torch.long)
    loss_mask = torch.zeros(shape, dtype=torch.bool)
    role_ids = torch.full(shape, -1, dtype=torch.long)
    for r, row in enumerate(rows):
        start = 0 if side == "right" else width - sum(len(s) for s in row)
        for number, sequence in enumerate(row, start=1):
            span = slice(start, start + len(sequence))
            input_ids[r, span] = torch.tensor(sequence.input_ids)
            position_ids[r, span] = torch.arange(len(sequence))
            segment_ids[r, span] = number
            loss_mask[r, span] = torch.tensor(sequence.loss_mask, dtype=torch.bool)
            loss_mask[r, start] = False  # nothing predicts a first token
            role_ids[r, span] = torch.tensor(sequence.role_ids)
            start += len(sequence)
    return Batch(
        input_ids=input_ids,
        attention_mask=(segment_ids > 0).long(),
        position_ids=position_ids,
        segment_ids=segment_ids,
        loss_mask=loss_mask,
        role_ids=role_ids,
    )
