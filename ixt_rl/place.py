"""Where this process stands among those of a run, as launchers say it in the environment. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

LAUNCHER = "IXT_RL_LAUNCHER"
"""Variable of ranks that `ixt-rl` started: the process that did, without which they end."""


@dataclass(frozen=True)
class RankPlace:
    """One of a run's ranks.

    Args:
        rank: from 0, which leads.
        size: ranks of the run.
        local_rank: from 0, on this machine.
        local_size: ranks on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def place() -> RankPlace:
    """What `RANK`, `WORLD_SIZE`, `LOCAL_RANK` and `LOCAL_WORLD_SIZE` say; alone without them."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return RankPlace()
    local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    return RankPlace(int(os.environ["RANK"]), size, local, int(os.environ.get("LOCAL_WORLD_SIZE", size)))


def follows() -> bool:
    """Whether this is a rank that another one leads."""
    return place().rank > 0


def launcher() -> int | None:
    """The process that started the ranks, where it was `ixt-rl`."""
    said = os.environ.get(LAUNCHER)
    return int(said) if said else None
