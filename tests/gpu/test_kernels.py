"""Every mode of the kernels against float64 and autograd on a CPU, by Triton's kernels and by torch's operations."""

from __future__ import annotations

import dataclasses
import gc

import pytest
import torch
from torch import Tensor

from ixt_rl.kernels import Head, IntroSpec, chunks, intro_loss, logprob_chunk, nll_loss, selected_logprobs
from ixt_rl.kernels.intro import plain, tiles, walk
from ixt_rl.kernels.intro.candidate_tokens import invert
from ixt_rl.kernels.preference import dpo_loss, sequence_logprobs
from tests.unit.kernels.problems import Problem, make_problem, relative_error

SPECS = {
    "n=1": IntroSpec(1),
    "n=2": IntroSpec(2),
    "n=5": IntroSpec(5),
    "n=4, policy only, tight clip": IntroSpec(4, include_taken=False, clip=1.2),
    "exact": IntroSpec("exact"),
    "exact, tight clip": IntroSpec("exact", clip=1.2),
}
HEADS = {"plain": {}, "all": {"bias": True, "temperature": 1.4, "softcap": 8.0, "scale": 0.8}}
DTYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1e-2}
"""Of gradients, relative; bfloat16's are rounded to it."""
STATISTICS = ("logp", "logq", "factor_taken", "entropy", "kl", "clipped")


@pytest.fixture(params=["triton", "torch"])
def path(request, monkeypatch, device):
    """By Triton's kernels, or by the torch operations that they stand for."""
    if request.param == "torch":
        for module in (tiles, walk):
            monkeypatch.setattr(module, "triton_for", lambda x: None)
    elif tiles.triton_for(torch.zeros(1, device=device)) is None:
        pytest.skip("Triton's kernels are for CUDA")


@pytest.fixture
def narrow(monkeypatch):
    """Many tiles, blocks and chunks, with ragged last ones, at the size of tests."""
    changed = {"ACCELERATOR_TILE": 64, "CPU_TILE": 64, "ACCELERATOR_BLOCK": 16, "CPU_BLOCK": 16}
    for name, value in {**changed, "ACCELERATOR_GATHERED": 16, "CPU_GATHERED": 16}.items():
        monkeypatch.setattr(chunks, name, value)


