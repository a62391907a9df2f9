"""Candidates follow the policy, and the sampled loss is an unbiased estimate of the exact one."""

from __future__ import annotations

import torch

from ixt_rl.kernels import Head, IntroSpec, intro_loss, logprob_chunk
from ixt_rl.kernels.intro.candidate_tokens import invert

from .problems import make_problem


def chi_square_p_value(counts, probs):
    """P(chi-square with k-1 degrees >= observed): the regularised upper incomplete gamma function."""
    expected = probs.double() * counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    degrees = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return torch.special.gammaincc(degrees, statistic / 2).item()


def test_candidates_follow_the_policy():
    """Chi-square over 40k draws and 100 tokens in two tiles. A right sampler fails at p < 1e-6, one seed in a
    million; the seed is fixed. A sampler of temperature 1.1 is rejected, so the test can fail."""
    n = 10_000
    head = Head(torch.randn(100, 4, generator=torch.Generator().manual_seed(0)) * 0.4, temperature=0.9)
    hidden = torch.randn(1, 4, generator=torch.Generator().manual_seed(1)).expand(n, 4)
    tokens, weights = torch.zeros(n, dtype=torch.long), torch.ones(n)
    generator = torch.Generator().manual_seed(2)
    _, stats = intro_loss(hidden, hidden, head, tokens, weights, IntroSpec(5), generator=generator)
    assert torch.equal(stats.candidates[:, 0], tokens)
    counts = torch.bincount(stats.candidates[:, 1:].flatten(), minlength=100)
    probs = logprob_chunk(hidden[:1], head)[0].exp()
    assert (probs * 4 * n).min() > 20  # cells large enough for the chi-square law
    assert chi_square_p_value(counts, probs) > 1e-6
    warm = logprob_chunk(hidden[:1], Head(head.weight, temperature=1.1))[0].exp()
    assert chi_square_p_value(counts, warm) < 1e-6


def test_columns_are_independent_draws():
    """Joint table of two drawn columns against the product law; same error rate, 1e-6."""
    n = 20_000
    head = Head(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)) * 0.5)
    hidden = torch.ones(n, 3)
    spec = IntroSpec(2, include_taken=False)
    _, stats = intro_loss(
        hidden, hidden, head, torch.zeros(n, dtype=torch.long), torch.ones(n), spec,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    joint = torch.bincount(stats.candidates[:, 0] * 5 + stats.candidates[:, 1], minlength=25)
    p = logprob_chunk(hidden[:1], head)[0].exp()
    assert chi_square_p_value(joint, torch.outer(p, p).flatten()) > 1e-6


def test_inverse_at_hand_made_quantiles():
    """Probabilities 0.1, 0.2, 0.3, 0.4 in tiles of 2; the ends of the unit interval, and an impossible token."""
    u = torch.tensor([[0.0, 0.05, 0.15, 0.29, 0.31, 0.59, 0.61, 1 - 1e-12]], dtype=torch.float64)
    e = 7 * torch.tensor([[[0.1, 0.2]], [[0.3, 0.4]], [[1e-45, 0.0]]])  # any factor may be taken out of a row
    ids = invert(u, e, e.double().sum(2).t())
    assert ids.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]


def test_seed_repeats_and_differs():
    p = make_problem(30, 8, 200)

    def draw(seed):
        g = torch.Generator().manual_seed(seed)
        args = (p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec(5))
        return intro_loss(*args, generator=g)[1].candidates

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_sampled_gradient_is_unbiased():
    """Drawn from the policy alone, the gradient's mean over 40k positions equals the exact one. Each of the 6
    coordinates may be off by 5.5 standard errors: a right kernel fails with probability 6 * 3.8e-8 = 2.3e-7."""
    n, dim, clip = 40_000, 6, 1.5
    g = torch.Generator().manual_seed(0)
    head = Head(torch.randn(90, dim, generator=g) * 0.7)
    hidden = torch.randn(1, dim, generator=g)
    posterior = hidden + 0.5 * torch.randn(1, dim, generator=g)
    token = torch.zeros(n, dtype=torch.long)

    def gradients(spec, rows):
        h = hidden.repeat(rows, 1).requires_grad_()
        loss, stats = intro_loss(
            h, posterior.expand(rows, dim), head, token[:rows], torch.ones(rows), spec, generator=g
        )
        loss.backward()
        return h.grad.double(), stats

    sampled, stats = gradients(IntroSpec(2, include_taken=False, clip=clip), n)
    exact, exact_stats = gradients(IntroSpec("exact", clip=clip), 1)
    assert exact_stats.clipped[0] > 0  # the clip is at work, in both
    error = (sampled.mean(0) - exact[0]) / (sampled.std(0) / n**0.5)
    assert error.abs().max() < 5.5
    # and so are the logged statistics: mean factor and clipped share
    for name in ("factor_sampled", "clipped"):
        mine, theirs = getattr(stats, name).double(), getattr(exact_stats, name).double()
        assert abs(mine.mean() - theirs[0]) < 5.5 * mine.std() / n**0.5
