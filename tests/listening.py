"""What a test's processes listen on: nobody beyond this machine is to reach them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

LOOPBACK = ("127.", "::1", "::ffff:127.")
_EVERY = 5.0


def beyond_loopback() -> set[tuple[str, str, int]]:
    """(process, address, port) that this process or one below it listens on, and that other machines can reach."""
    found = set()
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        try:
            name = f"{process.pid} {process.name()}"
            connections = process.net_connections("inet")
        except psutil.Error:  # it has ended
            continue
        for each in connections:
            if each.status == psutil.CONN_LISTEN and not each.laddr.ip.startswith(LOOPBACK):
                found.add((name, each.laddr.ip, each.laddr.port))
    return found


@contextmanager
def watched(every: float = _EVERY) -> Iterator[set[tuple[str, str, int]]]:
    """What is open beyond loopback at some moment of a `with`, looked for every so many seconds; what was
    before is not."""
    before = beyond_loopback()
    found: set[tuple[str, str, int]] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(every):
            found.update(beyond_loopback() - before)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        found.update(beyond_loopback() - before)
