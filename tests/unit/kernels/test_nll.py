"""The cross-entropy in one walk: against float64 log-softmax, torch's own and the InTRO loss."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.errors import DataError
from ixt_rl.kernels import IntroSpec, intro_loss, nll_loss, selected_logprobs
from ixt_rl.kernels.intro import plain as reference

from .problems import make_problem, relative_error
from .test_logprobs import HEADS


@pytest.mark.parametrize("options", HEADS, ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 2), (7, 16, 64), (37, 24, 301), (40, 8, 2500)], ids=str)
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)], ids=str
)
def test_equals_float64_log_softmax(shape, options, dtype, tolerance):
    p = make_problem(*shape, dtype=dtype, **options)
    loss, stats = nll_loss(p.hidden, p.head, p.tokens, p.token_weights, chunk=10)
    loss.backward()
    p64 = p.to(torch.float64)
    logp64, entropy64 = reference.selected_logprobs(p64.hidden, p64.head, p64.tokens)
    loss64 = -(p64.token_weights * logp64).sum()
    loss64.backward()
    assert loss.dtype == stats.logp.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(loss64.item(), rel=1e-5, abs=1e-6)
    assert torch.allclose(stats.logp.double(), logp64, rtol=1e-5, atol=1e-5)
    assert torch.allclose(stats.entropy.double(), entropy64, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(p.grads(), p64.grads(), strict=True):
        assert mine.dtype == dtype
        assert relative_error(mine, theirs) < tolerance


def test_equals_torchs_cross_entropy_and_top1_is_the_argmax():
    p = make_problem(60, 12, 90)
    logits = p.hidden @ p.weight.t()
    p.tokens[:30] = logits.argmax(1)[:30]
    loss, stats = nll_loss(p.hidden, p.head, p.tokens, torch.full((60,), 1 / 60))
    assert torch.allclose(loss, torch.nn.functional.cross_entropy(logits, p.tokens), atol=1e-6)
    assert torch.equal(stats.top1.bool(), logits.argmax(1) == p.tokens)


def test_is_the_intro_loss_with_one_taken_candidate_and_the_policy_as_posterior():
    p = make_problem(21, 8, 130, bias=True)
    spec = IntroSpec(candidates=1, include_taken=True)
    theirs, stats = intro_loss(p.hidden, p.hidden.detach(), p.head, p.tokens, p.token_weights, spec)
    theirs.backward()
    expected = p.grads()
    mine, found = nll_loss(p.hidden, p.head, p.tokens, p.token_weights)
    mine.backward()
    assert torch.allclose(mine, theirs, rtol=1e-6)
    assert torch.equal(found.logp, stats.logp) and torch.equal(found.entropy, stats.entropy)
    for one, other in zip(p.grads(), expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def test_weights_may_depend_on_the_log_probs_of_the_pass():
    """DFT (arXiv 2508.05629): each token's loss times its probability, held fixed."""
    p = make_problem(15, 8, 50)
    loss, _ = nll_loss(p.hidden, p.head, p.tokens, p.token_weights, reweigh=lambda logp, at: logp.exp(), chunk=4)
    loss.backward()
    mine = p.grads()
    logp, _ = selected_logprobs(p.hidden, p.head, p.tokens)
    expected = -(p.token_weights * logp.detach().exp() * logp).sum()
    expected.backward()
    assert torch.allclose(loss, expected, rtol=1e-5)
    for one, other in zip(mine, p.grads(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_logits_far_apart_and_far_from_the_first_tiles():
    """The exponentials' reference is of the first tile; a logit far above it makes the walk begin anew."""
    p = make_problem(6, 4, 3000)
    with torch.no_grad():
        p.weight[2900:] *= 200
    p.tokens[:3] = 2950
    loss, stats = nll_loss(p.hidden, p.head, p.tokens, p.token_weights)
    loss.backward()
    mine = p.grads()
    p64 = p.to(torch.float64)
    logp64, _ = reference.selected_logprobs(p64.hidden, p64.head, p64.tokens)
    (-(p64.token_weights * logp64).sum()).backward()
    assert torch.allclose(stats.logp.double(), logp64, rtol=1e-5, atol=1e-4)
    for one, other in zip(mine, p64.grads(), strict=True):
        assert relative_error(one, other) < 1e-4


@pytest.mark.parametrize("chunk", [1, 7, None])
def test_chunks_change_nothing(chunk):
    p = make_problem(23, 8, 120)
    nll_loss(p.hidden, p.head, p.tokens, p.token_weights)[0].backward()
    expected = p.grads()
    nll_loss(p.hidden, p.head, p.tokens, p.token_weights, chunk=chunk)[0].backward()
    for one, other in zip(p.grads(), expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_no_tokens_no_gradients_and_a_second_backward():
    p = make_problem(5, 8, 40)
    loss, stats = nll_loss(p.hidden[:0], p.head, p.tokens[:0], p.token_weights[:0])
    loss.backward()
    assert loss == 0 and len(stats.logp) == 0 and p.weight.grad.abs().sum() == 0
    with torch.no_grad():
        value, _ = nll_loss(p.hidden, p.head, p.tokens, p.token_weights)
    assert not value.requires_grad
    loss, _ = nll_loss(p.hidden, p.head, p.tokens, p.token_weights)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_one_product_for_the_logits(monkeypatch):
    """Without a posterior the head is met three times: logits, and the two gradients."""
    products = 0
    from ixt_rl.kernels import head as heads
    from ixt_rl.kernels.intro import gradients

    original = heads.matmul

    def counted(a, b, out, **named):
        nonlocal products
        products += a.shape[0] * a.shape[1] * b.shape[1]
        original(a, b, out, **named)

    monkeypatch.setattr(heads, "matmul", counted)
    monkeypatch.setattr(gradients, "matmul", counted)
    p = make_problem(32, 8, 64)
    nll_loss(p.hidden, p.head, p.tokens, p.token_weights)[0].backward()
    assert products == 3 * 32 * 8 * 64


@pytest.mark.parametrize("change", [{"tokens": torch.tensor([0, 99])}, {"weights": torch.ones(3)}])
def test_what_does_not_fit_is_refused(change):
    p = make_problem(2, 4, 9)
    with pytest.raises(DataError):
        nll_loss(p.hidden, p.head, change.get("tokens", p.tokens), change.get("weights", p.token_weights))


def test_float16_gradients_are_scaled_before_they_are_rounded():
    """As loss scaling needs it: unscaled they are below float16's smallest number."""
    p = make_problem(37, 24, 301, bias=True, dtype=torch.float16)
    p64 = p.to(torch.float64)
    for one in (p, p64):
        one.token_weights = 1e-8 * one.token_weights
    loss, _ = nll_loss(p.hidden, p.head, p.tokens, p.token_weights)
    (2.0**24 * loss).backward()
    logp, _ = reference.selected_logprobs(p64.hidden, p64.head, p64.tokens)
    (2.0**24 * -(p64.token_weights * logp).sum()).backward()
    for mine, theirs in zip(p.grads(), p64.grads(), strict=True):
        assert mine.dtype == torch.float16
        assert relative_error(mine, theirs) < 2e-3
