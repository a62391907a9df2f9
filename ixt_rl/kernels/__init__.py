"""Torch-only maths: log-probs of the vocabulary head, and the fused InTRO loss."""

from ixt_rl.kernels.head import Head, gathered_head
from ixt_rl.kernels.intro.loss import intro_loss
from ixt_rl.kernels.intro.spec import IntroSpec, IntroStats
from ixt_rl.kernels.logprobs import logprob_chunk, selected_logprobs

__all__ = [
    "Head",
    "IntroSpec",
    "IntroStats",
    "gathered_head",
    "intro_loss",
    "logprob_chunk",
    "selected_logprobs",
]
