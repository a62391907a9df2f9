"""The cores that this process may use, and how OpenMP's idle threads wait for work.

torch shares an operation over threads; one that is done spins until the next begins, in libgomp for 300,000 rounds.
Where another program keeps a core busy, the spinning thread has the core that the working one waits for, at every
operation: two threads of a small model then take ten times as long as one. A bounded spin gives the core away.

Imports nothing but the standard library: `import ixt_rl` bounds the spinning before anything can have loaded torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SPIN_BOUNDS = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}
"""Of libgomp, in rounds of its loop, and of Intel's and LLVM's OpenMP, in milliseconds (200 by default)."""

_RULE = "OMP_WAIT_POLICY"  # the standard's own; it decides where it is set


def bound_spinning() -> bool:
    """Sets `SPIN_BOUNDS` in the environment, for libraries loaded from now on and for child processes.

    What the user has set is kept; where `OMP_WAIT_POLICY` is, nothing is set.

    Returns:
        Whether it came too late for this process: torch, and OpenMP with it, was loaded before, without any bound.
    """
    late = "torch" in sys.modules and not any(name in os.environ for name in (_RULE, *SPIN_BOUNDS))
    if _RULE not in os.environ:
        for name, value in SPIN_BOUNDS.items():
            os.environ.setdefault(name, value)
    return late


def spin_settings() -> dict[str, str]:
    """What the environment says of spinning, by variable: ours, or the user's."""
    return {name: os.environ[name] for name in (_RULE, *SPIN_BOUNDS) if name in os.environ}


def allowed_cores() -> int:
    """Cores that this process is bound to; all of the machine's, where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_cores() -> int:
    """`allowed_cores`, or as many as the cgroups' CPU quota keeps busy, rounded down; at least 1."""
    quota = cpu_quota()
    return max(1, allowed_cores() if quota is None else min(allowed_cores(), int(quota)))


def usable_threads() -> int:
    """`usable_cores`, or fewer where `OMP_NUM_THREADS` says so."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is of nested levels
    return min(usable_cores(), int(said)) if said.isdecimal() and int(said) > 0 else usable_cores()


def keep_to_quota() -> None:
    """Sets `OMP_NUM_THREADS` where a quota allows fewer cores than the process is bound to, which OpenMP does not see.

    A container with 2 of a host's 64 cores would otherwise compute with 64 threads, and wait for most of each period of
    its quota. What the user has set is kept.
    """
    if usable_cores() < allowed_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cores that the cgroups of this process, and those around them, may keep busy; None without a quota.

    Args:
        root: of the file system.
    """
    found = [quota for folder in _cpu_folders(root) if (quota := _quota_of(folder)) is not None]
    return min(found, default=None)


def _cpu_folders(root: Path) -> Iterator[Path]:
    """Folders of the cgroups that limit this process's CPUs, from its own up to the root of what is mounted here."""
    own: dict[str, str] = {}  # path by controller; "": of version 2
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, *_, options = after.split()
        controller = "" if kind == "cgroup2" else "cpu"
        if kind not in ("cgroup", "cgroup2") or controller not in own:
            continue
        if kind == "cgroup" and "cpu" not in options.split(","):
            continue
        mounted, at = before.split()[3:5]
        top, inside = root / at.lstrip("/"), PurePosixPath(own[controller])
        # In a container the mount may begin at its own group, while the path still counts from the machine's.
        within = inside.is_relative_to(mounted)
        inside = inside.relative_to(mounted) if within else PurePosixPath(*inside.parts[1:])
        yield from (top / one for one in (inside, *inside.parents))


def _quota_of(folder: Path) -> float | None:
    """Cores of one cgroup: `cpu.max` of version 2, `cpu.cfs_*_us` of version 1."""
    said = "".join(_lines(folder / "cpu.max")).split()
    if not said:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        said = [number for name in names for number in _lines(folder / name)]
    if len(said) != 2 or not all(number.isdecimal() for number in said) or int(said[1]) == 0:
        return None  # no such files, or `max`, or -1: no quota
    return int(said[0]) / int(said[1])


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # this system has no such file
        return []
