"""Where this process stands among those of a run, as launchers say it in the environment. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ixt_rl.errors import ConfigError

LAUNCHER = "IXT_RL_LAUNCHER"
"""Variable of ranks that `ixt-rl` started: the process that did, without which they end."""

_RANK = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", LAUNCHER),
    *("LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE"),  # DeepSpeed's: ranks of a machine, which machine, of how many
)

_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables of MPI's launchers by which accelerate, on CPUs, takes processes for ranks."""


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


LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE")
"""Variables that say how many ranks a machine has; the second is DeepSpeed's. Where a launcher writes neither, as srun,
ranks count themselves when they have met."""


def place() -> RankPlace:
    """What `RANK`, `WORLD_SIZE`, `LOCAL_RANK` and one of `LOCAL_SIZES` say; alone without them.

    Raises:
        ConfigError: there are several ranks, and the environment does not say which of them this is.
    """
    size = _said("WORLD_SIZE", 1)
    if size == 1:
        return RankPlace()
    rank = _said("RANK")
    local_size = next((name for name in LOCAL_SIZES if os.environ.get(name)), LOCAL_SIZES[0])
    here = RankPlace(rank, size, _said("LOCAL_RANK", rank), _said(local_size, size))
    if not here.rank < here.size:  # those of a machine may disagree: accelerate writes a 1 as LOCAL_WORLD_SIZE
        raise _unclear(f"{here} in the environment")
    return here


def launched() -> list[str]:
    """Variables of the environment by which a launcher told this process which rank it is, and where the others are."""
    return [name for name in os.environ if name in _RANK or name.startswith("TORCHELASTIC_")]


def _said(name: str, default: int | None = None) -> int:
    value = os.environ.get(name) or ("" if default is None else str(default))
    if not value.strip().isdecimal():
        raise _unclear(f"{name}={value!r}" if value else f"WORLD_SIZE={os.environ['WORLD_SIZE']} without {name}")
    return int(value)


def _unclear(what: str) -> ConfigError:
    return ConfigError(
        what,
        reason="a launcher says by RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE which of the ranks a process is",
        remedy="start `ixt-rl run` by torchrun; where a platform sets WORLD_SIZE for its nodes, unset it: "
        "env -u WORLD_SIZE ixt-rl ...",
    )


def check_started() -> None:
    """Refuses to run alone what `accelerate launch` was told to start several times, or what MPI has.

    Without a GPU for each accelerate starts a script once, and says nothing: `--cpu` counts on mpirun for the others.
    What mpirun, or srun with PMI, has started it then takes for ranks of one run, which here are runs of their own.

    Raises:
        ConfigError: says which commands start all.
    """
    for name in [] if _said("WORLD_SIZE", 0) else _MPI:
        if _said(name, 1) > 1:
            raise ConfigError(
                f"{name}={os.environ[name]} without WORLD_SIZE",
                reason="MPI started several processes, each the whole run; without a GPU accelerate would join them",
                remedy="start the ranks of one run by torchrun, or by ixt-rl run FILE launch.ranks=2; for runs of "
                f"their own: env -u {name} ixt-rl run ...",
            )
    if not _said("WORLD_SIZE", 0) and {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys():
        raise ConfigError(
            "accelerate launch with several processes started one",
            reason="with --cpu, or without --multi_gpu where there are no GPUs for them, it leaves them to mpirun",
            remedy="accelerate launch --multi_gpu --num_processes 2 -m ixt_rl run FILE (without GPUs, too), "
            "or ixt-rl run FILE launch.ranks=2",
        )


def follows() -> bool:
    """Whether this is a rank that another one leads."""
    return place().rank > 0


def launcher() -> int | None:
    """The process that started the ranks, where it was `ixt-rl`."""
    said = os.environ.get(LAUNCHER)
    return int(said) if said else None
