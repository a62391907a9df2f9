"""Divergences of two distributions over the vocabulary, as factors of the InTRO loss in exact mode.

With p the distribution that is trained, a softmax of logits z, and q the one it is compared with, held fixed:

    forward_kl   KL(q || p) = sum_v q log(q / p)
    reverse_kl   KL(p || q) = sum_v p log(p / q)
    jsd          beta KL(q || m) + (1 - beta) KL(p || m),   m = beta q + (1 - beta) p

Exact mode weighs `log p(v)` by `a(v) = p(v) w(v)`, held fixed, so that `dL/dz(v) = p(v) sum_u a(u) - a(v)
= - p(v) (w(v) - E_p[w])`. A divergence D has `dD/dz(v) = p(v) (D'(v) - E_p[D'])` with `D'(v) = dD/dp(v)`. The two are
equal for `w = - D' + any constant`:

    forward_kl   D' = - q / p                w = q / p, without a clip: exact mode's own factor
    reverse_kl   D' = log(p / q) + 1         w = log(q / p)
    jsd          D' = (1 - beta) log(p / m)  w = (1 - beta) log(m / p)

for in the last the terms of dm/dp are `- (1 - beta) (beta q + (1 - beta) p) / m + (1 - beta) = 0`. As beta goes to 0,
jsd / beta goes to the forward KL; as it goes to 1, jsd / (1 - beta) goes to the reverse one.

The loss that the kernel reports is then no divergence; `terms` are what adds up to one.

Shapes: C positions, m entries of the vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ixt_rl.errors import ConfigError

DivergenceName = Literal["jsd", "forward_kl", "reverse_kl"]


@dataclass(frozen=True)
class Divergence:
    """A divergence of p and q, by name; see the equations at the top of this file.

    Args:
        name: which.
        beta: of `jsd`, strictly between 0 and 1: the share of q in the mixture.

    Raises:
        ConfigError: there is no such divergence, or beta is out of bounds.
    """

    name: DivergenceName = "jsd"
    beta: float = 0.5

    def __post_init__(self) -> None:
        if self.name not in ("jsd", "forward_kl", "reverse_kl"):
            raise ConfigError(
                f"divergence={self.name!r}", reason="there is none of that name", remedy="jsd, forward_kl or reverse_kl"
            )
        if not 0 < self.beta < 1:
            raise ConfigError(
                f"beta={self.beta} of the Jensen-Shannon divergence",
                reason="it is the share of one distribution in a mixture of two: at 0 and 1 nothing would be compared",
                remedy="give a number between 0 and 1; forward_kl and reverse_kl are its limits",
            )

    def factor(self, logp: Tensor, logq: Tensor) -> Tensor:
        """w of each entry, (C, m), from log-probs of the same shape and dtype."""
        if self.name == "forward_kl":
            return (logq - logp).exp()
        if self.name == "reverse_kl":
            return logq - logp
        return (1 - self.beta) * self._log_mixture(logq - logp, self.beta)

    def terms(self, logp: Tensor, logq: Tensor) -> Tensor:
        """What each entry adds to the divergence, (C, m), nats; their sum over the vocabulary is D."""
        gap = logq - logp
        if self.name == "forward_kl":
            return logq.exp() * gap
        if self.name == "reverse_kl":
            return -logp.exp() * gap
        over_p, over_q = self._log_mixture(gap, self.beta), self._log_mixture(-gap, 1 - self.beta)
        return -self.beta * logq.exp() * over_q - (1 - self.beta) * logp.exp() * over_p

    @staticmethod
    def _log_mixture(gap: Tensor, share: float) -> Tensor:
        """`log(share e^gap + 1 - share)`: log(m / p) for `gap = log(q / p)` and the share of q."""
        return torch.logaddexp(gap + math.log(share), gap.new_tensor(math.log1p(-share)))
