"""Importance correction: sampled tokens count by the ratio of the policy that trains to the distribution that sampled.

    token      r_t = pi(z_t) / mu(z_t)                    truncate: min(r, cap)     mask: r where r <= cap, else 0
    sequence   r   = prod_t pi(z_t) / mu(z_t), for all of the row's tokens

as TRL's `vllm_importance_sampling_mode` (token_truncate, token_mask, sequence_truncate, sequence_mask).

Where a position has several candidates (InTRO), all of them count by the ratio of the token taken. They are drawn from
pi, and need none of their own; but that the position counts, because its rationale is kept, hangs on that token, too:

    E_{z_t ~ mu} [r_t V(z_t) f(c)] = E_{z_t ~ pi} [V(z_t)] f(c)      V(z_t): the chance to be kept, if z_t is taken

so that without the ratio the others would count as often as the sampler is right, and not the policy. Where everything
counts whatever is taken, as a divergence of whole distributions does (OPSD), there is nothing to weigh.

Shapes: N sampled tokens of all rows, in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ixt_rl.errors import ConfigError
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.intro.walk import Reweigh
from ixt_rl.kernels.logprobs import selected_logprobs


@dataclass(frozen=True)
class Correction:
    """How ratios of policy to sampler enter the loss.

    Args:
        level: each token by its own ratio, or all tokens of a row by the product of theirs, which is unbiased and
            falls or rises fast with length.
        mode: what happens to ratios above `cap`.
        cap: above 0.

    Raises:
        ConfigError: an unknown level or mode, or a cap that is not positive.
    """

    level: Literal["token", "sequence"] = "token"
    mode: Literal["truncate", "mask"] = "truncate"
    cap: float = 2.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("level", self.level, ("token", "sequence")),
            ("mode", self.mode, ("truncate", "mask")),
        ):
            if value not in known:
                raise ConfigError(
                    f"correction {name}={value!r}", reason="there is no such one", remedy=f"choose {' or '.join(known)}"
                )
        if not self.cap > 0:
            raise ConfigError(
                f"correction cap={self.cap}", reason="ratios of probabilities are above 0", remedy="give e.g. 2.0"
            )

    def weights(self, log_ratio_N: Tensor, rows_N: Tensor) -> Tensor:
        """(N,) fp32, detached: what each token's loss is multiplied by.

        Args:
            log_ratio_N: log pi - log mu of each token.
            rows_N: (N,) int64, the row of each.
        """
        ratio_N = self.ratio(log_ratio_N, rows_N)
        if self.mode == "truncate":
            return ratio_N.clamp(max=self.cap)
        return ratio_N.masked_fill(ratio_N > self.cap, 0.0)

    def ratio(self, log_ratio_N: Tensor, rows_N: Tensor) -> Tensor:
        """(N,) fp32 ratios before truncation or masking; a token whose log-ratio is not known (NaN) counts as 1."""
        log_ratio_N = log_ratio_N.detach().float().nan_to_num(nan=0.0)
        if self.level == "sequence" and len(rows_N):
            sums_B = torch.zeros(int(rows_N.max()) + 1, device=log_ratio_N.device)
            log_ratio_N = sums_B.index_add(0, rows_N, log_ratio_N)[rows_N]
        return log_ratio_N.exp()

    def changed(self, log_ratio_N: Tensor, rows_N: Tensor) -> Tensor:
        """(N,) bool: truncated or masked."""
        return self.ratio(log_ratio_N, rows_N) > self.cap


def reweigh_at_level(
    level: str, hidden: Tensor, head: Head, target_ids: Tensor, weights: Callable[[Tensor, slice], Tensor]
) -> Reweigh:
    """Importance weights from the log-probs of the forward pass that trains, as the kernels ask for them.

    A token's own ratio is known as the kernel walks. A sequence's needs all its tokens first: one more product with the
    head, on the same hidden states.

    Args:
        level: see `Correction`.
        hidden: (N, D) of the pass that trains.
        target_ids: (N,) the tokens that were sampled.
        weights: of the tokens in a slice of the N, from their fp32 log-probs under the policy.
    """
    if level != "sequence":
        return weights
    with torch.no_grad():
        logp_N, _ = selected_logprobs(hidden, head, target_ids)
    weights_N = weights(logp_N, slice(None))
    return lambda logp_C, at: weights_N[at]
