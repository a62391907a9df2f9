"""Guidance between two prompts, as in classifier-free guidance: away from the bad feedback, towards the good.

    log p(token) = (1 - scale) log p(token | bad prompt) + scale log p(token | good prompt) + constant

transformers' own `UnbatchedClassifierFreeGuidanceLogitsProcessor` gives the second prompt no position ids, so that in
a batch its shorter rows would stand at the wrong positions, and gives no log-probs to go with a draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel

from ixt_rl.rollout.draws import row_uniforms
from ixt_rl.rollout.transformers_engine import TransformersEngine
from ixt_rl.types import Rollout, SamplingParams


class GuidedLogits(LogitsProcessor):
    """[2B, V] logits, those of the good prompts first, to [2B, V] guided log-probs, the same in both halves.

    Args:
        scale: 0 is the bad prompt alone, 1 the good one, above 1 further away from the bad one.
    """

    def __init__(self, scale: float):
        self.scale = scale

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        good, bad = scores.float().log_softmax(dim=-1).chunk(2)
        guided = (1 - self.scale) * bad + self.scale * good  # exact at 0 and at 1
        return guided.log_softmax(dim=-1).repeat(2, 1)


class GuidedEngine(TransformersEngine):
    """A `TransformersEngine` that weighs each prompt against another one; a `RolloutEngine`, for inference.

    Both prompts of a pair are rows of one batch and keep a KV cache each: a token costs twice a plain one. The
    log-probs of its rollouts are those of the guided distribution, and of no policy that could be trained on them.

    Args:
        model: a causal language model.
        eos_ids: every id that ends a completion.
        pad_id: fills the left of shorter prompts.
        scale: see the head of this file; temperature and truncation come after it.
        against: the bad prompt that belongs to a good one.
        batch_size: pairs generated at once.
        tokenizer: as `TransformersEngine` takes it.
    """

    continuous = False  # a row's logits need those of the other row of its pair

    def __init__(
        self,
        model: PreTrainedModel,
        eos_ids: Sequence[int],
        pad_id: int,
        *,
        scale: float,
        against: Callable[[tuple[int, ...]], Sequence[int]],
        batch_size: int = 128,
        tokenizer: Any = None,
    ):
        super().__init__(model, eos_ids, pad_id, batch_size, tokenizer)
        self.scale = scale
        self.against = against

    def _generate_batch(
        self, rows: list[tuple[int, ...]], sampling: SamplingParams, seeds: list[int] | None
    ) -> list[Rollout]:
        uniforms = None
        if sampling.temperature > 0:  # both rows of a pair draw the same token, from the same number
            steps = sampling.max_new_tokens
            drawn = row_uniforms(seeds, steps) if seeds else torch.rand(len(rows), steps, dtype=torch.float64)
            uniforms = drawn.repeat(2, 1)
        bad = [tuple(self.against(row)) for row in rows]
        for row in bad:
            self._check_prompt("a prompt to move away from", row, sampling)
        both = rows + bad
        decoded = self._decode(both, sampling, uniforms, [GuidedLogits(self.scale)])
        good = (of_both[: len(rows)] for of_both in decoded)
        return [self._rollout(*row) for row in zip(rows, *good, strict=True)]
