"""STaR with other samples or weights: arms of the study (`type: python`).

p0, q: the first model untold and told. What is trained is a rationale z ~ q, kept where its answer is right.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ixt_rl.conditioning import Batch
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.trainers import STaRTrainer
from ixt_rl.trainers.hooks import Signals

_REST = 1000
"""Beside the part of a micro-step: the seed of the tokens after the first."""


class ToldTail(STaRTrainer):
    """The first token is the policy's, untold: its style. The rest is the told model's.

    z_0 ~ p(. | x),   z_t ~ q(. | x (+) y, z_<t)
    """

    def _sampled(self, prompts: list[Any], trainer: Any) -> dict[str, list]:
        if not self.model.training or self._known is not None:
            return super()._sampled(prompts, trainer)
        rollouts, sampling = self.rollouts, self.rollouts._sampling(self, part=self._part)
        with rollouts.in_process_engine(self) as engine:
            first = [group[0] for group in engine.generate(self._prompt_ids, replace(sampling, max_new_tokens=1))]
        begun = [[*ids, *one.completion_ids] for ids, one in zip(self._asked_ids, first, strict=True)]
        other_noise = self.rollouts._sampling(self, part=self._part + _REST)
        rest_of = replace(other_noise, max_new_tokens=sampling.max_new_tokens - 1)
        with rollouts._sampled_model(self) as model, rollouts.in_process_engine(self, model) as engine:
            rest = [group[0] for group in engine.generate(begun, rest_of)]
        ended = [one.finish_reason == "eos" for one in first]
        found = {
            "prompt_ids": [list(ids) for ids in self._prompt_ids],
            "completion_ids": [
                [*a.completion_ids, *(() if over else b.completion_ids)]
                for a, b, over in zip(first, rest, ended, strict=True)
            ],
            "logprobs": [
                [*a.logprobs, *(() if over else b.logprobs)] for a, b, over in zip(first, rest, ended, strict=True)
            ],
            "finish_reason": ["eos" if over else b.finish_reason for b, over in zip(rest, ended, strict=True)],
            "policy_version": [one.policy_version for one in first],
        }
        for tokens in (self._asked_ids, found["completion_ids"]):
            self.ledger.add("rollout", sum(map(len, tokens)))
        return found


class ToldSteps(ToldTail):
    """`ToldTail` whose first token is not trained: the style stays as it is, and only steps are learnt."""

    def token_weights(self, batch: Batch, signals: Signals) -> Tensor:
        places = batch.loss_mask.cumsum(dim=1)[batch.loss_mask]
        return super().token_weights(batch, signals) * (places > 1)


class ToldOverlap(STaRTrainer):
    """Tokens weigh min(1, p0 / q): what only the told model finds likely counts little.

    The expected gradient is that of min(p0, q) at every position, the part that the two share.
    """

    def token_weights(self, batch: Batch, signals: Signals) -> Tensor:
        weights_N = super().token_weights(batch, signals)
        if not len(weights_N):
            return weights_N
        told = signals.columns["sampling_per_token_logps"][signals.columns["completion_mask"].bool()]
        assert self.sampler is not None
        scored = partial(selected_logprobs, tokens=batch.target_ids)
        with torch.no_grad(), self.sampler.active(self.model_wrapped) as first:
            plain, _ = first(**self.model_inputs(batch), head_fn=scored)
        self.ledger.add("score", int(batch.attention_mask.sum()))
        ratio_N = (plain - told).exp().clamp(max=1.0)
        self.track("factor/overlap", ratio_N)
        return weights_N * ratio_N
