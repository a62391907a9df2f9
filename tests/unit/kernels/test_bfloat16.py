"""bfloat16 products: what is rounded (factors, gradients) and what is not (logits and all that comes of them)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ixt_rl.kernels import Head, IntroSpec, head, intro_loss, logprob_chunk, selected_logprobs
from tests.unit.kernels.problems import make_problem

VOCAB = 2300  # three tiles
SPECS = [IntroSpec(5), IntroSpec("exact")]


@pytest.fixture(params=[True, False], ids=["bf16-units", "no-units"])
def units(request, monkeypatch):
    monkeypatch.setattr(head, "cpu_multiplies_bfloat16", lambda: request.param)
    return request.param


def losses(p, spec, dtype):
    """Loss, statistics and gradients of a problem in `dtype`, and in float64 on the very same numbers."""
    found = []
    for one in (p.to(dtype), p.to(torch.float64)):
        generator = torch.Generator().manual_seed(5)
        loss, stats = intro_loss(
            one.hidden, one.posterior_hidden, one.head, one.tokens, one.token_weights, spec, generator=generator
        )
        loss.backward()
        found.append((loss.detach(), stats, one.grads()))
    return found


@pytest.mark.parametrize("spec", SPECS, ids=["n=5", "exact"])
def test_statistics_are_those_of_unrounded_logits_and_gradients_are_near(spec, units):
    p = make_problem(40, 64, VOCAB, dtype=torch.bfloat16, bias=True)
    (loss, stats, grads), (loss64, stats64, grads64) = losses(p, spec, torch.bfloat16)
    assert loss.dtype == stats.logp.dtype == torch.float32
    if spec.exact:  # a draw near a boundary may fall to either side
        assert loss.double() == pytest.approx(loss64.item(), rel=1e-4)
    for name in ("logp", "logq", "factor_taken", "entropy", "kl"):
        # a logit rounded to bfloat16 would be off by up to 2e-2 here
        torch.testing.assert_close(getattr(stats, name).double(), getattr(stats64, name), rtol=2e-4, atol=2e-4)
    if not spec.exact and not torch.equal(stats.candidates, stats64.candidates):
        pytest.skip("rounding drew another candidate")
    for mine, theirs in zip(grads, grads64, strict=True):
        assert (mine.double() - theirs).norm() < 8e-3 * theirs.norm()


@pytest.mark.parametrize("spec", [IntroSpec(1), IntroSpec("exact")], ids=["n=1", "exact"])
def test_what_nearly_cancels_is_subtracted_before_it_is_rounded(spec, units):
    """A policy that is sure of its tokens: p - 1 is 1e-3 for some, and 2^-9 of p would be twice that."""
    p = make_problem(16, 32, VOCAB, dtype=torch.bfloat16, shift=0.0)
    with torch.no_grad():
        p.weight[p.tokens] += (p.hidden.float() * 0.42).to(torch.bfloat16)
    (_, stats, grads), (_, _, grads64) = losses(p, spec, torch.bfloat16)
    assert stats.logp.median() > -0.1
    if spec.exact:  # the posterior is the policy: nothing is left to learn but rounding
        assert grads[0].abs().max() < 1e-5
        return
    for mine, theirs in zip(grads, grads64, strict=True):
        rows = theirs.norm(dim=1) > 1e-4 * theirs.norm(dim=1).max()
        error = (mine.double() - theirs).norm(dim=1) / theirs.norm(dim=1)
        assert error[rows].max() < 2e-2


def test_selected_logprobs_and_their_gradient(units):
    p = make_problem(40, 64, VOCAB, dtype=torch.bfloat16, bias=True)
    found = []
    for one in (p.to(torch.bfloat16), p.to(torch.float64)):
        logp, entropy = selected_logprobs(one.hidden, one.head, one.tokens, entropy=True)
        (logp.sum() + 0.1 * entropy.sum()).backward()
        found.append((logp.detach(), entropy.detach(), one.grads()))
    (logp, entropy, grads), (logp64, entropy64, grads64) = found
    assert logp.dtype == torch.float32
    torch.testing.assert_close(logp.double(), logp64, rtol=0, atol=1e-4)
    torch.testing.assert_close(entropy.double(), entropy64, rtol=0, atol=1e-4)
    torch.testing.assert_close(logprob_chunk(p.hidden, p.head).double().gather(1, p.tokens[:, None])[:, 0], logp64,
                               rtol=0, atol=1e-4)  # fmt: skip
    for mine, theirs in zip(grads, grads64, strict=True):
        assert (mine.double() - theirs).norm() < 8e-3 * theirs.norm()


def test_float32_is_the_same_to_the_bit_with_and_without_units(monkeypatch):
    p = make_problem(40, 64, VOCAB)
    found = []
    for there in (True, False):
        monkeypatch.setattr(head, "cpu_multiplies_bfloat16", lambda there=there: there)
        one = p.to(torch.float32)
        generator = torch.Generator().manual_seed(5)
        loss, _ = intro_loss(
            one.hidden, one.posterior_hidden, one.head, one.tokens, one.token_weights, SPECS[0], generator=generator
        )
        loss.backward()
        found.append([loss.detach(), *one.grads()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_permission_to_round_ends_with_the_last_that_asked(monkeypatch):
    monkeypatch.setattr(head, "cpu_multiplies_bfloat16", lambda: True)
    setting, where = torch.backends.mkldnn.matmul, torch.empty(1)
    before = setting.fp32_precision
    with head.float32_results(torch.float32, where):
        assert setting.fp32_precision == before
    first = head.float32_results(torch.bfloat16, where)
    second = head.float32_results(torch.bfloat16, where)
    first.__enter__()
    assert setting.fp32_precision == "bf16"
    with ThreadPoolExecutor(1) as pool:
        pool.submit(second.__enter__).result()
        first.__exit__(None, None, None)  # not in the order in which they began
        assert setting.fp32_precision == "bf16"
        pool.submit(second.__exit__, None, None, None).result()
    assert setting.fp32_precision == before
    with pytest.raises(ZeroDivisionError), head.float32_results(torch.bfloat16, where):
        _ = 1 / 0
    assert setting.fp32_precision == before


def test_a_float32_head_under_autocast_gets_bfloat16_products(units):
    p = make_problem(24, 32, VOCAB)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logp, _ = selected_logprobs(p.hidden, Head(p.weight), p.tokens)
    logp.sum().backward()
    assert p.weight.grad.dtype == p.hidden.grad.dtype == torch.float32
    rounded = p.to(torch.bfloat16).to(torch.float64)
    exact, _ = selected_logprobs(rounded.hidden, Head(rounded.weight), p.tokens)
    torch.testing.assert_close(logp.double(), exact, rtol=0, atol=1e-4)
