"""The fused InTRO loss: against the float64 plain version, closed forms, brute force and finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels import Head, IntroSpec, intro_loss
from ixt_rl.kernels.intro import plain as reference

from .problems import make_problem, relative_error

SPECS = {
    "n=5": IntroSpec(5),
    "n=1": IntroSpec(1),
    "n=4, policy only, tight clip": IntroSpec(4, include_taken=False, clip=1.2),
    "n=3, no clip": IntroSpec(3, clip=None),
    "exact": IntroSpec("exact"),
    "exact, tight clip": IntroSpec("exact", clip=1.2),
    "exact, no clip": IntroSpec("exact", clip=None),
}
HEADS = {
    "plain": {},
    "bias, tempered": {"bias": True, "temperature": 0.7},
    "soft-capped, scaled": {"softcap": 5.0, "scale": 1.3},
    "all": {"bias": True, "temperature": 1.4, "softcap": 8.0, "scale": 0.8},
}
SHAPES = [(1, 3, 2), (7, 16, 64), (37, 24, 301)]
STATS = ("logp", "logq", "factor_taken", "factor_sampled", "clipped", "entropy", "kl")


def check_against_reference(p, spec, tolerance, *, posterior=None, posterior64=None, chunk=16):
    g = torch.Generator().manual_seed(3)
    loss, stats = intro_loss(
        p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, spec,
        posterior_head=posterior, generator=g, chunk=chunk,
    )  # fmt: skip
    (3 * loss).backward()
    p64 = p.to(torch.float64)
    expected, expected_stats = reference.intro_loss(
        p64.hidden, p64.posterior_hidden, p64.head, p64.tokens, p64.token_weights, spec,
        posterior_head=posterior64, candidates=stats.candidates,
    )  # fmt: skip
    (3 * expected).backward()
    assert relative_error(loss.detach(), expected.detach()) < tolerance
    for mine, theirs in zip(p.grads(), p64.grads(), strict=True):
        assert mine.dtype == p.weight.dtype
        assert relative_error(mine, theirs) < tolerance
    for name in STATS:
        mine, theirs = getattr(stats, name), getattr(expected_stats, name)
        assert mine.dtype == torch.float32 and not mine.requires_grad
        if name == "factor_sampled" and spec.candidates == 1:
            assert mine.isnan().all()
        else:
            assert torch.allclose(mine.double(), theirs, rtol=10 * tolerance, atol=tolerance), name


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_float64_reference(shape, spec, head):
    # A posterior well away from the policy: for one token of two, p - q would cancel float32's digits.
    check_against_reference(make_problem(*shape, shift=2.0, **HEADS[head]), SPECS[spec], 1e-5)


@pytest.mark.parametrize("spec", SPECS)
def test_bfloat16_inputs_keep_float32_accuracy_in_the_statistics(spec):
    """Inputs are bf16; logits, factors and sums are not rounded to it. Only the returned gradients are."""
    p = make_problem(37, 24, 301, bias=True, dtype=torch.bfloat16)
    check_against_reference(p, SPECS[spec], 1e-2)


@pytest.mark.parametrize("spec", ["n=5", "exact, tight clip"])
def test_posterior_with_its_own_head(spec):
    p = make_problem(20, 16, 150)
    own = make_problem(20, 16, 150, bias=True, seed=9, temperature=0.8)
    check_against_reference(p, SPECS[spec], 1e-5, posterior=own.head, posterior64=own.to(torch.float64).head)
    assert own.weight.grad is None and own.bias.grad is None


@pytest.mark.parametrize("spec", ["n=5", "exact"])
def test_tied_head_sums_both_gradients(spec):
    p = make_problem(12, 8, 90)
    ids = torch.arange(12)

    def gradient(loss_fn, weight):
        hidden = torch.tanh(weight[ids])
        loss = loss_fn(hidden, hidden.detach() * 0.9, Head(weight))
        return torch.autograd.grad(loss, weight)[0]

    candidates = None if spec == "exact" else torch.randint(90, (12, 5))
    choose = None if spec == "exact" else lambda logp, taken, spec, g: candidates
    mine = gradient(
        lambda h, hq, head: intro_loss(h, hq, head, p.tokens, p.token_weights, SPECS[spec], choose=choose)[0],
        p.weight,
    )
    w64 = p.weight.detach().double().requires_grad_()
    theirs = gradient(
        lambda h, hq, head: reference.intro_loss(
            h, hq, head, p.tokens, p.token_weights.double(), SPECS[spec], candidates=candidates
        )[0],
        w64,
    )
    assert relative_error(mine, theirs) < 1e-5


@pytest.mark.parametrize("spec", SPECS)
def test_results_do_not_depend_on_chunks(spec):
    def run(chunk):
        p = make_problem(37, 16, 301, bias=True)
        g = torch.Generator().manual_seed(5)
        loss, stats = intro_loss(
            p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, SPECS[spec], generator=g, chunk=chunk
        )
        loss.backward()
        return loss.detach(), stats, p.grads()

    loss, stats, grads = run(None)
    for chunk in (1, 5, 36, 37, 1000):
        other_loss, other_stats, other_grads = run(chunk)
        if stats.candidates is not None:
            assert torch.equal(stats.candidates, other_stats.candidates)
        assert torch.allclose(loss, other_loss, rtol=1e-5)
        for a, b in zip(grads, other_grads, strict=True):
            assert relative_error(a, b) < 1e-5


FAR = {
    "first tile far below": (0, 64, -120.0),
    "last tile far above": (256, 301, 120.0),
    "all shifted": (0, 301, -90.0),
}


@pytest.mark.parametrize("where", FAR)
@pytest.mark.parametrize("spec", ["n=5", "exact"])
def test_logits_far_from_those_of_the_first_tile(where, spec):
    """Exponentials are taken relative to the first tile's logits; where that overflows, to the largest. Logits of 120
    are exact to 8e-6 in float32, whence the tolerance."""
    p = make_problem(23, 16, 301, bias=True)
    first, last, shift = FAR[where]
    with torch.no_grad():
        p.bias[first:last] += shift
    check_against_reference(p, SPECS[spec], 1e-4)


def test_n_1_is_weighted_log_likelihood_of_the_taken_token():
    """n=1 with the taken token: d(-log p(z))/dh = W^T (p - 1_z), times the factor q(z)/p(z)."""
    p = make_problem(9, 8, 70)
    loss, stats = intro_loss(p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec(1, clip=None))
    loss.backward()
    with torch.no_grad():
        w = p.weight.double()
        prob = torch.softmax(p.hidden.double() @ w.t(), -1)
        posterior = torch.softmax(p.posterior_hidden.double() @ w.t(), -1)
        pick = torch.arange(9), p.tokens
        factor = p.token_weights * posterior[pick] / prob[pick]
        assert relative_error(loss, -(factor * prob[pick].log()).sum()) < 1e-5
        prob[pick] -= 1
        assert relative_error(p.hidden.grad, (factor[:, None] * prob) @ w) < 1e-5
    assert torch.equal(stats.candidates[:, 0], p.tokens)


def test_exact_with_clip_by_brute_force():
    """-sum_v min(q(v), C p(v)) log p(v), one term at a time in plain Python."""
    p = make_problem(4, 3, 6, shift=2.0)
    clip = 1.5
    loss, stats = intro_loss(
        p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec("exact", clip=clip)
    )
    total, n_clipped = 0.0, 0
    for t in range(4):
        z = [sum(h * w for h, w in zip(p.hidden[t].tolist(), row, strict=True)) for row in p.weight.tolist()]
        zq = [sum(h * w for h, w in zip(p.posterior_hidden[t].tolist(), row, strict=True)) for row in p.weight.tolist()]
        prob = [math.exp(x) / sum(map(math.exp, z)) for x in z]
        post = [math.exp(x) / sum(map(math.exp, zq)) for x in zq]
        terms = [min(b, clip * a) * math.log(a) for a, b in zip(prob, post, strict=True)]
        total -= p.token_weights[t].item() * sum(terms)
        over = [a for a, b in zip(prob, post, strict=True) if b > clip * a]
        n_clipped += len(over)
        assert stats.clipped[t].item() == pytest.approx(sum(over), abs=1e-5)
    assert n_clipped > 0
    assert loss.item() == pytest.approx(total, rel=1e-5)


class Anew(torch.autograd.Function):
    """Calls the loss again in each backward: gradcheck runs backward twice, the loss allows it once."""

    @staticmethod
    def forward(ctx, loss, *leaves):
        ctx.loss = loss
        ctx.save_for_backward(*leaves)
        return loss(*leaves)

    @staticmethod
    def backward(ctx, grad):
        leaves = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            loss = ctx.loss(*leaves)
        return None, *torch.autograd.grad(loss, leaves, grad)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("exact", [False, True])
def test_gradcheck(head, exact):
    """Finite differences in float64. The factor depends on the posterior alone: held fixed, it must not move."""
    p = make_problem(5, 3, 7, **HEADS[head]).to(torch.float64)
    posterior = make_problem(5, 3, 7, seed=4).to(torch.float64).head

    def three(logp, taken, spec, generator):
        return (taken[:, None] + torch.tensor([0, 2, 2])) % 7

    def loss(hidden, weight, bias=None):
        return intro_loss(
            hidden, p.posterior_hidden, Head(weight, bias, **p.options), p.tokens, p.token_weights,
            IntroSpec("exact", clip=None) if exact else IntroSpec(3),
            posterior_head=posterior,
            choose=None if exact else three,
            factor=None if exact else lambda logp, logq: logq.exp(),
            chunk=2,
        )[0]  # fmt: skip

    assert torch.autograd.gradcheck(lambda *leaves: Anew.apply(loss, *leaves), p.leaves)


@pytest.mark.parametrize("exact", [False, True])
def test_factor_hook(exact):
    """A tempered ratio (q/p)^0.5 in place of the clipped one, in both modes."""
    p = make_problem(11, 8, 100)
    spec = IntroSpec("exact" if exact else 4)

    def root(logp, logq):
        assert not logp.requires_grad
        return (0.5 * (logq - logp)).exp()

    loss, stats = intro_loss(p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, spec, factor=root)
    loss.backward()
    p64 = p.to(torch.float64)
    expected, _ = reference.intro_loss(
        p64.hidden, p64.posterior_hidden, p64.head, p64.tokens, p64.token_weights, spec,
        candidates=stats.candidates, factor=root,
    )  # fmt: skip
    expected.backward()
    assert relative_error(loss.detach(), expected.detach()) < 1e-5
    for mine, theirs in zip(p.grads(), p64.grads(), strict=True):
        assert relative_error(mine, theirs) < 1e-5


@pytest.mark.parametrize("exact", [False, True])
def test_a_factor_of_one_column_counts_for_all_tokens_and_other_shapes_are_refused(exact):
    spec, results = IntroSpec("exact" if exact else 4), []
    for width in (1, None):
        p = make_problem(11, 8, 100)

        def by_position(logp, logq, at, ids, width=width):
            column = (1.0 + torch.arange(11)[at])[:, None]
            return column.expand(-1, width or logp.shape[1])

        generator = torch.Generator().manual_seed(0)
        loss, _ = intro_loss(
            p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, spec, factor_at=by_position,
            generator=generator, chunk=4,
        )  # fmt: skip
        loss.backward()
        results.append((loss.detach(), p.grads()))
    assert results[0][0] == results[1][0]
    for one, all_of_them in zip(results[0][1], results[1][1], strict=True):
        assert torch.equal(one, all_of_them)
    for wrong in (lambda logp, logq: logp[:, 0], lambda logp, logq: logp.new_ones(())):
        with pytest.raises(DataError, match=r"it weighs \d+ tokens at each of \d+ positions"):
            intro_loss(p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, spec, factor=wrong)


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("exact", [True, False])
def test_factor_at_is_told_positions_and_tokens(exact, chunk):
    """A factor that is a table of position and token: the loss written out, with the candidates that were drawn."""
    p = make_problem(19, 16, 301)
    table = torch.rand(19, 301, generator=torch.Generator().manual_seed(3))
    spec = IntroSpec("exact" if exact else 4)

    def factor_at(logp, logq, at, ids):
        return table[at].gather(1, ids.expand(len(logp), -1))

    loss, stats = intro_loss(
        p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, spec, factor_at=factor_at, chunk=chunk
    )
    loss.backward()
    grads = p.grads()
    logp = torch.log_softmax(reference.logits(p.hidden, p.head), dim=-1)
    if exact:
        per_token = (logp.detach().exp() * table * logp).sum(1)
    else:
        per_token = (table.gather(1, stats.candidates) * logp.gather(1, stats.candidates)).mean(1)
    expected = -(p.token_weights * per_token).sum()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert all(relative_error(a, b) < 1e-5 for a, b in zip(grads, p.grads(), strict=True))
    torch.testing.assert_close(stats.factor_taken, table.gather(1, p.tokens[:, None])[:, 0])
    with pytest.raises(ConfigError, match="one of them"):
        intro_loss(
            p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, spec, factor_at=factor_at,
            factor=lambda logp, logq: logq,
        )  # fmt: skip


def test_choose_hook_sees_normalised_log_probs_and_decides_the_ids():
    p = make_problem(11, 8, 100)

    def top(logp, taken, spec, generator):
        assert torch.allclose(logp.exp().sum(-1), torch.ones(len(taken)), atol=1e-5)
        return torch.cat([taken[:, None], logp.topk(spec.candidates - 1).indices], 1)

    _, stats = intro_loss(
        p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec(3), choose=top, chunk=4
    )
    expected = (p.hidden @ p.weight.t()).topk(2).indices
    assert torch.equal(stats.candidates, torch.cat([p.tokens[:, None], expected], 1))


@pytest.mark.parametrize("spec", ["n=5", "exact"])
def test_no_tokens_gives_zero_loss_and_zero_gradients(spec):
    p = make_problem(0, 8, 100, bias=True)
    loss, stats = intro_loss(p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, SPECS[spec])
    loss.backward()
    assert loss.item() == 0 and len(stats.logp) == 0
    assert all(not g.any() for g in p.grads())


def test_frozen_head_and_no_grad_do_no_gradient_work(monkeypatch):
    """Counts matrix products: 4 with everything trained, 3 with a frozen head, 2 without grad."""
    counted = []
    for name in ("mm", "addmm_"):
        owner = torch if name == "mm" else torch.Tensor
        original = getattr(owner, name)

        def counting(*args, original=original, **kwargs):
            rows = args[0].shape[0] * args[1].shape[-1] if len(args) == 2 else args[0].numel()
            counted.append(rows)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)
    p = make_problem(8, 8, 64)

    def products(no_grad=False):
        counted.clear()
        with torch.set_grad_enabled(not no_grad):
            intro_loss(p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec(3))
        return len(counted)

    assert products() == 4
    assert products(no_grad=True) == 2
    p.weight.requires_grad_(False)
    assert products() == 3


def test_second_backward_is_refused():
    p = make_problem(3, 4, 10)
    loss, _ = intro_loss(p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec(2))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_autocast_uses_its_dtype_and_returns_the_leaves_own():
    p = make_problem(9, 16, 100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, stats = intro_loss(
            p.hidden.bfloat16(), p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec("exact")
        )
    loss.backward()
    assert stats.logp.dtype == torch.float32 and p.weight.grad.dtype == torch.float32
    rounded = make_problem(9, 16, 100)
    with torch.no_grad():
        for x in (rounded.hidden, rounded.weight, rounded.posterior_hidden):
            x.copy_(x.bfloat16())
    expected, _ = reference.intro_loss(
        rounded.hidden, rounded.posterior_hidden, rounded.head, p.tokens, p.token_weights, IntroSpec("exact")
    )
    assert relative_error(loss.detach(), expected.detach()) < 1e-5


def test_bad_input_is_refused():
    p = make_problem(3, 4, 10)
    args = (p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights)
    with pytest.raises(ConfigError, match="candidates=0"):
        IntroSpec(0)
    with pytest.raises(ConfigError, match="clip=-1"):
        IntroSpec(5, clip=-1)
    with pytest.raises(ConfigError, match="temperature=0"):
        Head(p.weight, temperature=0)
    with pytest.raises(ConfigError, match="exact"):
        intro_loss(*args, IntroSpec("exact"), choose=lambda *a: None)
    with pytest.raises(DataError, match="-100"):
        intro_loss(*args[:3], torch.tensor([1, -100, 2]), p.token_weights, IntroSpec(5))
    with pytest.raises(DataError, match="token_weights"):
        intro_loss(*args[:4], p.token_weights[:2], IntroSpec(5))
    with pytest.raises(DataError, match="choose returned"):
        intro_loss(*args, IntroSpec(5), choose=lambda logp, taken, spec, g: taken[:, None])


@pytest.mark.parametrize("candidates", [3, "exact"])
@pytest.mark.parametrize("chunk", [1, 5, 20])
def test_reweigh_multiplies_the_weights_by_a_function_of_this_pass(candidates, chunk):
    """As weights multiplied beforehand by the ratio, taken from a pass of its own."""
    p, spec = make_problem(20, 8, 150), IntroSpec(candidates)
    sampled = torch.randn(20, generator=torch.Generator().manual_seed(4)) - 5

    def run(weights, **options):
        generator = torch.Generator().manual_seed(0)
        args = (p.hidden, p.posterior_hidden, p.head, p.tokens, weights, spec)
        loss, stats = intro_loss(*args, generator=generator, **options)
        loss.backward()
        return loss.detach(), *p.grads(), stats

    *_, stats = run(p.token_weights)
    ratio = (stats.logp - sampled).exp().clamp(max=2)
    assert 0 < (ratio == 2).sum() < 20
    given = p.token_weights.clone()
    *mine, _ = run(p.token_weights, reweigh=lambda logp, rows: (logp - sampled[rows]).exp().clamp(max=2), chunk=chunk)
    *expected, _ = run(p.token_weights * ratio)
    assert torch.equal(p.token_weights, given)
    for a, b in zip(mine, expected, strict=True):
        if b is not None:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_log_probs_near_0_do_not_have_the_rounding_of_their_logits():
    """Those of some 100 are rounded to 8e-6."""
    p = make_problem(64, 24, 301, shift=0.1)
    with torch.no_grad():
        p.hidden.mul_(12)
        logits = p.hidden @ p.weight.t()
        p.tokens.copy_(logits.argmax(1))
        _, stats = intro_loss(p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec(3))
        p64 = p.to(torch.float64)
        expected = torch.log_softmax(p64.hidden @ p64.weight.t(), 1).gather(1, p.tokens[:, None])[:, 0]
    sure = expected > -1e-3
    assert sure.sum() > 10
    assert logits.max() > 100
    assert (stats.logp.double() - expected)[sure].abs().max() < 3e-7