def on(p: Problem, device: torch.device) -> Problem:
    """The same numbers there."""

    def leaf(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.detach().to(device).requires_grad_()

    moved = {name: getattr(p, name).to(device) for name in ("posterior_hidden", "tokens", "token_weights")}
    return dataclasses.replace(p, hidden=leaf(p.hidden), weight=leaf(p.weight), bias=leaf(p.bias), **moved)


def check_gradients(p: Problem, p64: Problem, tolerance: float) -> None:
    for mine, theirs in zip(p.grads(), p64.grads(), strict=True):
        assert mine.dtype == p.weight.dtype
        assert relative_error(mine.cpu(), theirs) < tolerance


def check_intro(p: Problem, p64: Problem, spec: IntroSpec, chunk: int | None = None) -> None:
    loss, stats = intro_loss(
        p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, spec,
        generator=torch.Generator().manual_seed(3), chunk=chunk,
    )  # fmt: skip
    (3 * loss).backward()
    candidates = None if stats.candidates is None else stats.candidates.cpu()
    expected, expected_stats = plain.intro_loss(
        p64.hidden, p64.posterior_hidden, p64.head, p64.tokens, p64.token_weights, spec, candidates=candidates
    )
    (3 * expected).backward()
    # Logits are not rounded to bfloat16, whose steps are 2e-2 at these sizes.
    torch.testing.assert_close(loss.detach().double().cpu(), expected.detach(), rtol=1e-4, atol=1e-5)
    for name in STATISTICS:
        mine, theirs = getattr(stats, name), getattr(expected_stats, name)
        torch.testing.assert_close(mine.double().cpu(), theirs, rtol=2e-4, atol=2e-4, msg=name)
    check_gradients(p, p64, TOLERANCE[p.weight.dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("spec", SPECS)
def test_intro_loss(device, path, narrow, spec, head, dtype):
    p = make_problem(37, 24, 301, dtype=dtype, **HEADS[head])
    check_intro(on(p, device), p.to(torch.float64), SPECS[spec], chunk=16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spec", ["n=5", "exact, tight clip"])
def test_intro_loss_in_tiles_as_wide_as_they_are(device, path, spec, dtype):
    p = make_problem(150, 64, 40_003, dtype=dtype)
    check_intro(on(p, device), p.to(torch.float64), SPECS[spec])


@pytest.mark.parametrize("tokens", [0, 1])
@pytest.mark.parametrize("spec", ["n=1", "n=5", "exact"])
def test_no_token_and_one(device, path, narrow, spec, tokens):
    """Where no rationale is kept, gradients are 0 and there."""
    p = make_problem(tokens, 24, 301, bias=True)
    check_intro(on(p, device), p.to(torch.float64), SPECS[spec])
    p = on(p, device)
    nll_loss(p.hidden, p.head, p.tokens, p.token_weights)[0].backward()
    logp, _ = selected_logprobs(p.hidden, p.head, p.tokens)
    (p.token_weights * logp).sum().backward()
    for gradient in p.grads():  # of opposite losses
        assert float(gradient.abs().sum()) < 1e-4


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head", HEADS)
def test_nll_loss(device, path, narrow, head, dtype):
    p = make_problem(37, 24, 301, dtype=dtype, **HEADS[head])
    mine, p64 = on(p, device), p.to(torch.float64)
    loss, stats = nll_loss(
        mine.hidden, mine.head, mine.tokens, mine.token_weights, reweigh=lambda logp, at: (0.1 * logp).exp(), chunk=16
    )
    (3 * loss).backward()
    logp, entropy = plain.selected_logprobs(p64.hidden, p64.head, p64.tokens)
    expected = -(p64.token_weights * (0.1 * logp.detach()).exp() * logp).sum()
    (3 * expected).backward()
    torch.testing.assert_close(loss.detach().double().cpu(), expected.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stats.logp.double().cpu(), logp.detach(), rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(stats.entropy.double().cpu(), entropy.detach(), rtol=2e-4, atol=2e-4)
    most = plain.logits(p64.hidden, p64.head).argmax(1)
    assert torch.equal(stats.top1.cpu().bool(), most == p.tokens)
    check_gradients(mine, p64, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head", HEADS)
def test_selected_logprobs(device, narrow, head, dtype):
    p = make_problem(37, 24, 301, dtype=dtype, **HEADS[head])
    mine, p64 = on(p, device), p.to(torch.float64)
    logp, entropy = selected_logprobs(mine.hidden, mine.head, mine.tokens, entropy=True, chunk=16)
    (logp.sum() + 0.1 * entropy.sum()).backward()
    logp64, entropy64 = plain.selected_logprobs(p64.hidden, p64.head, p64.tokens)
    (logp64.sum() + 0.1 * entropy64.sum()).backward()
    torch.testing.assert_close(logp.detach().double().cpu(), logp64.detach(), rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(entropy.detach().double().cpu(), entropy64.detach(), rtol=2e-4, atol=2e-4)
    check_gradients(mine, p64, TOLERANCE[dtype])
    whole = logprob_chunk(mine.hidden.detach(), mine.head).gather(1, mine.tokens[:, None])[:, 0]
    torch.testing.assert_close(whole, logp.detach(), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dpo_on_pairs(device, narrow, dtype):
    """Four pairs, chosen and rejected in turn, of 5 tokens each."""
    p = make_problem(40, 24, 301, dtype=dtype)
    reference = torch.linspace(-20, -15, 8)

    def loss(one: Problem, logprobs, where: torch.device) -> Tensor:
        logp, _ = logprobs(one.hidden, one.head, one.tokens)
        rows = torch.arange(8, device=where).repeat_interleave(5)
        chosen, rejected = sequence_logprobs(logp, rows, 8).view(-1, 2).unbind(1)
        known = reference.to(where, chosen.dtype).view(-1, 2).unbind(1)
        found, _ = dpo_loss(chosen, rejected, 0.3, *known)
        found.sum().backward()
        return found.detach()

    mine, p64 = on(p, device), p.to(torch.float64)
    found, expected = loss(mine, selected_logprobs, device), loss(p64, plain.selected_logprobs, torch.device("cpu"))
    torch.testing.assert_close(found.double().cpu(), expected, rtol=2e-3, atol=2e-3)
    check_gradients(mine, p64, TOLERANCE[dtype])


def test_float16_inputs(device, path, narrow):
    """Products are float32's: float16's range is too small for gradients on their way."""
    p = make_problem(37, 24, 301, dtype=torch.float16)
    mine, p64 = on(p, device), p.to(torch.float64)
    nll_loss(mine.hidden, mine.head, mine.tokens, mine.token_weights)[0].backward()
    logp, _ = plain.selected_logprobs(p64.hidden, p64.head, p64.tokens)
    (-p64.token_weights * logp).sum().backward()
    check_gradients(mine, p64, 2e-3)


@pytest.mark.parametrize("spec", ["n=5", "exact"])
def test_under_autocast_master_weights_have_float32_gradients(device, path, narrow, spec):
    p = make_problem(37, 24, 301)
    rounded = p.to(torch.bfloat16).to(torch.float64)
    mine = on(p, device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        loss, stats = intro_loss(
            mine.hidden, mine.posterior_hidden, mine.head, mine.tokens, mine.token_weights, SPECS[spec],
            generator=torch.Generator().manual_seed(3),
        )  # fmt: skip
    loss.backward()
    assert loss.dtype == stats.logp.dtype == torch.float32
    logp, _ = plain.selected_logprobs(rounded.hidden, rounded.head, rounded.tokens)
    torch.testing.assert_close(stats.logp.double().cpu(), logp.detach(), rtol=2e-4, atol=2e-4)
    p64 = p.to(torch.float64)
    candidates = None if stats.candidates is None else stats.candidates.cpu()
    plain.intro_loss(
        p64.hidden, p64.posterior_hidden, p64.head, p64.tokens, p64.token_weights, SPECS[spec], candidates=candidates
    )[0].backward()
    check_gradients(mine, p64, 3e-2)


def test_candidates_are_the_quantiles_of_the_policy(device):
    """Against float64 sums over the whole vocabulary; a number next to a border may fall to either side."""
    p = make_problem(64, 16, 40_003)
    mine = on(p, device)
    u = torch.rand(64, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logp = plain.logits(p.hidden.detach().double(), Head(p.weight.detach().double())).log_softmax(-1)
    upto = logp.exp().cumsum(1)
    e = logprob_chunk(mine.hidden, mine.head).exp()
    width = 16_384
    e = torch.nn.functional.pad(e, (0, 3 * width - e.shape[1])).unflatten(1, (3, width)).transpose(0, 1)
    found = invert(u.to(device), e, e.sum(2).double().t()).cpu()
    away = torch.minimum((upto.gather(1, found) - u).abs(), (u - (upto - logp.exp()).gather(1, found)).abs())
    right = torch.searchsorted(upto, u, right=True) == found
    assert right.float().mean() > 0.95
    assert away[~right].numel() == 0 or away[~right].max() < 1e-5


def test_a_seed_repeats_on_the_device(device):
    p = on(make_problem(50, 16, 301), device)

    def drawn(seed: int) -> Tensor:
        generator = torch.Generator(device=device).manual_seed(seed)
        args = (p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec(5))
        return intro_loss(*args, generator=generator)[1].candidates

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("kernel", ["nll", "intro", "selected"])
def test_no_tokens_by_vocabulary_tensor_is_made_and_memory_is_given_back(device, memory, kernel):
    vocab, dim = 65_536, 64

    def run(tokens: int) -> int:
        """Peak of loss and gradients."""
        hidden, weight = (torch.randn(n, dim, device=device).requires_grad_() for n in (tokens, vocab))
        ids, ones = torch.zeros(tokens, dtype=torch.long, device=device), torch.ones(tokens, device=device)
        before, _ = memory()
        if kernel == "selected":
            loss = selected_logprobs(hidden, Head(weight), ids)[0].sum()
        elif kernel == "nll":
            loss = nll_loss(hidden, Head(weight), ids, ones)[0]
        else:
            loss = intro_loss(hidden, hidden.detach(), Head(weight), ids, ones, IntroSpec(5))[0]
        loss.backward()
        return memory()[1] - before

    run(16)  # the libraries' own workspaces
    gc.collect()
    before, _ = memory()
    assert run(12_288) < 2 * 2**30  # [tokens, vocabulary] in float32: 3 GiB; plainly it is there twice
    gc.collect()
    assert memory()[0] == before
