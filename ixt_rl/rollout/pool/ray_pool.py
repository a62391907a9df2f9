"""A pool of vLLM engines in Ray actors, on this machine or on a cluster; a `RolloutEngine`."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ixt_rl.backends import require
from ixt_rl.errors import BackendFailed, ConfigError
from ixt_rl.rollout.pool.dispatcher import Dispatcher
from ixt_rl.rollout.pool.environment import actor_environment
from ixt_rl.rollout.pool.ray_private import meet, private_ray
from ixt_rl.rollout.pool.tickets import Ticket
from ixt_rl.rollout.pool.updates import WEIGHT_TRANSFERS
from ixt_rl.rollout.pool.variables import HUB, hold_under_a_new_name
from ixt_rl.rollout.pool.worker import EngineWorker
from ixt_rl.rollout.vllm_requests import VllmRequest, make_requests
from ixt_rl.rollout.weights.broadcast import LOOPBACK
from ixt_rl.signals import kept
from ixt_rl.types import Rollout, SamplingParams

PLACEMENTS = {"pack": "DEFAULT", "spread": "SPREAD"}  # Ray's names for them

_THREADS = 8  # concurrent calls an actor takes; two are ever in use, the rest is for calls to engines that hang


class RayPool:
    """Several `VLLMEngine`s, each in a Ray actor of its own.

    - A group goes to the engine with the fewest outstanding tokens. What a prompt gets does not depend on which engine
      runs it, up to the rounding of batched arithmetic.
    - An engine that dies, or makes no step for `deadline` seconds while it has work, is replaced, brought to the
      current weights, and its unfinished groups run again: none is lost, none counted twice.
    - An update moves all engines, or none serves: groups already running finish under the version they began with,
      those still queued start under the new one.
    - The pool joins the Ray session this process has, else the cluster at `address`, else it starts Ray on this
      machine, on loopback alone and with a token (`ray_private`). What it starts ends with `close`, at exit, and with
      this process however that ends.

    Args:
        model: folder of a Hugging Face model, readable on every node, or its hub id: on a cluster that is
            joined engines ask with this process's token. Its weights are version 0.
        engines: number of engines.
        cpus_per_engine: CPUs Ray reserves for an engine, and the threads it computes with.
        gpus_per_engine: GPUs of an engine; `tensor_parallel_size` where that is above 1.
        tensor_parallel_size: GPUs an engine's model is split over.
        weight_transfer: how new weights reach the engines, see `ixt_rl.rollout.pool.updates`: `object-store`, or
            `broadcast` (for an engine that fails, its new one samples only after the next update).
        placement: on a cluster, `pack` leaves the choice of nodes to Ray, which fills one (halfway) before it takes the
            next; `spread` puts engines on as many nodes as have room.
        address: of a running Ray cluster, or `auto`.
        deadline: seconds an engine may go without a decoding step while it has work.
        start_timeout: seconds an engine may take to start, to check or load new weights, or to meet the others.
        max_restarts: engines replaced in the pool's life before it gives up.
        object_store_memory: bytes of shared memory of a Ray started here; None leaves it to Ray. Keep room for two
            copies of the model: the current version, and the next while it arrives. What does not fit goes to disk.
        dashboard: whether a Ray started here serves its dashboard (needs `ray[default]`).
        engine_settings: further arguments of `VLLMEngine`, `eos_ids` at least.

    Raises:
        BackendMissing: Ray or vLLM is not installed.
        ConfigError: more CPUs or GPUs are asked for than a Ray started here has, or one of the choices
            above does not exist.
        BackendFailed: the engines do not start.
    """

    def __init__(
        self,
        model: str,
        *,
        engines: int = 1,
        cpus_per_engine: int = 1,
        gpus_per_engine: int = 0,
        tensor_parallel_size: int = 1,
        weight_transfer: str = "object-store",
        placement: str = "pack",
        address: str | None = None,
        deadline: float = 120.0,
        start_timeout: float = 600.0,
        max_restarts: int = 8,
        object_store_memory: int | None = None,
        dashboard: bool = False,
        **engine_settings: Any,
    ):
        require("ray", used_for="the ray-vllm rollout engine")
        require("vllm", used_for="the ray-vllm rollout engine")
        if tensor_parallel_size > 1 and gpus_per_engine not in (0, tensor_parallel_size):
            raise ConfigError(
                f"gpus_per_engine={gpus_per_engine} with tensor_parallel_size={tensor_parallel_size}",
                reason="vLLM puts one part of the model on each GPU",
                remedy=f"set gpus_per_engine={tensor_parallel_size}",
            )
        for name, value, known in (
            ("weight_transfer", weight_transfer, WEIGHT_TRANSFERS),
            ("placement", placement, PLACEMENTS),
        ):
            if value not in known:
                raise ConfigError(
                    f"{name}={value!r}", reason="there is no such choice", remedy=f"choose one of {', '.join(known)}"
                )
        self.policy_version = 0
        self.constrains = engine_settings.get("tokenizer") is not None
        self._closed = False
        self._held: Any = None  # the actor that has the hub's token for other nodes
        with kept():
            self._owns_ray = _join_or_start(address, object_store_memory, dashboard)
        atexit.register(self.close)
        try:
            if self._owns_ray:
                _check_resources(engines, CPU=cpus_per_engine, GPU=gpus_per_engine)
            settings = {"model": model, "tensor_parallel_size": tensor_parallel_size, **engine_settings}
            holder = ""
            if not self._owns_ray and not Path(model).is_dir():
                self._held, holder = hold_under_a_new_name(HUB)
            self._dispatcher = Dispatcher(
                _actor_factory(settings, cpus_per_engine, gpus_per_engine, PLACEMENTS[placement], holder),
                engines=engines,
                max_num_seqs=engine_settings.get("max_num_seqs", 256),
                deadline=deadline,
                start_timeout=start_timeout,
                max_restarts=max_restarts,
            )
            self._transfer = WEIGHT_TRANSFERS[weight_transfer](self._dispatcher)
            info = self._dispatcher.wait_started()
        except BaseException:
            self.close()
            raise
        self.max_model_len, self.vocab_size = info.max_model_len, info.vocab_size

    def submit(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> Ticket:
        """Starts sampling `n` completions a prompt and returns at once; several calls may be under way.

        Raises:
            DataError: a prompt that is empty, has an id outside the vocabulary, or leaves no room for a completion.
            ConfigError: sampling parameters or seeds that vLLM does not take, or a schema without a tokenizer.
            BackendFailed: the pool has given up before.
        """
        return self._dispatcher.submit(self._requests(prompts, sampling, n, seeds))

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Rollout]]:
        """`n` rollouts a prompt, in the prompts' order; see `submit` and `RolloutEngine`."""
        return self.submit(prompts, sampling, n, seeds).result()

    def probe(self, prompts: Sequence[Sequence[int]], sampling: SamplingParams) -> list[list[Rollout]]:
        """One rollout a prompt from each engine that serves: `[engine][prompt]`. All get the same seeds."""
        requests = self._requests(prompts, sampling, 1, None)
        dispatcher = self._dispatcher
        serving = [slot.index for slot in dispatcher.slots if slot.current or dispatcher.restorable]
        tickets = [dispatcher.submit(requests, index) for index in serving]
        return [[group[0] for group in ticket.result()] for ticket in tickets]

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Moves every engine to new weights, by the pool's `weight_transfer`; each tensor may change once read.

        Args:
            named_tensors: the whole model, as `policy_tensors` gives it.
            version: what rollouts carry from now on.

        Raises:
            WeightMismatch: an engine did not receive what was sent, or the tied head is missing. With `object-store`
                the engines stay at the version they had and go on serving; with `broadcast` none serves before the
                next update.
            WeightsLost: an engine failed while weights were broadcast, and has been replaced; none serves before the
                next update. `ixt_rl.rollout.sync.send_policy` calls again.
            BackendFailed: the object store cannot take the weights (the old version goes on serving), or the fault
                budget is spent (then nothing does).
        """
        self._dispatcher.pause()
        try:
            self._transfer.update(named_tensors, version)
            self.policy_version = version
        finally:
            self._dispatcher.resume()

    def stats(self) -> list[dict[str, int]]:
        """Of each engine: pid, requests and tokens sampled, restarts, version, rss (bytes, at the last answer)."""
        return [
            {
                "pid": slot.info.pid if slot.info else 0,
                "requests": slot.requests,
                "tokens": slot.tokens,
                "restarts": slot.restarts,
                "version": self.policy_version,
                "rss": slot.rss,
            }
            for slot in self._dispatcher.slots
        ]

    def close(self) -> None:
        """Ends the engines, and Ray if the pool started it. Again is fine."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        import ray

        if hasattr(self, "_dispatcher"):
            self._dispatcher.close()
        if hasattr(self, "_transfer"):
            self._transfer.close()
        self._held = None
        if self._owns_ray:
            ray.shutdown()

    def _requests(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, n: int, seeds: Sequence[int] | None
    ) -> list[VllmRequest]:
        return make_requests(
            prompts, sampling, n, self.max_model_len, self.vocab_size, seeds=seeds, constrains=self.constrains
        )


