"""The completions of one prompt in a forward pass that reads it once, and that pads nothing but attention.

    rows [x, z1], [x, z2], [y, z3]  ->  x z1 z2 y z3, one row of T tokens  ->  hidden states (1, T, D)

Embeddings, products and norms take a token by itself: they see each prompt once, and no padding. Attention needs what
came before: it gets queries, keys and values at `places` (S, L), each sequence's tokens in the row, as a batch that is
padded to the right, where causal attention needs no mask. A prompt's gradient is the sum over its completions.

As in `row_attention.py`, what attention needs travels in the mask's place, and is for CPUs.

Shapes: S sequences, L tokens of the longest, T tokens of the row, N loss-bearing tokens, H heads, d of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ixt_rl.conditioning import Batch, pad, prompt_completion
from ixt_rl.trainers.dropout import evaluation_mode
from ixt_rl.trainers.head import plain_model
from ixt_rl.trainers.row_attention import attends_by_documents, attention, looks_back

NAME = "ixt_rl_shared_prompts"
_WORTH = 0.95  # of the padded batch's tokens; above, moving queries, keys and values about costs as much as it saves
_EQUAL = 1e-3  # of the largest hidden state, in float32


def shared_prompts_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """transformers' sdpa attention, (B, T, H, d); `attention_mask` that is (1, 1, S, L) places: in each sequence."""
    if attention_mask is None or attention_mask.dtype != torch.long:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    places, tokens = attention_mask[0, 0], query.shape[2]
    q, k, v = (_spread(x, places) for x in (query, key, value))
    out, _ = sdpa_attention_forward(module, q, k, v, None, **kwargs)  # (S, L, H, d)
    every = torch.arange(places.numel(), device=places.device)
    first = torch.full((tokens,), len(every), device=places.device).scatter_reduce_(0, places.flatten(), every, "amin")
    return embedding(first, out.reshape(len(every), -1)).view(1, tokens, *out.shape[2:]), None


def _spread(x: Tensor, places: Tensor) -> Tensor:
    """(1, H, T, d) at `places` (S, L) -> (S, H, L, d)."""
    by_token = x[0].transpose(0, 1)  # (T, H, d)
    spread = embedding(places, by_token.reshape(len(by_token), -1))  # its backward adds up rows in parallel
    return spread.view(*places.shape, *by_token.shape[1:]).transpose(1, 2)


AttentionInterface.register(NAME, shared_prompts_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def scored_inputs(batch: Batch, config: Any) -> dict[str, Any]:
    """Keyword arguments of a forward pass that hands the hidden states before a batch's N loss-bearing tokens to a
    head function (`head.add_head_function`).

    Args:
        batch: a sequence a row. What precedes its first loss-bearing token is its prompt.
        config: of the model. Outside of `prompts_once`, and where a layer looks less far than a sequence is long, the
            batch goes in as it is.
    """
    name = config._attn_implementation
    if name == NAME and looks_back(config, int(batch.attention_mask.sum(1).max())):
        row = _one_row(batch)
        if row["input_ids"].numel() < _WORTH * batch.input_ids.numel():
            return row
    return {**batch.model_inputs("sdpa" if name == NAME else name), "predictor_mask": batch.predictor_mask}


def _one_row(batch: Batch) -> dict[str, Any]:
    ids: list[int] = []
    positions: list[int] = []
    predictors: list[int] = []
    prompts: dict[tuple[int, ...], int] = {}
    sequences: list[list[int]] = []
    for tokens, real, trained in zip(
        batch.input_ids.tolist(), batch.attention_mask.tolist(), batch.loss_mask.tolist(), strict=True
    ):
        own = [(token, loss) for token, here, loss in zip(tokens, real, trained, strict=True) if here]
        length = next((place for place, (_, loss) in enumerate(own) if loss), 0)
        prompt = tuple(token for token, _ in own[:length])
        if prompt not in prompts:
            prompts[prompt] = len(ids)
            ids += prompt
            positions += range(length)
        begun = prompts[prompt]
        places = [*range(begun, begun + length), *range(len(ids), len(ids) + len(own) - length)]
        ids += [token for token, _ in own[length:]]
        positions += range(length, len(own))
        predictors += [places[place - 1] for place, (_, loss) in enumerate(own) if loss]
        sequences.append(places)
    longest = max(map(len, sequences))
    device = batch.input_ids.device
    padded = torch.tensor([[*places, *[0] * (longest - len(places))] for places in sequences], device=device)
    return {
        "input_ids": torch.tensor([ids], device=device),
        "position_ids": torch.tensor([positions], device=device),
        "attention_mask": padded[None, None],  # (1, 1, S, L)
        "predictor_mask": torch.tensor(predictors, dtype=torch.long, device=device),  # (N,)
        "use_cache": False,
    }


@contextmanager
def prompts_once(trainer: Any) -> Iterator[None]:
    """While it lasts, forward and backward passes of a trainer's model may read a prompt once, where that is known to
    give the same; see `reads_once`."""
    if not reads_once(trainer):
        yield
        return
    with attention(plain_model(trainer), NAME):
        yield


@contextmanager
def as_the_policy(model: Any, trainer: Any) -> Iterator[None]:
    """`model`, a copy of the trainer's, takes what `scored_inputs` makes for that one."""
    name = plain_model(trainer).config._attn_implementation
    if name == model.config._attn_implementation:
        yield
        return
    with attention(model, name):
        yield


def reads_once(trainer: Any) -> bool:
    """Whether a trainer's model gives the same hidden states when it reads a prompt once; found out once, on made-up
    tokens. False where a pass differs by the batch it is in: dropout, a mixture's auxiliary loss, adapters of prompts.

    All ranks call it.
    """
    if not hasattr(trainer, "_reads_once"):
        trainer._reads_once = _could_read_once(trainer) and _reads_the_same(trainer)
    return trainer._reads_once


def _could_read_once(trainer: Any) -> bool:
    adapters = getattr(trainer.accelerator.unwrap_model(trainer.model), "active_peft_config", None)
    return (
        attends_by_documents(plain_model(trainer))
        and trainer.args.disable_dropout
        and not trainer.aux_loss_enabled
        and not getattr(adapters, "is_prompt_learning", False)
    )


@torch.no_grad()
def _reads_the_same(trainer: Any) -> bool:
    model = trainer.model
    vocabulary = model.config.get_text_config().vocab_size
    made_up = [((5, 3, 4, 2), (3, 5, 2)), ((5, 3, 4, 2), (4, 2, 5, 3, 2)), ((2, 4, 5), (4, 3))]
    rows = [prompt_completion(*([token % vocabulary for token in ids] for ids in one)) for one in made_up]
    batch = pad(rows, 0).to(next(model.parameters()).device)
    padded = batch.model_inputs("sdpa") | {"predictor_mask": batch.predictor_mask}
    found = []
    with evaluation_mode(model):
        for inputs, name in ((padded, "sdpa"), (_one_row(batch), NAME)):
            try:
                with attention(plain_model(trainer), name), trainer.accelerator.autocast():
                    found.append(model(**inputs, head_fn=lambda hidden, head: hidden).float())
            except Exception:  # whatever an architecture trips over; it is padded, as it always was
                return False
    exact = next(model.parameters()).dtype == torch.float32 and trainer.accelerator.mixed_precision == "no"
    limit = _EQUAL if exact else 30 * _EQUAL
    return bool((found[0] - found[1]).abs().max() <= limit * found[0].abs().max())
