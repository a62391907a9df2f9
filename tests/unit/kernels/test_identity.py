"""On a model small enough to enumerate, InTRO's gradient with the true posterior is that of log pi(y | x).

With y = f(z) and pi(y) = sum of pi(z) over f(z) = y:
    grad log pi(y) = E_{z ~ pi(z | y)} grad log pi(z)
                   = sum over prefixes s of pi(s | y) sum_v q(v | s) grad log p(v | s),
where q(v | s) = pi(v | s, y) is the true posterior. The inner sum is the loss in exact mode without a clip, and
pi(s | y) its token weight.
"""

from __future__ import annotations

import itertools

import pytest
import torch

from ixt_rl.kernels import Head, IntroSpec, intro_loss
from ixt_rl.kernels.correction import Correction, reweigh_at_level

READ_OUTS = {
    "sum mod 2": lambda z: sum(z) % 2,
    "last token": lambda z: z[-1],
    "first equals last": lambda z: int(z[0] == z[-1]),
    "most frequent": lambda z: max(sorted(set(z)), key=z.count),
}


class Toy(torch.nn.Module):
    """Autoregressive and small: an embedding per prefix, a hidden layer, a vocabulary head; float64."""

    def __init__(self, vocab: int, length: int):
        super().__init__()
        g = torch.Generator().manual_seed(vocab + 10 * length)
        self.prefixes = [s for t in range(length) for s in itertools.product(range(vocab), repeat=t)]
        self.outcomes = list(itertools.product(range(vocab), repeat=length))
        self.embed = torch.nn.Parameter(torch.randn(len(self.prefixes), 5, generator=g, dtype=torch.float64))
        self.mix = torch.nn.Parameter(torch.randn(5, 4, generator=g, dtype=torch.float64))
        self.head = torch.nn.Parameter(torch.randn(vocab, 4, generator=g, dtype=torch.float64))

    def hidden(self):
        return torch.tanh(self.embed @ self.mix)  # [prefixes, D]

    def log_prob(self, z, logp):
        return sum(logp[self.prefixes.index(z[:t]), z[t]] for t in range(len(z)))

    def gradient(self, scalar):
        return torch.autograd.grad(scalar, [self.embed, self.mix, self.head])


def posterior_of(toy, logp, read_out, y):
    """`q(v | s)` [prefixes, V] and `pi(s | y)` [prefixes], by enumeration of all outcomes."""
    joint = torch.zeros_like(logp)  # pi(s, v, y)
    for z in toy.outcomes:
        if read_out(z) == y:
            for t in range(len(z)):
                joint[toy.prefixes.index(z[:t]), z[t]] += toy.log_prob(z, logp).exp()
    reach = joint.sum(1)  # pi(s, y)
    return joint / reach.clamp_min(1e-300)[:, None], reach / reach[0]


