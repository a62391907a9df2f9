"""Does the Ray and vLLM pool work here? One engine on a tiny model: start, sample, update, compare, end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from ixt_rl.backends import require
from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.errors import BackendFailed, IxtRlError, ParityError
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.rollout.parity import default_limit
from ixt_rl.types import Rollout, SamplingParams

START_TIMEOUT = 300.0
"""Seconds an engine may take to start; a first start compiles."""


@dataclass(frozen=True)
class Step:
    """What one step of the check found.

    Args:
        name: what was tried.
        ok: it worked; None: not tried, because a step before failed.
        seconds: wall time.
        detail: what was measured, or why it failed and what to do.
    """

    name: str
    ok: bool | None
    seconds: float = 0.0
    detail: str = ""


class PoolCheck:
    """The steps, in order; each is a method that returns what it measured or raises.

    The model is a Llama of two layers with a tied head, in float32; half precision would hide small errors.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self.model: PreTrainedModel = new_model(
            NewModelBlock(hidden_size=64, heads=2, intermediate_size=128, init_std=0.2, max_positions=256),
            byte_tokenizer(),
        ).eval()
        self.pool: Any = None
        self.version = 0

    @property
    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("packages", self.packages),
            ("start", self.start),
            ("generate", self.generate),
            ("parity with transformers", self.parity),
            ("weight update", self.update),
            ("parity after the update", self.parity),
            ("end", self.end),
        ]

    def packages(self) -> str:
        for name in ("ray", "vllm"):
            require(name, used_for="the pool")
        return ""

    def start(self) -> str:
        from ixt_rl.rollout.pool.ray_pool import RayPool

        self.model.save_pretrained(self.folder)
        self.pool = RayPool(
            self.folder,
            gpus_per_engine=int(torch.accelerator.is_available()),
            start_timeout=START_TIMEOUT,
            max_restarts=0,
            eos_ids=(byte_tokenizer().eos_token_id,),
            dtype="float32",
            max_num_seqs=16,
            kv_cache_gib=1 / 64,
            gpu_memory_utilization=0.2,
            enforce_eager=True,
        )
        return f"one engine, process {self._pid()}"

    def generate(self) -> str:
        rollouts = self._sample()
        versions = {rollout.policy_version for rollout in rollouts}
        if versions != {self.version}:
            raise BackendFailed(f"rollouts carry the versions {sorted(versions)}, not {self.version}")
        return f"{len(rollouts)} rollouts, {sum(len(r.completion_ids) for r in rollouts)} tokens"

    def update(self) -> str:
        """Moves every weight by half its spread: far more than a training step does, so stale weights show."""
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in self.model.parameters():
                scale = float(weight.std()) / 2 or 0.05  # norms are all ones
                weight.add_(torch.randn(weight.shape, generator=generator) * scale)
        self.version += 1
        self.pool.update_weights(self.model.state_dict().items(), self.version)
        return f"to version {self.version}"

    def parity(self) -> str:
        worst = max(self._difference(rollout) for rollout in self._sample())
        limit = default_limit(torch.float32)
        measured = f"max |log-prob difference| {worst:.1e}, limit {limit:g}"
        if not worst <= limit:
            raise ParityError(
                measured,
                reason="the engine computes something else than transformers does on the same weights",
                remedy="compare the versions with those of setup.cfg (`ixt-rl doctor`)",
            )
        return measured

    def end(self) -> str:
        pid = self._pid()
        self.pool.close()
        _, alive = psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
        if alive:
            raise BackendFailed(f"process {pid} of the engine is still there", remedy=f"kill {pid}")
        return "no process left"

    def close(self) -> None:
        """Ends what an earlier failure left running."""
        if self.pool is not None:
            self.pool.close()

    def _pid(self) -> int:
        return self.pool.stats()[0]["pid"]

    def _sample(self) -> list[Rollout]:
        prompts = [list(f"prompt {i}, of any length{'.' * i}".encode()) for i in range(8)]
        groups = self.pool.generate(prompts, SamplingParams(max_new_tokens=16, seed=0), n=2)
        return [rollout for group in groups for rollout in group]

    @torch.no_grad()
    def _difference(self, rollout: Rollout) -> float:
        """max over tokens |engine's log-prob - transformers'|, in nats."""
        ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids])
        start = len(rollout.prompt_ids)
        logprobs = self.model(ids).logits[0, start - 1 : -1].float().log_softmax(-1)  # [T, V]
        expected = logprobs.gather(1, ids[0, start:, None]).squeeze(1)
        return float((expected - torch.tensor(rollout.logprobs)).abs().max())


def check_pool() -> list[Step]:
    """Runs the steps; after one that fails the rest is not tried, and whatever was started is ended."""
    logging.disable_progress_bar()
    found: list[Step] = []
    with ExitStack() as stack:
        check = PoolCheck(stack.enter_context(tempfile.TemporaryDirectory(prefix="ixt-rl-pool-")))
        stack.callback(check.close)
        for name, method in check.steps:
            if any(not step.ok for step in found):
                found.append(Step(name, None))
                continue
            start = time.perf_counter()
            try:
                ok, detail = True, method()
            except Exception as error:  # whatever breaks is the finding
                ok, detail = False, str(error) if isinstance(error, IxtRlError) else f"{type(error).__name__}: {error}"
            found.append(Step(name, ok, time.perf_counter() - start, detail))
    return found
