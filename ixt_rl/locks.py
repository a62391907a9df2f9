"""One process at a time in a folder: a lock that ends with its process, and says who has it."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ixt_rl.errors import ConfigError

LOCK = "lock"
"""File of a folder that one process at a time holds; it stays, empty of meaning, when nobody does."""

_LOOKS_S = 0.2  # between two looks at a lock that is waited for


@contextmanager
def locked(
    folder: Path, doing: str, remedy: str = "wait for it", *, wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Holds a folder for this process, and makes it; the lock ends with the process, however it ends (`flock`).

    Args:
        folder: its file `lock` says who holds it.
        doing: what its holder does there, for the message: `annotating into it`.
        remedy: what to do where another process has it.
        wait: called once, with who has it, before waiting; None: it is not waited for.

    Raises:
        ConfigError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+", encoding="utf-8") as handle:
        if not _take(handle.fileno()):
            holder = _holder(folder / LOCK)
            if wait is None:
                raise ConfigError(f"folder {folder}", reason=f"another process is {doing}: {holder}", remedy=remedy)
            wait(holder)
            while not _take(handle.fileno()):
                time.sleep(_LOOKS_S)
        handle.truncate(0)
        handle.write(json.dumps(_me()))
        handle.flush()
        try:
            yield
        finally:
            handle.truncate(0)  # a holder's name in a lock that nobody holds would mislead


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _me() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500],
    }


def _holder(file: Path) -> str:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return f"pid {said['pid']} on {said['host']}, `{said['command']}`, since {said['since']}"
    except (ValueError, LookupError, TypeError):  # it was taken this very moment
        return "it has not said who it is yet"