@pytest.mark.parametrize("read_out", READ_OUTS)
@pytest.mark.parametrize("vocab, length", [(2, 3), (3, 3), (4, 2)])
def test_true_posterior_gives_the_gradient_of_log_pi_y(vocab, length, read_out):
    toy, f = Toy(vocab, length), READ_OUTS[read_out]
    for y in sorted({f(z) for z in toy.outcomes}):
        logp = torch.log_softmax(toy.hidden() @ toy.head.t(), -1)
        right = [z for z in toy.outcomes if f(z) == y]
        log_pi_y = torch.stack([toy.log_prob(z, logp) for z in right]).logsumexp(0)
        expected = toy.gradient(log_pi_y)

        # the sequence form: E over pi(z | y) of grad log pi(z)
        logp = torch.log_softmax(toy.hidden() @ toy.head.t(), -1)
        weight = torch.stack([(toy.log_prob(z, logp) - log_pi_y).detach().exp() for z in right])
        by_sequence = toy.gradient(sum(w * toy.log_prob(z, logp) for w, z in zip(weight, right, strict=True)))

        # the position form, by the kernel: an identity head turns log q into the posterior's logits
        q, reached = posterior_of(toy, logp.detach(), f, y)
        log_q = q.clamp_min(1e-300).log()
        loss, _ = intro_loss(
            toy.hidden(), log_q, Head(toy.head), torch.zeros(len(log_q), dtype=torch.long), reached,
            IntroSpec("exact", clip=None), posterior_head=Head(torch.eye(vocab, dtype=torch.float64)),
        )  # fmt: skip
        by_kernel = toy.gradient(-loss)

        for a, b, c in zip(expected, by_sequence, by_kernel, strict=True):
            assert (a - b).abs().max() < 1e-8
            assert (a - c).abs().max() < 1e-8
            assert a.abs().max() > 1e-3  # not a comparison of zeros


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("read_out", READ_OUTS)
def test_all_candidates_count_by_the_ratio_of_the_token_taken(level, read_out):
    """Rationales of a sampler mu, of which the right ones are kept, and candidates of the policy: with the ratio the
    expected gradient is that of tokens of the policy, after the sampler's prefixes (level token) or its own."""
    toy, kept = Toy(3, 2), [z for z in Toy(3, 2).outcomes if READ_OUTS[read_out](z) == 1]
    logp = torch.log_softmax(toy.hidden() @ toy.head.t(), -1)
    noise = torch.randn(2, *logp.shape, generator=torch.Generator().manual_seed(1), dtype=logp.dtype)
    mu, logq = torch.log_softmax(logp.detach() + noise[0], -1), torch.log_softmax(noise[1], -1)
    rows = [(i, z, t, c) for i, z in enumerate(kept) for t in range(2) for c in range(3)]
    at = torch.tensor([toy.prefixes.index(z[:t]) for _, z, t, _ in rows])
    chosen = torch.tensor([[z[t], c] for _, z, t, c in rows])  # the one taken, and one of the policy
    row_N = torch.tensor([3 * i + c for i, _, _, c in rows])
    drawn = logp.detach()[at, chosen[:, 1]]
    hidden, head = toy.hidden()[at], Head(toy.head)
    correction = Correction(level, cap=1e9)
    uncorrected = (torch.stack([toy.log_prob(z, mu) for _, z, _, _ in rows]) + drawn).exp()  # how often they are drawn
    loss, _ = intro_loss(
        hidden, logq[at], head, chosen[:, 0], uncorrected, IntroSpec(2, clip=1.5),
        posterior_head=Head(torch.eye(3, dtype=torch.float64)), choose=lambda *given: chosen,
        reweigh=reweigh_at_level(
            level, hidden, head, chosen[:, 0],
            lambda logp_C, part: correction.weights(logp_C - mu[at, chosen[:, 0]][part], row_N[part]),
        ),
    )  # fmt: skip
    found = toy.gradient(loss)

    def by_the_formula(of_others: torch.Tensor) -> list[torch.Tensor]:
        taken, beside = (torch.log_softmax(toy.hidden() @ toy.head.t(), -1)[at, ids] for ids in chosen.t())
        factors = [
            (logq[at, ids] - one.detach()).exp().clamp(max=1.5)
            for one, ids in zip((taken, beside), chosen.t(), strict=True)
        ]
        return toy.gradient(-(law * factors[0] * taken + of_others * factors[1] * beside).sum() / 2)

    def tokens(z, t):  # log-probs of z: at t the policy's, elsewhere the sampler's or its own too
        return sum((logp if k == t or level == "sequence" else mu)[toy.prefixes.index(z[:k]), z[k]] for k in range(2))

    law = (torch.stack([tokens(z, t) for _, z, t, _ in rows]).detach() + drawn).exp()
    for a, b in zip(found, by_the_formula(law), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    others = by_the_formula(uncorrected)  # a ratio for the taken token alone
    assert max((a - b).abs().max() for a, b in zip(found, others, strict=True)) > 1e-3
