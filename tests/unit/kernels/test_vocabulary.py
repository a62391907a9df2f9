"""Tiles of the vocabulary on threads."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
import torch
from torch import set_num_threads  # by name: vLLM on a CPU, in the same process, replaces it

from ixt_rl.kernels import IntroSpec, intro_loss
from ixt_rl.kernels.intro import vocabulary
from ixt_rl.kernels.intro.vocabulary import MAX_THREADS, Tiles
from tests.unit.kernels.problems import make_problem, relative_error

NEW = {"dtype": torch.float32, "device": torch.device("cpu")}


@contextmanager
def threads_of_torch(n):
    before = torch.get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


@pytest.fixture(params=[1, 2, 3], ids=lambda n: f"{n}-threads")
def threads(request):
    with threads_of_torch(request.param):
        yield request.param


def test_each_tile_is_visited_once_in_order_by_its_thread_without_gradients(threads):
    tiles = Tiles(100, 16, 8, NEW)
    assert (tiles.threads, tiles.count) == (threads, 7)
    together = threading.Barrier(threads)  # broken unless all threads run at once
    seen: dict[int, list[tuple[int, int, int]]] = {}

    def visit(k, v0, v1):
        own = seen.setdefault(tiles.thread(k), [])
        if not own:
            together.wait(timeout=30)
        own.append((k, v0, v1))
        assert not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        assert torch.get_num_threads() == 1
        assert tiles.scratch(k, 3).shape == (3, v1 - v0)

    with torch.no_grad(), tiles:
        tiles.each(visit, list(tiles)[1:])
    assert torch.get_num_threads() == threads
    assert sorted(t for own in seen.values() for t in own) == list(tiles)[1:]
    assert all(own == sorted(own) for own in seen.values())


def test_threads_have_scratch_memory_of_their_own(threads):
    tiles = Tiles(100, 16, 8, NEW)
    for k in range(tiles.count):
        tiles.scratch(k, 8).fill_(tiles.thread(k))
    assert all((tiles.scratch(k, 8) == tiles.thread(k)).all() for k in range(tiles.count))


def test_no_more_threads_than_tiles_nor_than_have_memory():
    with threads_of_torch(12):
        assert Tiles(30, 16, 8, NEW).threads == 2
        assert Tiles(3000, 16, 8, NEW).threads == MAX_THREADS


def test_one_thread_where_this_one_is_bound_to_fewer_cores_than_torch_uses(threads, monkeypatch):
    """As vLLM on a CPU binds the thread that starts it; threads begun by it would share its core."""
    monkeypatch.setattr(vocabulary.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setattr(vocabulary.os, "cpu_count", lambda: 8)
    tiles, callers = Tiles(100, 16, 8, NEW), set()
    with tiles:
        tiles.each(lambda *tile: callers.add(threading.get_ident()))
    assert tiles.threads == 1
    assert callers == {threading.get_ident()}
    assert torch.get_num_threads() == threads


def test_an_error_in_a_thread_is_raised_and_leaves_the_number_of_threads(threads):
    def visit(k, v0, v1):
        if k == 3:
            raise ValueError(f"tile {k}")

    tiles = Tiles(100, 16, 8, NEW)
    with pytest.raises(ValueError, match="tile 3"), tiles:
        tiles.each(visit)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("spec", [IntroSpec(5), IntroSpec("exact", clip=1.5)], ids=["sampled", "exact"])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_loss_does_not_depend_on_the_number_of_threads(spec, softcap, dtype):
    """But for the order of sums."""
    p = make_problem(37, 16, 401, dtype=dtype, bias=True, softcap=softcap)
    found = []
    for n in (1, 2, 3):
        with threads_of_torch(n):
            generator = torch.Generator().manual_seed(1)
            loss, stats = intro_loss(
                p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, spec, generator=generator, chunk=16
            )
            loss.backward()
        found.append([loss.detach(), stats.logp, stats.kl, stats.entropy, stats.factor_sampled, *p.grads()])
    for other in found[1:]:
        for one, more in zip(found[0], other, strict=True):
            assert relative_error(more, one) < (1e-12 if dtype == torch.float64 else 1e-2)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_loss_alone(threads, mode):
    p = make_problem(37, 16, 401)
    found = []
    for context in (torch.enable_grad, mode):
        with context():
            generator = torch.Generator().manual_seed(1)
            loss, _ = intro_loss(
                p.hidden, p.posterior_hidden, p.head, p.tokens, p.token_weights, IntroSpec(3), generator=generator
            )
        found.append(loss.item())
        assert loss.requires_grad == (context is torch.enable_grad)
    assert found[0] == pytest.approx(found[1], rel=1e-6)
