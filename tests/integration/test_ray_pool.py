"""Two real vLLM engines in Ray actors: parity, updates as transactions, and every fault that must not show."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from ixt_rl.backends import is_installed
from ixt_rl.errors import DataError, WeightMismatch
from ixt_rl.rollout.engine import RolloutEngine
from tests.integration.rollout_helpers import (
    ENGINE,
    GROUP,
    LENGTH,
    PROMPTS,
    SIZES,
    TOLERANCE,
    change,
    flat,
    gap,
    pids,
    prompts,
    records,
    restarts,
    sampling,
    save,
)

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (is_installed("vllm") and is_installed("ray")), reason="needs vllm and ray"),
]


@pytest.fixture(scope="module")
def shared_pool(folder):
    from ixt_rl.rollout.pool.ray_pool import RayPool

    pool = RayPool(folder, engines=2, max_restarts=50, **ENGINE)
    yield pool
    pool.close()


@pytest.fixture
def pool(shared_pool, model):
    """At the folder's weights, as version 0."""
    shared_pool.update_weights(model.state_dict().items(), 0)
    return shared_pool


def test_two_engines_sample_what_one_does(pool, model, undisturbed):
    assert isinstance(pool, RolloutEngine)
    before = pool.stats()
    groups = pool.generate(PROMPTS, sampling(LENGTH), GROUP)
    assert records(groups) == undisturbed
    assert gap(model, flat(groups)) <= TOLERANCE
    done = [after["requests"] - b["requests"] for b, after in zip(before, pool.stats(), strict=True)]
    assert sum(done) == len(PROMPTS)
    assert min(done) > 0
    assert all(engine["rss"] > 2**20 for engine in pool.stats())


def test_several_calls_run_at_once_and_groups_stream_back(pool, undisturbed):
    first, second = pool.submit(PROMPTS, sampling(LENGTH), GROUP), pool.submit(PROMPTS[:8], sampling(LENGTH), GROUP)
    assert records(second.result()) == undisturbed[:8]
    streamed = dict(first.stream())
    assert list(streamed) != sorted(streamed), "groups came in the prompts' order: they were not streamed"
    assert records([streamed[i] for i in range(len(PROMPTS))]) == undisturbed


def test_every_engine_answers_the_probe(pool, model):
    answers = pool.probe(PROMPTS[:6], sampling(LENGTH))
    assert [len(rollouts) for rollouts in answers] == [6, 6]
    assert records(answers)[0] == records(answers)[1]
    assert gap(model, flat(answers)) <= TOLERANCE


def test_after_a_large_update_every_engine_samples_from_the_new_weights(pool, model):
    change(model)
    pool.update_weights(model.state_dict().items(), 7)
    answers = flat(pool.probe(PROMPTS[:8], sampling(LENGTH)))
    assert gap(model, answers) <= TOLERANCE
    assert {r.policy_version for r in answers} == {7}
    assert {engine["version"] for engine in pool.stats()} == {7}


def test_an_update_amid_a_call_splits_it_by_version(pool, model, folder):
    stream = pool.submit(prompts(160), sampling(LENGTH), GROUP).stream()
    groups = dict([next(stream)])
    change(model)
    pool.update_weights(model.state_dict().items(), 1)
    groups.update(stream)
    assert sorted(groups) == list(range(160))
    by_version = {v: [r for r in flat(groups.values()) if r.policy_version == v] for v in (0, 1)}
    assert by_version[0]
    assert by_version[1]
    assert gap(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), by_version[0]) <= TOLERANCE
    assert gap(model, by_version[1]) <= TOLERANCE


def test_weights_damaged_on_the_way_are_refused_and_the_old_ones_serve_on(pool, model, undisturbed, monkeypatch):
    from ixt_rl.rollout.pool import updates as ray_updates

    damaged = model.state_dict()["model.layers.1.mlp.up_proj.weight"]
    real = ray_updates.tensor_bytes

    def damage(tensor):
        data = real(tensor)
        if tensor.data_ptr() == damaged.data_ptr():
            data = data.copy()
            data[-1] ^= 1
        return data

    with monkeypatch.context() as patch:
        patch.setattr(ray_updates, "tensor_bytes", damage)
        with pytest.raises(WeightMismatch, match=r"version 1 at engine \d.*model\.layers\.1\.mlp\.up_proj\.weight"):
            pool.update_weights(model.state_dict().items(), 1)
    assert pool.policy_version == 0
    groups = pool.generate(PROMPTS, sampling(LENGTH), GROUP)
    assert records(groups) == undisturbed
    assert {r.policy_version for r in flat(groups)} == {0}


def test_a_stale_tied_head_is_refused(pool, model, undisturbed):
    change(model)
    with pytest.raises(WeightMismatch, match=r"lm_head\.weight"):
        pool.update_weights(model.named_parameters(), 1)
    assert records(pool.generate(PROMPTS, sampling(LENGTH), GROUP)) == undisturbed


def test_weights_of_another_shape_are_refused_and_the_old_ones_serve_on(pool, model, undisturbed):
    misfit = model.state_dict() | {"model.layers.1.self_attn.k_proj.weight": torch.zeros(64, 64)}
    with pytest.raises(WeightMismatch, match=r"k_proj\.weight of shape \[64, 64\]"):
        pool.update_weights(misfit.items(), 1)
    assert records(pool.generate(PROMPTS, sampling(LENGTH), GROUP)) == undisturbed


