"""Two real vLLM engines that get weights by broadcast (gloo, between CPUs), and what becomes of it when they fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest
import torch
from torch import nn

from ixt_rl.backends import is_installed
from ixt_rl.errors import BackendFailed, WeightMismatch, WeightsLost
from ixt_rl.rollout import sync
from ixt_rl.rollout.sync import send_policy
from ixt_rl.rollout.weights import broadcast
from tests.integration.rollout_helpers import (
    ENGINE,
    GROUP,
    LENGTH,
    PROMPTS,
    TOLERANCE,
    change,
    flat,
    gap,
    pids,
    records,
    restarts,
    sampling,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (is_installed("vllm") and is_installed("ray")), reason="needs vllm and ray"),
]


@pytest.fixture(scope="module")
def shared_pool(folder):
    from ixt_rl.rollout.pool.ray_pool import RayPool

    pool = RayPool(folder, engines=2, max_restarts=50, weight_transfer="broadcast", **ENGINE)
    yield pool
    pool.close()


@pytest.fixture
def pool(shared_pool, model, monkeypatch):
    """Both engines at the folder's weights, as version 0; the embedding is larger than a bucket."""
    monkeypatch.setattr(broadcast, "BUCKET", 12 * 1024)
    send_policy(shared_pool, model, 0)
    return shared_pool


def sampled(pool) -> list:
    return pool.generate(PROMPTS, sampling(LENGTH), GROUP)


def interrupted(model: nn.Module, what) -> Iterator[tuple[str, torch.Tensor]]:
    """The policy's tensors; `what` happens amid them."""
    for index, item in enumerate(model.state_dict().items()):
        if index == 5:
            what()
        yield item


def test_the_engines_sample_from_what_was_broadcast(pool, model, undisturbed):
    groups = sampled(pool)
    assert records(groups) == undisturbed
    sender = pool._transfer._sender
    for version in (7, 8):
        change(model, seed=version)
        pool.update_weights(model.state_dict().items(), version)
        answers = pool.probe(PROMPTS[:8], sampling(LENGTH))
        assert len(answers) == 2
        assert gap(model, flat(answers)) <= TOLERANCE
        assert {r.policy_version for r in flat(answers)} == {version}
    assert pool._transfer._sender is sender, "the group was made again although the engines are the same"


def test_a_stale_tied_head_is_refused_and_nothing_is_sampled_until_the_next_update(pool, model):
    change(model)
    with pytest.raises(WeightMismatch, match=r"lm_head\.weight"):
        pool.update_weights(model.named_parameters(), 1)
    with pytest.raises(WeightsLost, match="no engine holds the policy's weights"):
        sampled(pool)
    pool.update_weights(model.state_dict().items(), 2)
    assert gap(model, flat(sampled(pool))) <= TOLERANCE


def test_weights_that_change_on_the_way_are_refused(pool, model, monkeypatch):
    """What is sent is not what was described."""
    name = "model.layers.1.mlp.up_proj.weight"
    real = broadcast._Bucket.add

    def damage(bucket, key, entry, tensor):
        real(bucket, key, entry, tensor + 1e-3 * (key == name))

    with monkeypatch.context() as patch:
        patch.setattr(broadcast._Bucket, "add", damage)
        with pytest.raises(WeightMismatch, match=rf"version 1 at engine \d.*{name}"):
            pool.update_weights(model.state_dict().items(), 1)
    with pytest.raises(WeightsLost):
        sampled(pool)


def test_an_engine_killed_while_weights_are_broadcast(pool, model, monkeypatch):
    count, reads = restarts(pool), []
    change(model)

    def policy_tensors(policy):
        first = not reads
        reads.append(0)
        for index, item in enumerate(policy.state_dict().items()):
            if first and index == 5:
                os.kill(pids(pool)[0], signal.SIGKILL)
            reads[-1] += 1
            yield item

    monkeypatch.setattr(sync, "policy_tensors", policy_tensors)
    send_policy(pool, model, 1)
    assert reads == [len(model.state_dict())] * 2, "other ranks take every tensor of each reading"
    assert restarts(pool) == count + 1
    answers = pool.probe(PROMPTS[:8], sampling(LENGTH))
    assert len(answers) == 2
    assert gap(model, flat(answers)) <= TOLERANCE
    assert {r.policy_version for r in flat(answers)} == {1}


