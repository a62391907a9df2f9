"""What a run over several ranks needs of the rest of its file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, gcd, lcm
from typing import Any

from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.config.problems import Refused
from ixt_rl.errors import ConfigError

_BATCHES = ("rollouts_per_step", "batch_size")


def refused_by_ranks(ranks: int, engine: EngineBlock, stages: Sequence[Any]) -> Iterator[Refused]:
    """Batches and groups that ranks cannot share evenly, and an engine that none of them can have."""
    if ranks == 1:
        return
    if engine.type == "vllm":
        yield (
            ("engine", "type"),
            ConfigError(
                f"engine.type: vllm with launch.ranks={ranks}",
                reason="in the process of a rank, vLLM takes all ranks for its own parts, and waits for them",
                remedy="set engine.type: ray-vllm (with engine.pool.engines: 1 it is one vLLM, in a process beside the "
                "ranks), or launch.ranks: 1",
            ),
        )
    for index, stage in enumerate(stages):
        for key, error in (*_uneven(ranks, stage), *_broken_groups(ranks, stage)):
            yield ("stages", index, key), error


def rows_at_once(batch: int, micro_batch: int | None, ranks: int) -> int:
    """A rank's rows in one forward pass: of its share of a batch of all, in equal passes of at most `micro_batch`."""
    rows = ceil(batch / ranks)
    return gcd(rows, micro_batch or rows)


def _uneven(ranks: int, stage: Any) -> Iterator[tuple[str, ConfigError]]:
    for key in _BATCHES:
        batch = getattr(stage, key, None)
        if batch is not None and batch % ranks:
            whole = _whole(ranks, stage) if key == "rollouts_per_step" else ranks
            yield (
                key,
                ConfigError(
                    f"{key}={batch} of stage {stage.name} with launch.ranks={ranks}",
                    reason="each rank has an equal part of every batch",
                    remedy=f"set {key}: {_nearest(batch, whole)}, or another number of ranks",
                ),
            )


def _broken_groups(ranks: int, stage: Any) -> Iterator[tuple[str, ConfigError]]:
    if not getattr(stage, "samples_again", ""):
        return
    rows, whole = stage.rollouts_per_step, _whole(ranks, stage)
    if rows % ranks == 0 and rows * stage.steps_per_generation % whole:
        yield (
            "rollouts_per_step",
            ConfigError(
                f"rollouts_per_step={rows} of stage {stage.name} with {stage.samples_again} and launch.ranks={ranks}",
                reason=f"each rank samples whole groups of {stage.group_size} once more",
                remedy=f"set rollouts_per_step: {_nearest(rows, whole)}, or another number of ranks",
            ),
        )


def _whole(ranks: int, stage: Any) -> int:
    """Rollouts that ranks share evenly: in whole groups, and of whole groups each where those are sampled again."""
    group = getattr(stage, "group_size", 1)
    return ranks * group if getattr(stage, "samples_again", "") else lcm(ranks, group)


def _nearest(rows: int, whole: int) -> int:
    """The multiple of `whole` that is nearest, at least one."""
    return max(1, round(rows / whole)) * whole
