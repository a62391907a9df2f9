"""The same quantities written plainly: two log-softmaxes over [tokens, vocabulary], and autograd.

For tests, benchmarks and reading; any dtype. Memory grows with N x V.
Shapes: N tokens, V vocabulary, D hidden, n candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ixt_rl.kernels.head import Head
from ixt_rl.kernels.intro.loss import Factor
from ixt_rl.kernels.intro.spec import IntroSpec, IntroStats


def logits(hidden: Tensor, head: Head) -> Tensor:
    """`[N, V]`: softcap(scale * (h W^T + b)) / temperature."""
    z = hidden @ head.weight.t()
    if head.bias is not None:
        z = z + head.bias
    z = z * head.scale
    if head.softcap is not None:
        z = head.softcap * torch.tanh(z / head.softcap)
    return z / head.temperature


def selected_logprobs(hidden: Tensor, head: Head, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probs of `tokens` [N] and entropies [N]."""
    logp = torch.log_softmax(logits(hidden, head), dim=-1)
    return logp.gather(1, tokens[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


def gumbel_candidates(logp: Tensor, taken: Tensor, spec: IntroSpec, generator: torch.Generator | None) -> Tensor:
    """Candidate ids `[N, n]` by Gumbel-max: argmax over v of `log p(v) + g(v)`, `g` standard Gumbel."""
    columns = [taken] if spec.include_taken else []
    while len(columns) < int(spec.candidates):
        exponential = torch.empty_like(logp).exponential_(generator=generator)
        columns.append((logp - exponential.log()).argmax(-1))
    return torch.stack(columns, 1)


def intro_loss(
    hidden: Tensor,
    posterior_hidden: Tensor,
    head: Head,
    tokens: Tensor,
    token_weights: Tensor,
    spec: IntroSpec,
    *,
    posterior_head: Head | None = None,
    candidates: Tensor | None = None,
    generator: torch.Generator | None = None,
    factor: Factor | None = None,
) -> tuple[Tensor, IntroStats]:
    """As `ixt_rl.kernels.intro.loss.intro_loss`; `candidates` [N, n] fixes the ids instead of drawing them."""
    logp = torch.log_softmax(logits(hidden, head), dim=-1)
    with torch.no_grad():
        logq = torch.log_softmax(logits(posterior_hidden, posterior_head or head), dim=-1)

    def ratio(logp: Tensor, logq: Tensor) -> Tensor:
        if factor is not None:
            return factor(logp.detach(), logq)
        return torch.exp(logq - logp.detach()).clamp(max=spec.limit)

    def above_clip(logp: Tensor, logq: Tensor) -> Tensor:
        return (torch.exp(logq - logp.detach()) > spec.limit).to(logp.dtype)

    p = logp.detach().exp()
    if spec.exact:
        if candidates is not None:
            raise ValueError("exact mode has no candidates")
        a = p * ratio(logp, logq)
        per_token = (a * logp).sum(-1)
        drawn, clipped = a.sum(-1), (p * above_clip(logp, logq)).sum(-1)
    else:
        if candidates is None:
            candidates = gumbel_candidates(logp.detach(), tokens, spec, generator)
        logp_c, logq_c = logp.gather(1, candidates), logq.gather(1, candidates)
        w = ratio(logp_c, logq_c)
        per_token = (w * logp_c).mean(-1)
        drawn = (w[:, 1:] if spec.include_taken else w).mean(-1)
        clipped = above_clip(logp_c, logq_c).mean(-1)
    taken = tokens[:, None]
    stats = IntroStats(
        logp=logp.detach().gather(1, taken)[:, 0],
        logq=logq.gather(1, taken)[:, 0],
        factor_taken=ratio(logp.gather(1, taken), logq.gather(1, taken))[:, 0],
        factor_sampled=drawn,
        clipped=clipped,
        entropy=-(p * logp.detach()).sum(-1),
        kl=(logq.exp() * (logq - logp.detach())).sum(-1),
        candidates=candidates,
    )
    return -(token_weights * per_token).sum(), stats
