"""From logits to tokens: what is done to them, and the draw of a row by its own numbers.

Shapes: B rows, V vocabulary, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    LogitsProcessor,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ixt_rl.rollout.engine import MAX_SEED
from ixt_rl.types import SamplingParams

_BLOCK = 256
"""Tokens whose probabilities are added up before the block that is drawn is looked into."""


def row_seeds(rows: int, seed: int | None) -> list[int]:
    """A seed for each of B rows, drawn from torch's generator, which `seed` sets for this call alone."""
    if seed is None:
        return torch.randint(MAX_SEED, (rows,)).tolist()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.randint(MAX_SEED, (rows,)).tolist()


def warpers(sampling: SamplingParams) -> list[LogitsProcessor]:
    """What turns logits into the distribution sampled from, in the order in which it is done."""
    found: list[LogitsProcessor] = []
    if sampling.temperature not in (0, 1):
        found.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.min_p:
        found.append(MinPLogitsWarper(sampling.min_p))
    if sampling.top_k:
        found.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(sampling.top_p))
    return found


def row_uniforms(seeds: Sequence[int], steps: int) -> Tensor:
    """[len(seeds), steps] float64 in [0, 1), each row from a generator with its own seed."""
    generator = torch.Generator()
    return torch.stack(
        [torch.rand(steps, dtype=torch.float64, generator=generator.manual_seed(seed)) for seed in seeds]
    )


def draw(scores: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
    """A token a row, and its log-prob under softmax(scores).

    The token is the first whose cumulative probability exceeds the row's number, so that it depends on nothing but the
    row; it never has probability 0. Sums are float64 over blocks of float32 ones: one pass over the vocabulary.

    Args:
        scores: (B, V) fp32; -inf is never drawn.
        uniforms: (B,) float64 in [0, 1); None takes the most likely token.

    Returns:
        (B,) int64 ids and (B,) fp32 log-probs.
    """
    peak, most = scores.max(dim=-1, keepdim=True)
    weights = F.pad((scores - peak).exp_(), (0, -scores.shape[1] % _BLOCK)).unflatten(1, (-1, _BLOCK))
    sums = weights.sum(dim=-1).double()
    cumulative = sums.cumsum(dim=-1)
    total = cumulative[:, -1:]
    if uniforms is None:
        tokens = most
    else:
        target = _below(uniforms[:, None].to(scores.device) * total, total)
        block = torch.searchsorted(cumulative, target, right=True)
        inside = weights.gather(1, block[..., None].expand(-1, -1, _BLOCK))[:, 0].double().cumsum(dim=-1)
        rest = target - (cumulative - sums).gather(1, block)
        tokens = block * _BLOCK + torch.searchsorted(inside, _below(rest, inside[:, -1:]), right=True)
    logprobs = scores.gather(1, tokens) - peak - total.log().float()
    return tokens[:, 0], logprobs[:, 0]


def _below(x: Tensor, limit: Tensor) -> Tensor:
    """`x`, at least 0 and under `limit`, where rounding took it out of that."""
    return torch.minimum(x.clamp(min=0), torch.nextafter(limit, torch.zeros_like(limit)))


class InverseDraw(LogitsProcessor):
    """Draws each row's token from its own uniform numbers (`draw`), and leaves `generate` no other token to choose.

    Comes last, and without sampling.

    Args:
        uniforms: [B, T] float64 in [0, 1), a number a row and step.
        prompt_width: ids before the first step.
    """

    def __init__(self, uniforms: Tensor, prompt_width: int):
        self.uniforms = uniforms
        self.width = prompt_width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        tokens, _ = draw(scores.float(), self.uniforms[:, input_ids.shape[1] - self.width])
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)
