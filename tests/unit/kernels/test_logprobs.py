"""Selected log-probs and entropies: against torch's log_softmax, TRL's kernel and finite differences."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.errors import DataError
from ixt_rl.kernels import Head, IntroSpec, intro_loss, logprob_chunk, selected_logprobs
from ixt_rl.kernels.intro import plain as reference

from .problems import make_problem, relative_error

HEADS = [
    {},
    {"bias": True, "temperature": 0.7},
    {"softcap": 5.0, "scale": 1.3},
    {"bias": True, "temperature": 1.4, "softcap": 8.0, "scale": 0.8},
]


def total(logp, entropy, weights):
    return (weights * logp).sum() + (0 if entropy is None else (weights.flip(0) * entropy).sum())


@pytest.mark.parametrize("with_entropy", [False, True])
@pytest.mark.parametrize("options", HEADS, ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 2), (7, 16, 64), (37, 24, 301)], ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)], ids=str)
def test_equals_float64_log_softmax(shape, options, with_entropy, dtype, tolerance):
    p = make_problem(*shape, dtype=dtype, **options)
    logp, entropy = selected_logprobs(p.hidden, p.head, p.tokens, entropy=with_entropy, chunk=10)
    total(logp, entropy, p.token_weights).backward()
    p64 = p.to(torch.float64)
    logp64, entropy64 = reference.selected_logprobs(p64.hidden, p64.head, p64.tokens)
    total(logp64, entropy64 if with_entropy else None, p64.token_weights).backward()
    assert logp.dtype == torch.float32
    # values are float32 throughout, whatever the inputs
    assert torch.allclose(logp.double(), logp64, rtol=1e-5, atol=1e-5)
    assert (entropy is not None) == with_entropy
    if with_entropy:
        assert torch.allclose(entropy.double(), entropy64, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(p.grads(), p64.grads(), strict=True):
        assert mine.dtype == dtype
        assert relative_error(mine, theirs) < tolerance


@pytest.mark.parametrize("options", HEADS, ids=str)
def test_gradcheck(options):
    p = make_problem(4, 3, 7, **options).to(torch.float64)

    def both(hidden, weight, bias=None):
        return selected_logprobs(hidden, Head(weight, bias, **p.options), p.tokens, entropy=True, chunk=3)

    assert torch.autograd.gradcheck(both, p.leaves)


def test_entropy_alone_has_a_gradient():
    p = make_problem(5, 4, 80)
    _, entropy = selected_logprobs(p.hidden, p.head, p.tokens, entropy=True)
    entropy.sum().backward()
    p64 = p.to(torch.float64)
    reference.selected_logprobs(p64.hidden, p64.head, p64.tokens)[1].sum().backward()
    for mine, theirs in zip(p.grads(), p64.grads(), strict=True):
        assert relative_error(mine, theirs) < 1e-5


@pytest.mark.parametrize("temperature, softcap, scale", [(1.0, None, 1.0), (0.7, 6.0, 1.3)])
def test_equals_trl(temperature, softcap, scale):
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    p = make_problem(23, 16, 301, bias=True, temperature=temperature, softcap=softcap, scale=scale)
    logp, entropy = selected_logprobs(p.hidden, p.head, p.tokens, entropy=True, chunk=8)
    total(logp, entropy, p.token_weights).backward()
    mine = p.grads()
    theirs, their_entropy, *_ = ChunkedLogProbFunction.apply(
        p.hidden, p.weight, p.bias, p.tokens, temperature, 128, softcap, scale, ("entropy",)
    )
    total(theirs, their_entropy, p.token_weights).backward()
    assert torch.allclose(logp, theirs, atol=1e-5)
    assert torch.allclose(entropy, their_entropy, atol=1e-5)
    for a, b in zip(mine, p.grads(), strict=True):
        assert relative_error(a, b) < 1e-5


def test_logprob_chunk_is_log_softmax():
    p = make_problem(6, 8, 150, bias=True, temperature=0.5, softcap=9.0)
    expected = torch.log_softmax(reference.logits(p.hidden, p.head), -1)
    assert torch.allclose(logprob_chunk(p.hidden, p.head), expected, atol=1e-5)
    assert logprob_chunk(p.hidden.bfloat16(), Head(p.weight.bfloat16())).dtype == torch.float32


def test_agrees_with_the_intro_loss_about_the_taken_token():
    p = make_problem(20, 16, 200, bias=True, temperature=0.8)
    logp, entropy = selected_logprobs(p.hidden, p.head, p.tokens, entropy=True)
    _, stats = intro_loss(p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec(5))
    assert torch.allclose(logp, stats.logp, atol=1e-5)
    assert torch.allclose(entropy, stats.entropy, atol=1e-5)


def test_no_tokens():
    p = make_problem(0, 4, 10)
    logp, entropy = selected_logprobs(p.hidden, p.head, p.tokens, entropy=True)
    (logp.sum() + entropy.sum()).backward()
    assert logp.shape == (0,)
    assert all(not g.any() for g in p.grads())


def test_bad_shapes_and_ids_are_refused():
    p = make_problem(4, 3, 7)
    with pytest.raises(DataError, match="token id 7"):
        selected_logprobs(p.hidden, p.head, torch.tensor([0, 1, 7, 2]))
    with pytest.raises(DataError, match=r"\(3,\)"):
        selected_logprobs(p.hidden, p.head, p.tokens[:3])
    with pytest.raises(DataError, match=r"\(1, 4, 3\)"):
        selected_logprobs(p.hidden[None], p.head, p.tokens)