def test_bad_prompts_are_named_before_anything_runs(pool):
    with pytest.raises(DataError, match="prompt 0 has 300 tokens"):
        pool.submit([[10] * 300], sampling())


def test_an_engine_killed_while_it_generates(pool, undisturbed):
    count = restarts(pool)
    ticket = pool.submit(PROMPTS, sampling(LENGTH), GROUP)
    stream = ticket.stream()
    groups = dict([next(stream)])
    os.kill(pids(pool)[0], signal.SIGKILL)
    for index, group in stream:
        assert index not in groups
        groups[index] = group
    assert records([groups[i] for i in range(len(PROMPTS))]) == undisturbed
    assert restarts(pool) == count + 1
    assert all(len(rollouts) == 2 for rollouts in pool.probe(PROMPTS[:2], sampling()))  # the new one serves


@pytest.mark.long("tests/integration/test_ray_pool.py::test_an_engine_killed_while_it_generates")
def test_an_engine_killed_while_idle(pool, undisturbed):
    count = restarts(pool)
    os.kill(pids(pool)[1], signal.SIGKILL)
    assert records(pool.generate(PROMPTS, sampling(LENGTH), GROUP)) == undisturbed
    assert restarts(pool) == count + 1


COMMIT = pytest.mark.long("tests/integration/test_ray_pool.py::test_an_engine_killed_during_an_update")


@pytest.mark.parametrize("moment", ["stage", pytest.param("commit", marks=COMMIT)])
def test_an_engine_killed_during_an_update(pool, model, moment, monkeypatch):
    count = restarts(pool)
    ask = pool._dispatcher.ask

    def kill_before(method, *args):
        if method == moment and restarts(pool) == count:
            os.kill(pids(pool)[0], signal.SIGKILL)
        return ask(method, *args)

    monkeypatch.setattr(pool._dispatcher, "ask", kill_before)
    change(model)
    pool.update_weights(model.state_dict().items(), 1)
    assert restarts(pool) == count + 1
    answers = flat(pool.probe(PROMPTS[:8], sampling(LENGTH)))
    assert gap(model, answers) <= TOLERANCE
    assert {r.policy_version for r in answers} == {1}


def test_an_engine_that_hangs_is_replaced_after_the_deadline(pool, undisturbed, monkeypatch):
    # For this test alone: on a busy machine an engine that works may well make no step for so long.
    monkeypatch.setattr(pool._dispatcher, "_deadline", 8.0)
    count = restarts(pool)
    ticket = pool.submit(PROMPTS, sampling(LENGTH), GROUP)
    os.kill(pids(pool)[0], signal.SIGSTOP)
    assert records(ticket.result()) == undisturbed
    assert restarts(pool) == count + 1


def script(what: str, folder: str) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests/integration/pool_script.py"), what, folder]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


CTRL_C = pytest.mark.long("tests/integration/test_broadcast_pool.py::test_ctrl_c_amid_an_update_leaves_nothing_behind")


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=CTRL_C)])
def test_a_driver_that_ends_leaves_nothing_behind(folder, how):
    driver = script("run_until_ended", folder)
    watchdog = threading.Timer(240, driver.kill)
    watchdog.start()
    assert driver.stdout.readline() == "generated\n", driver.stderr.read()
    processes = psutil.Process(driver.pid).children(recursive=True)
    assert any("EngineWorker" in " ".join(p.cmdline()) for p in processes)
    shared = shared_memory(processes)  # of this driver alone: other Ray sessions of the machine come and go
    driver.send_signal(how)
    driver.wait(120)
    watchdog.cancel()
    _, alive = psutil.wait_procs(processes, timeout=120)
    assert not alive
    assert not [path for path in shared if os.path.exists(path)]


def shared_memory(processes: list[psutil.Process]) -> set[str]:
    """Files under /dev/shm that the processes have mapped."""
    paths: set[str] = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            paths |= {area.path for area in process.memory_maps() if area.path.startswith("/dev/shm/")}
    return {path for path in paths if os.path.exists(path)}


@pytest.mark.long("tests/integration/test_ray_pool.py::test_an_engine_killed_while_it_generates")
def test_a_full_object_store_and_a_spent_fault_budget(tmp_path):
    size = {**SIZES, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_hidden_layers": 4}
    size["initializer_range"] = 0.03
    folder = save(LlamaForCausalLM(LlamaConfig(**size, tie_word_embeddings=True)), tmp_path)
    process = script("small_store_then_no_restarts", folder)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "updated with a small object store" in out
    assert "engine 0 failed, and max_restarts=0 engines were replaced before; " in out
    assert "of 64 groups of this call were finished" in out
    assert "its process died" in out
    assert "refused afterwards" in out


def test_an_engine_that_cannot_start_says_why(folder):
    process = script("broken_model", folder)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "engine 0 did not start" in out
    assert "max_model_len" in out


@pytest.mark.long("tests/integration/test_vllm_engine.py::test_memory_stays_flat_over_updates_and_sizes_of_batches")
def test_rollouts_leave_memory_flat(pool):
    def resident() -> list[int]:
        return [psutil.Process().memory_info().rss, *(engine["rss"] for engine in pool.stats())]

    def work(calls: int) -> None:
        for seed in range(calls):
            pool.generate(PROMPTS, sampling(LENGTH, seed=seed), GROUP)

    work(18)  # allocators settle over the first two thousand rollouts of an engine
    before = resident()
    work(16)
    growth = [(b - a) / 2**20 for a, b in zip(before, resident(), strict=True)]
    assert max(growth) < 24, f"MiB of growth of driver and engines: {growth}"
