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
from typing import IO

from ixt_rl.errors import ConfigError
from ixt_rl.redaction import redacted

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
    with _held(folder, doing, remedy, wait) as handle:
        _say(handle)
        try:
            yield
        finally:
            handle.truncate(0)  # a holder's name in a lock that nobody holds would mislead


def _held(folder: Path, doing: str, remedy: str, wait: Callable[[str], None] | None) -> IO[str]:
    """The open lock of a folder, taken."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK).open("a+", encoding="utf-8")
        try:
            if not _take(handle):
                holder = _holder(folder / LOCK)
                if wait is None:
                    raise ConfigError(f"folder {folder}", reason=f"another process is {doing}: {holder}", remedy=remedy)
                wait(holder)
                while not _take(handle):
                    time.sleep(_LOOKS_S)
            if _is_at(handle, folder / LOCK):
                return handle
        except BaseException:
            handle.close()
            raise
        handle.close()  # the folder was deleted meanwhile: who makes it anew has another lock


def _take(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # of a file system without locks
        error.filename = handle.name
        raise
    return True


def _say(handle: IO[str]) -> None:
    """Writes who holds the lock."""
    try:
        handle.truncate(0)
        handle.write(json.dumps(_me()))
        handle.flush()
    except OSError as error:  # a full disk; the error of a write names no file
        error.filename = handle.name
        raise


def _is_at(handle: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _me() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": redacted(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))[:500],
    }


def _holder(file: Path) -> str:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return f"pid {said['pid']} on {said['host']}, `{said['command']}`, since {said['since']}"
    except (ValueError, LookupError, TypeError, FileNotFoundError):  # it was taken this very moment
        return "it has not said who it is yet"
