"""Divergences as factors of the exact walk: value and gradient against autograd of the divergence itself, float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ixt_rl.errors import ConfigError
from ixt_rl.kernels import IntroSpec, intro_loss
from ixt_rl.kernels.divergence import Divergence
from ixt_rl.kernels.intro.plain import logits

from .problems import make_problem, relative_error

EXACT = IntroSpec("exact", clip=None)
CASES = [Divergence("forward_kl"), Divergence("reverse_kl"), *(Divergence("jsd", beta) for beta in (0.1, 0.5, 0.9))]
HEADS = [{}, {"bias": True, "temperature": 0.7, "softcap": 5.0, "scale": 1.3}]


def by_hand(divergence: Divergence, logp: torch.Tensor, logq: torch.Tensor) -> torch.Tensor:
    """(N,) the definition, from probabilities."""
    p, q = logp.exp(), logq.exp()

    def kl(a, b):
        return (a * (a / b).log()).sum(-1)

    if divergence.name == "forward_kl":
        return kl(q, p)
    if divergence.name == "reverse_kl":
        return kl(p, q)
    m = divergence.beta * q + (1 - divergence.beta) * p
    return divergence.beta * kl(q, m) + (1 - divergence.beta) * kl(p, m)


def walked(p, divergence: Divergence, chunk: int | None = None):
    """(value of each position, loss) of the kernel, with the divergence's factor."""
    own = divergence.name == "forward_kl"
    loss, stats = intro_loss(
        p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, EXACT,
        factor=None if own else divergence.factor, measure=None if own else divergence.terms, chunk=chunk,
    )  # fmt: skip
    return (stats.kl if own else stats.measured), loss


@pytest.mark.parametrize("head", HEADS, ids=["plain", "all"])
@pytest.mark.parametrize("divergence", CASES, ids=str)
def test_value_and_gradient_are_those_of_the_divergence(divergence, head):
    p = make_problem(9, 12, 301, dtype=torch.float64, shift=1.0, **head)
    value, loss = walked(p, divergence, chunk=4)
    loss.backward()
    gradients = p.grads()
    logp = logits(p.hidden, p.head).log_softmax(-1)
    with torch.no_grad():
        logq = logits(p.posterior_hidden, p.head).log_softmax(-1)
    expected = by_hand(divergence, logp, logq)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-9, atol=1e-12)
    (p.token_weights * expected).sum().backward()
    for mine, theirs in zip(gradients, p.grads(), strict=True):
        assert theirs.abs().max() > 1e-3
        assert relative_error(mine, theirs) < 1e-9


def test_the_jensen_shannon_divergence_goes_to_both_kls():
    generator = torch.Generator().manual_seed(3)
    logp, logq = (torch.randn(5, 40, generator=generator, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    for beta, scale, limit in ((1e-5, 1e-5, "forward_kl"), (1 - 1e-5, 1e-5, "reverse_kl")):
        near = Divergence("jsd", beta).terms(logp, logq).sum(-1) / scale
        torch.testing.assert_close(near, Divergence(limit).terms(logp, logq).sum(-1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["jsd", "reverse_kl", "forward_kl"])
def test_entries_that_have_no_mass_left_in_float32_stay_finite(name):
    """Half of the vocabulary 200 nats down, under the policy, the teacher, or both."""
    p = make_problem(6, 8, 130)
    with torch.no_grad():
        p.weight[40:] *= 0
        p.hidden *= 30
        p.posterior_hidden *= -30
    value, loss = walked(p, Divergence(name))
    loss.backward()
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in p.grads())
    if name == "jsd":
        assert (value > -1e-6).all()
        assert (value < 0.694).all()  # log 2


@pytest.mark.parametrize("divergence", CASES, ids=str)
def test_equal_distributions_have_no_divergence_and_no_gradient(divergence):
    p = make_problem(5, 8, 90, dtype=torch.float64, shift=0.0)
    p.posterior_hidden = p.hidden.detach()
    value, loss = walked(p, divergence)
    loss.backward()
    assert value.abs().max() < 1e-12
    assert max(float(gradient.abs().max()) for gradient in p.grads()) < 1e-12


def test_what_cannot_be_is_refused():
    for wrong in ({"beta": 0.0}, {"beta": 1.0}, {"name": "kl"}):
        with pytest.raises(ConfigError):
            Divergence(**wrong)
    p = make_problem(3, 8, 30)
    for spec, factor in ((EXACT, None), (IntroSpec(2), F.relu)):
        with pytest.raises(ConfigError, match="measure"):
            intro_loss(
                p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, spec,
                factor=factor and (lambda logp, logq: logp), measure=lambda logp, logq: logp,
            )  # fmt: skip
