"""How many ranks a run has."""

from __future__ import annotations

from ixt_rl.config.at_odds import beyond_openrlhf, beyond_the_ranks
from ixt_rl.config.problems import BlocksAtOdds
from ixt_rl.config.schema import RunConfig
from ixt_rl.errors import ConfigError


def with_ranks(config: RunConfig, ranks: int) -> RunConfig:
    """The run as so many ranks have it, which a launcher has started.

    Raises:
        ConfigError: the run file says more than one, and nobody has started the others; or blocks of it have something
            against that many: all of it, as `ixt-rl check` would say it of `launch.ranks`.
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
    refused = [
        *beyond_the_ranks(launch, config.engine, config.stages),
        *beyond_openrlhf(config.model.dtype, ranks, config.stages),
    ]
    if refused:
        raise BlocksAtOdds(refused)
    return config.model_copy(update={"launch": launch})
