"""Torch-only maths: log-probs of the vocabulary head, the fused InTRO loss and the fused cross-entropy."""

from ixt_rl.kernels.head import Head, gathered_head
from ixt_rl.kernels.intro.loss import intro_loss
from ixt_rl.kernels.intro.spec import IntroSpec, IntroStats
from ixt_rl.kernels.logprobs import logprob_chunk, selected_logprobs
from ixt_rl.kernels.nll import NllStats, nll_loss

__all__ = [
    "Head",
    "IntroSpec",
    "IntroStats",
    "NllStats",
    "gathered_head",
    "intro_loss",
    "logprob_chunk",
    "nll_loss",
    "selected_logprobs",
]
