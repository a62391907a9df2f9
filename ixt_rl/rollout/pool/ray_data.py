"""Ray Data over actors that keep something heavy, an engine for instance, from item to item."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ixt_rl import errors
from ixt_rl.backends import require
from ixt_rl.rollout.pool.environment import actor_environment

_RESTARTS = 3  # of an actor that dies, and of the item it had


@contextmanager
def ray_session(address: str | None, workers: int, cpus: int, gpus: int) -> Iterator[None]:
    """Ray for the time of a `with`: this process's session, else the cluster at `address`, else one started here.

    Raises:
        BackendMissing: Ray is not installed.
        BackendFailed: there is no such cluster.
        ConfigError: Ray was started here, and this machine has less than what the workers reserve.
    """
    require("ray", used_for="--engine ray")
    # not at the top: the actors, which import this file, would wait for torch
    from ixt_rl.rollout.pool.ray_pool import _check_resources, _join_or_start

    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    started = _join_or_start(address, None, False)
    import ray

    try:
        if started:
            _check_resources(workers, CPU=cpus, GPU=gpus)
        yield
    finally:
        if started:
            ray.shutdown()


def map_on_actors(
    build: Callable[..., Callable[[str], str]],
    arguments: Sequence[Any],
    items: Sequence[dict[str, Any]],
    *,
    workers: int = 1,
    cpus: int = 1,
    gpus: int = 0,
) -> Iterator[dict[str, Any]]:
    """Results of `items` as they come, in any order, from `map_batches` over a pool of actors. Needs a `ray_session`.

    An actor that dies is replaced and its item done again, so items must bear being done twice.

    Args:
        build: called once in each actor, when its first item is there; makes a function from JSON to JSON.
        arguments: of `build`; pickled.
        items: JSON.
        workers: actors.
        cpus, gpus: that Ray reserves for each; `cpus` is also the number of threads it computes with.

    Raises:
        BackendFailed: an actor failed for another reason than an error of this library.
        IxtRlError: one that an actor raised, as it raised it.
    """
    import ray

    try:
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        rows = ray.data.from_items([{"item": json.dumps(item)} for item in items], override_num_blocks=len(items))
        results = rows.map_batches(
            _OnActor,
            fn_constructor_args=(build, list(arguments)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
            runtime_env={"env_vars": actor_environment(cpus)},
        )
        for row in results.iter_rows():
            result = json.loads(row["result"])
            if "error" in result:
                raise _error(*result["error"])
            yield result
    except ray.exceptions.RayError as error:
        raise errors.BackendFailed(
            "a Ray actor failed", reason=str(error), remedy="see the log under /tmp/ray, and go on with the same call"
        ) from error


class _OnActor:
    """One actor: an item in, a result out. Errors of this library travel as JSON, because Ray would wrap them."""

    def __init__(self, build: Callable[..., Callable[[str], str]], arguments: Sequence[Any]):
        self._build, self._arguments = build, arguments
        self._function: Callable[[str], str] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        try:
            if self._function is None:
                self._function = self._build(*self._arguments)
            return {"result": [self._function(str(item)) for item in batch["item"]]}
        except errors.IxtRlError as error:
            said = [type(error).__name__, error.what, error.reason, error.remedy]
            return {"result": [json.dumps({"error": said})]}


def _error(name: str, what: str, reason: str, remedy: str) -> errors.IxtRlError:
    return getattr(errors, name, errors.BackendFailed)(what, reason=reason, remedy=remedy)
