"""Starts a run's ranks on this machine, by torch's own launcher, and says how they ended.

What one rank does to the others is torch's: when one ends badly, the others get SIGTERM, and `GRACE` seconds later
SIGKILL; a signal to this process goes to all of them. Whoever reaches what ranks meet by can run code in them, and
torch opens it to all machines: these meet by files of this user, and on loopback (`ixt_rl.run.ranks.meeting`).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence

from ixt_rl.errors import RankFailed
from ixt_rl.place import LAUNCHER

GRACE = 30
"""Seconds that ranks have to end in good order."""

_NO_SHARED_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"  # which the launcher would open to all machines


def start_ranks(words: Sequence[str], ranks: int, cluster: bool = False) -> int:
    """Runs `ixt-rl WORDS` in as many processes, and waits until they have ended.

    Args:
        words: of the command.
        ranks: how many.
        cluster: rank 0 sends weights to engines on other machines; else gloo is told to use loopback alone, unless
            `GLOO_SOCKET_IFNAME` is set.

    Returns:
        An exit status: 0, or that of the rank that failed first, which has said why; that of a signal to this process.

    Raises:
        RankFailed: a rank was killed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it is said here, in fewer words
    os.environ |= {LAUNCHER: str(os.getpid()), _NO_SHARED_STORE: "1"}
    if not cluster:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        with tempfile.TemporaryDirectory(prefix="ixt-rl-ranks-") as logs:
            config = LaunchConfig(
                min_nodes=1, max_nodes=1, nproc_per_node=ranks, run_id=uuid.uuid4().hex, max_restarts=0,
                rdzv_backend="c10d", rdzv_endpoint=os.path.join(logs, "meeting"), rdzv_configs={"store_type": "file"},
                local_addr="localhost", shutdown_timeout=GRACE, logs_specs=DefaultLogsSpecs(log_dir=logs),
            )  # fmt: skip
            elastic_launch(config, sys.executable)("-m", "ixt_rl", *words)
    except SignalException as stop:
        return 128 + int(stop.sigval)  # rank 0 has said so
    except ChildFailedError as error:
        return _status({rank: failure.exitcode for rank, failure in error.failures.items()}, ranks)
    finally:
        del os.environ[LAUNCHER], os.environ[_NO_SHARED_STORE]
    return 0


def _status(ended: dict[int, int], ranks: int) -> int:
    """The exit status of ranks of which some ended badly; `ended`: by rank, minus the signal where one killed it."""
    killed = {rank: -code for rank, code in ended.items() if code < 0 and -code != signal.SIGTERM}
    if killed:
        rank, number = min(killed.items())
        raise RankFailed(
            f"rank {rank} of {ranks} was ended by {signal.Signals(number).name}",
            reason="the others were stopped: they train one model together"
            + ("; the system does so where memory is short" if number == signal.SIGKILL else ""),
            remedy="the same command goes on from the last checkpoint",
        )
    return next((code for code in ended.values() if code > 0), 1)
