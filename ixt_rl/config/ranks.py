"""What a run over several ranks needs of the rest of its file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.errors import ConfigError

if TYPE_CHECKING:
    from ixt_rl.config.schema import RunConfig

_BATCHES = ("rollouts_per_step", "batch_size")


def check_ranks(ranks: int, engine: EngineBlock, stages: Sequence[Any]) -> None:
    """Refuses batches that ranks cannot share evenly, and engines that they cannot share.

    Raises:
        ConfigError: names the stage and its key.
    """
    if ranks == 1:
        return
    if engine.type != "transformers":
        raise ConfigError(
            f"engine.type: {engine.type} with launch.ranks={ranks}",
            reason="each rank samples with its own copy of the model; one vLLM for all ranks is not supported",
            remedy="set engine.type: transformers, or launch.ranks: 1 (a pool of engines beside one trainer)",
        )
    for stage in stages:
        for key in _BATCHES:
            batch = getattr(stage, key, None)
            if batch is not None and batch % ranks:
                raise ConfigError(
                    f"{key}={batch} of stage {stage.name} with launch.ranks={ranks}",
                    reason="each rank has an equal part of every batch",
                    remedy=f"set {key}: {max(1, round(batch / ranks)) * ranks}, or other ranks",
                )


def with_ranks(config: RunConfig, ranks: int) -> RunConfig:
    """The run as so many ranks have it, which a launcher has started.

    Raises:
        ConfigError: the run file says more than one, and nobody has started the others; or see `check_ranks`.
    """
    if config.launch.ranks == ranks:
        return config
    if ranks == 1:
        raise ConfigError(
            f"launch.ranks={config.launch.ranks} in a run of one process",
            reason="the other ranks have to be started",
            remedy="run it by `ixt-rl run FILE`, which starts them, or by torchrun",
        )
    check_ranks(ranks, config.engine, config.stages)
    return config.model_copy(update={"launch": config.launch.model_copy(update={"ranks": ranks})})
