"""The store by which ranks meet."""

from __future__ import annotations

import os
import socket
from datetime import timedelta

import torch.distributed as dist

from ixt_rl.place import RankPlace, launcher

_LOOPBACK = "127.0.0.1"


def ranks_here(store: dist.Store, here: RankPlace) -> int:
    """How many ranks are on this rank's machine, by what machines call themselves. All ranks call it.

    Raises:
        DistError: one did not come in time.
    """
    own = socket.gethostname()
    store.set(str(here.rank), own)
    return sum(store.get(str(rank)).decode() == own for rank in range(here.size))


def meet(here: RankPlace, timeout: timedelta) -> dist.Store:
    """The store of all ranks, which rank 0 serves.

    What ranks put there is unpickled, and torch's own store listens to all machines. Ranks that `ixt-rl` started are on
    one machine, and theirs listens on loopback alone; other launchers say where, and the network is theirs.

    Raises:
        DistError: not all came in time.
    """
    if launcher() is None:
        store, _, _ = next(iter(dist.rendezvous("env://", timeout=timeout)))
        return store
    port = int(os.environ["MASTER_PORT"])
    if here.rank > 0:
        return dist.TCPStore(_LOOPBACK, port, here.size, False, timeout, use_libuv=False)
    with socket.create_server((_LOOPBACK, port), backlog=here.size) as server:  # libuv's takes no socket of ours
        return dist.TCPStore(
            _LOOPBACK, port, here.size, True, timeout, master_listen_fd=os.dup(server.fileno()), use_libuv=False
        )