def _join_or_start(address: str | None, object_store_memory: int | None, dashboard: bool) -> bool:
    """Connects to Ray; whether it was started here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    address = address or os.environ.get("RAY_ADDRESS")  # set where Ray runs this process as a job
    if address is not None:
        try:
            meet(address)
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError) as error:
            raise BackendFailed(
                f"no Ray cluster at {address!r}",
                reason=str(error),
                remedy="start one (`ray start --head`), or leave the address out to start Ray here",
            ) from error
        return False
    # Ray's agents look for a dead head this long before they end; a driver that was killed leaves them till then.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    # By default Ray's workers have nice 15: beside any other busy program engines would hardly get a core.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with private_ray():
        ray.init(
            address="local",  # without one Ray would try the cluster last started here, and wait long for a dead one
            include_dashboard=dashboard,
            object_store_memory=object_store_memory,
            _node_ip_address=LOOPBACK,
            **quiet,
        )
    return True


def _check_resources(engines: int, **each: float) -> None:
    import ray

    have = ray.cluster_resources()
    for name, amount in each.items():
        if engines * amount > have.get(name, 0):
            raise ConfigError(
                f"{engines} engines with {amount} {name}s each",
                reason=f"this machine has {have.get(name, 0):g}",
                remedy=f"lower engines or {name.lower()}s_per_engine",
            )


def _actor_factory(settings: dict[str, Any], cpus: int, gpus: int, scheduling: str, holder: str) -> Any:
    import ray

    actor = ray.remote(EngineWorker).options(
        num_cpus=cpus,
        num_gpus=gpus,
        scheduling_strategy=scheduling,
        max_concurrency=_THREADS,
        max_restarts=0,
        max_task_retries=0,
        runtime_env={"env_vars": actor_environment(cpus)},
    )
    return lambda index: actor.remote(f"engine {index}", settings, holder)