@pytest.mark.long(
    "tests/integration/test_ray_pool.py::test_an_engine_that_hangs_is_replaced_after_the_deadline",
    "tests/integration/test_broadcast_pool.py::test_an_engine_killed_while_weights_are_broadcast",
)
def test_an_engine_that_hangs_while_weights_are_broadcast(pool, model, monkeypatch):
    count = restarts(pool)
    with monkeypatch.context() as patch:  # of this group alone: a new engine needs longer to start
        patch.setattr(pool._dispatcher, "start_timeout", 5.0)
        pool._transfer.close()
        pool.update_weights(model.state_dict().items(), 1)
    with pytest.raises(WeightsLost, match="engine 1: it did not take weights in time"):
        pool.update_weights(interrupted(model, lambda: os.kill(pids(pool)[1], signal.SIGSTOP)), 2)
    assert restarts(pool) == count + 1
    pool.update_weights(model.state_dict().items(), 2)
    assert len(pool.probe(PROMPTS[:2], sampling())) == 2


def test_tensors_that_cannot_be_read_are_the_callers_error(pool, model, undisturbed):
    count = restarts(pool)

    def fail():
        raise ValueError("no such weight")

    with pytest.raises(ValueError, match="no such weight"):
        pool.update_weights(interrupted(model, fail), 1)
    assert restarts(pool) == count
    with pytest.raises(WeightsLost):
        sampled(pool)
    pool.update_weights(model.state_dict().items(), 1)
    assert records(sampled(pool)) == undisturbed


@pytest.mark.long(
    "tests/integration/test_ray_pool.py::test_an_engine_killed_while_it_generates",
    "tests/integration/test_broadcast_pool.py::test_an_engine_killed_while_weights_are_broadcast",
)
def test_while_one_engine_is_replaced_the_other_does_its_work_and_without_any_the_weights_are_asked_for(
    pool, model, undisturbed
):
    count = restarts(pool)
    stream = pool.submit(PROMPTS, sampling(LENGTH), GROUP).stream()
    groups = dict([next(stream)])
    os.kill(pids(pool)[0], signal.SIGKILL)
    for index, group in stream:
        assert index not in groups
        groups[index] = group
    assert records([groups[i] for i in range(len(PROMPTS))]) == undisturbed
    assert restarts(pool) == count + 1
    assert len(pool.probe(PROMPTS[:2], sampling())) == 1  # the new one would sample from the folder's weights

    ticket = pool.submit(PROMPTS, sampling(LENGTH), GROUP)
    os.kill(pids(pool)[1], signal.SIGKILL)
    with pytest.raises(WeightsLost, match=r"no engine holds.*of 64 groups of this call were finished"):
        ticket.result()
    change(model)
    pool.update_weights(model.state_dict().items(), 1)
    answers = pool.probe(PROMPTS[:8], sampling(LENGTH))
    assert len(answers) == 2
    assert gap(model, flat(answers)) <= TOLERANCE


def test_ctrl_c_amid_an_update_leaves_nothing_behind(pool, model):
    """The last of this file: afterwards the pool is closed."""

    def interrupt():
        raise KeyboardInterrupt

    engines = [psutil.Process(pid) for pid in pids(pool)]
    with pytest.raises(KeyboardInterrupt):
        pool.update_weights(interrupted(model, interrupt), 1)
    pool.close()
    _, alive = psutil.wait_procs(engines, timeout=30)
    assert not alive
    with pytest.raises(BackendFailed, match="the pool was closed"):
        sampled(pool)
