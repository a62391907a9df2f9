"""Run in a process of its own by tests of engines and pools: `python pool_script.py <what> <model folder>`."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from transformers import AutoModelForCausalLM

from ixt_rl.errors import BackendFailed
from ixt_rl.rollout.pool.ray_pool import RayPool
from ixt_rl.rollout.vllm_engine import VLLMEngine
from ixt_rl.rollout.weights.broadcast import Sender
from tests.integration.rollout_helpers import ENGINE, TOLERANCE, change, flat, gap, prompts, sampling


def run_until_ended(folder: str) -> None:
    """Generates until someone ends this process."""
    pool = RayPool(folder, engines=1, **ENGINE)
    while True:
        pool.generate(prompts(64), sampling(150, seed=0), n=4)
        print("generated", flush=True)


def small_store_then_no_restarts(folder: str) -> None:
    """Weights that do not fit the object store twice; then an engine dies that may not be replaced."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    size = sum(weight.nbytes for weight in model.state_dict().values())
    store = 80 * 2**20
    assert size < store < 2 * size
    pool = RayPool(folder, engines=1, max_restarts=0, object_store_memory=store, **ENGINE)
    for version in (1, 2, 3):
        change(model, seed=version)
        pool.update_weights(model.state_dict().items(), version)
    rollouts = flat(pool.generate(prompts(8), sampling(), n=2))
    assert gap(model, rollouts) <= TOLERANCE, gap(model, rollouts)
    assert {r.policy_version for r in rollouts} == {3}
    print("updated with a small object store", flush=True)

    ticket = pool.submit(prompts(64), sampling(150), n=4)
    stream = ticket.stream()
    next(stream)
    os.kill(pool.stats()[0]["pid"], signal.SIGKILL)
    try:
        list(stream)
    except BackendFailed as error:
        print(error, flush=True)
    try:
        pool.generate(prompts(1), sampling())
    except BackendFailed:
        print("refused afterwards", flush=True)
    pool.close()
    pool.close()


def broken_model(folder: str) -> None:
    """An engine that cannot start is not tried again and again."""
    start = time.monotonic()
    try:
        RayPool(folder, engines=1, **{**ENGINE, "max_model_len": 100_000})
    except BackendFailed as error:
        print(error, flush=True)
    assert time.monotonic() - start < 100


def split_model(folder: str) -> None:
    """An engine of two processes: its folder's weights, then handed over, then broadcast."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    engine = VLLMEngine(folder, tensor_parallel_size=2, **ENGINE)

    def compare(version: int) -> None:
        rollouts = flat(engine.generate(prompts(8), sampling(), n=2))
        assert gap(model, rollouts) <= TOLERANCE, gap(model, rollouts)
        assert {r.policy_version for r in rollouts} == {version}
        print(f"agrees with version {version}", flush=True)

    compare(0)
    change(model)
    engine.update_weights(model.state_dict().items(), 1)
    compare(1)

    change(model, seed=2)
    with ThreadPoolExecutor(1) as thread:
        sender = Sender("127.0.0.1", "here", engine.processes, 60.0)
        joined = thread.submit(engine.join, sender.meeting, 1, "here")
        sender.join("cpu")
        joined.result()
        received = thread.submit(engine.receive)
        sent = sender.send(model.state_dict().items())
        assert received.result() == [sent, sent]
    engine.finish_update(2)
    compare(2)
    engine.close()
    sender.abort()


WHAT = (run_until_ended, small_store_then_no_restarts, broken_model, split_model)

if __name__ == "__main__":
    {f.__name__: f for f in WHAT}[sys.argv[1]](sys.argv[2])
