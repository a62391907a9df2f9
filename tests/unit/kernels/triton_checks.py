"""The Triton kernels against the torch operations they stand for, in Triton's interpreter, on a CPU.

Run by test_triton_tiles.py in a process of its own: the interpreter must be chosen before Triton is imported.
"""

from __future__ import annotations

import pytest
import torch
from torch import set_num_threads

from ixt_rl.kernels import Head, IntroSpec, intro_loss, nll_loss
from ixt_rl.kernels.intro import tiles, triton_tiles, walk

from .problems import make_problem


@pytest.fixture(autouse=True)
def two_threads():
    """One, here: the interpreter knows one place in the grid for the whole process."""
    set_num_threads(1)


def ragged(rows: int, width: int, seed: int) -> torch.Tensor:
    """[rows, width] cut from a wider tensor, as the last tile of a vocabulary is."""
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, width + 13, generator=generator))[:, :width]


@pytest.mark.parametrize("width", [5, 2048, 2500])
@pytest.mark.parametrize("exact", [False, True])
def test_tile_sums(width, exact):
    z = ragged(6, width, 0)
    ref = torch.tensor([[0.0, 4.0, -3.0], [0.0, 5.0, 0.0]])
    kept = [ragged(3, width, seed) for seed in (1, 2)]
    expected_kept = [torch.empty(3, width) for _ in kept]
    mine = triton_tiles.tile_sums(z, ref, kept[0], kept[1] if exact else None)
    expected = tiles.tile_sums(z.clone(), ref, expected_kept[0], expected_kept[1] if exact else None)
    for e, expected_e in list(zip(kept, expected_kept, strict=True))[: 1 + exact]:
        torch.testing.assert_close(e, expected_e)
    for name in ("mass", "p_zp", "q_gap", "q_zp", "gap_top"):
        found, value = getattr(mine, name), getattr(expected, name)
        assert (found is None) == (value is None), name
        if value is not None:
            torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-4, msg=name)


@pytest.mark.parametrize("width", [5, 2048, 2500])
def test_tile_sums_without_a_posterior(width):
    z, ref = ragged(3, width, 0), torch.tensor([[0.0, 4.0, -3.0]])
    kept, expected_kept = ragged(3, width, 1), torch.empty(3, width)
    mine = triton_tiles.tile_sums(z, ref, kept, None)
    expected = tiles.tile_sums(z.clone(), ref, expected_kept, None)
    torch.testing.assert_close(kept, expected_kept)
    for name in ("mass", "p_zp", "p_top"):
        torch.testing.assert_close(getattr(mine, name), getattr(expected, name), rtol=1e-5, atol=1e-4, msg=name)
    assert mine.q_gap is expected.q_gap is None


@pytest.mark.parametrize("head", [Head(torch.empty(0, 0)), Head(torch.empty(0, 0), None, 0.7, softcap=4.0, scale=1.3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("width", [5, 2100])
def test_gradients(head, dtype, exact, width):
    e_p, e_q = ragged(4, width, 0).exp(), ragged(4, width, 1).exp()
    e_p[0, 0] = 0.0  # underflowed
    push, pull, shift = torch.randn(4), torch.rand(4), torch.randn(4) - 3
    if exact:
        args = (push, e_q, pull, head, shift, dtype)
        mine = triton_tiles.exact_gradient(e_p, *args)
        expected = tiles.exact_gradient(e_p.clone(), push, e_q.clone(), pull, head, shift, dtype, torch.empty(4, width))
    else:
        ids = torch.tensor([[0, 0, width - 1], [-7, width, 3], [1, 2, 3], [-1, 4, 4]])  # twice the same, and elsewhere
        args = (push, ids, torch.rand(4, 3), head, shift, dtype)
        mine = triton_tiles.sampled_gradient(e_p, *args)
        expected = tiles.sampled_gradient(e_p.clone(), *args, torch.empty(4, width))
    assert mine.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(mine.float(), expected, rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize("candidates", [3, "exact"])
def test_whole_loss(monkeypatch, candidates):
    """The loss and its gradients with the Triton kernels in place of the torch operations."""
    p = make_problem(9, 8, 150, bias=True, softcap=5.0)

    def run():
        generator = torch.Generator().manual_seed(0)
        args = (p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec(candidates, clip=1.5))
        loss, stats = intro_loss(*args, generator=generator)
        loss.backward()
        return [loss.detach(), *p.grads(), stats.entropy, stats.kl, stats.clipped]

    with_triton_as_without(monkeypatch, run)


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_whole_cross_entropy(monkeypatch, softcap):
    p = make_problem(9, 8, 150, bias=True, softcap=softcap)

    def run():
        loss, stats = nll_loss(p.hidden, p.head, p.tokens, p.token_weights)
        loss.backward()
        return [loss.detach(), *p.grads(), stats.logp, stats.entropy, stats.top1]

    with_triton_as_without(monkeypatch, run)


def with_triton_as_without(monkeypatch, run):
    expected = run()
    for module in (tiles, walk):
        monkeypatch.setattr(module, "triton_for", lambda x: triton_tiles)
    for mine, theirs in zip(run(), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
