"""How many ranks a run has."""

from __future__ import annotations

from ixt_rl.config.ranks import check_ranks
from ixt_rl.config.schema import RunConfig
from ixt_rl.config.strategies import check_strategy
from ixt_rl.errors import ConfigError


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
    launch = config.launch.model_copy(update={"ranks": ranks})
    check_ranks(ranks, config.engine, config.stages)
    check_strategy(launch, config.stages)
    return config.model_copy(update={"launch": launch})
