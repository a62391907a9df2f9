"""Options and statistics of the InTRO loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ixt_rl.errors import ConfigError


@dataclass(frozen=True)
class IntroSpec:
    """Which candidates the loss sums over, and how their factors are bounded.

    Args:
        candidates: n, or `exact` for the expectation over the whole vocabulary, the limit of many candidates. Its loss
            value (not its gradient) is inexact where logits of a row are more than 87 nats apart; see `Walk._exact`.
        include_taken: the first of the n is the token actually taken; the others are drawn from the policy.
            `exact` has no candidates and ignores it.
        clip: upper bound of the factor q/p, or None.

    Raises:
        ConfigError: n below 1, or a clip that is not positive.
    """

    candidates: int | Literal["exact"] = 5
    include_taken: bool = True
    clip: float | None = 200.0

    def __post_init__(self) -> None:
        if self.candidates != "exact" and not (isinstance(self.candidates, int) and self.candidates >= 1):
            raise ConfigError(
                f"candidates={self.candidates!r}",
                reason="the loss is a mean over at least one candidate per position",
                remedy="give a whole number of 1 or more, or 'exact'",
            )
        if self.clip is not None and not self.clip > 0:
            raise ConfigError(
                f"clip={self.clip}",
                reason="factors are ratios of probabilities, above 0",
                remedy="give a positive bound (the paper's is 200), or None for no bound",
            )

    @property
    def exact(self) -> bool:
        return self.candidates == "exact"

    @property
    def limit(self) -> float:
        """The clip, or infinity."""
        return math.inf if self.clip is None else self.clip


@dataclass(frozen=True)
class IntroStats:
    """What a step logs: one number per token, detached, float32 (float64 for float64 inputs).

    Args:
        logp, logq: `[N]` log-prob of the taken token under policy and posterior.
        factor_taken: `[N]` factor of the taken token.
        factor_sampled: `[N]` mean factor of the candidates drawn from the policy, near 1 in the mean over
            tokens; NaN where none was drawn. In exact mode its expectation, `sum_v min(q(v), clip p(v))`.
        clipped: `[N]` share of candidates (exact: policy mass) whose ratio q/p is above the clip.
        entropy: `[N]` entropy of the policy, nats.
        kl: `[N]` KL(q || p) over the whole vocabulary, nats.
        candidates: `[N, n]` token ids; None in exact mode.
        measured: `[N]` sum over the vocabulary of `intro_loss`'s `measure`; None without.
    """

    logp: Tensor
    logq: Tensor
    factor_taken: Tensor
    factor_sampled: Tensor
    clipped: Tensor
    entropy: Tensor
    kl: Tensor
    candidates: Tensor | None
    measured: Tensor | None = None
