"""Runs of `ixt-rl run` in child processes, and what happens to them: kills, a full disk, torn files.

torch, transformers and TRL are imported once, here; each run is a fork, so that most of its time is the run's own.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ixt_rl import cli

PATIENCE = 180.0
"""Seconds after which a run that was not disturbed counts as hung."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status (negative: the signal that killed it), seconds, and what it printed."""

    status: int
    seconds: float
    said: str


class Child:
    """One `ixt-rl run CONFIG` in a forked process. What it prints comes through a pipe, which no full disk reaches."""

    def __init__(self, config: Path):
        self.started = time.monotonic()
        self.said = bytearray()
        self.output, written = os.pipe()
        os.set_blocking(self.output, False)
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._become(config, written)
        os.close(written)

    def _become(self, config: Path, written: int) -> None:
        os.dup2(written, 1)
        os.dup2(written, 2)
        os.setsid()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        status = 70
        try:
            sys.argv = ["ixt-rl", "run", str(config)]
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def fill_disk(self, room: int) -> None:
        """From now on no file of the process can grow beyond `room` bytes."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (room, room))

    def wait(self, seconds: float) -> Ended | None:
        """How it ended, if it did within so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._read()
            if pid:
                os.close(self.output)
                took = time.monotonic() - self.started
                return Ended(os.waitstatus_to_exitcode(status), took, self.said.decode(errors="replace"))
            time.sleep(0.01)
        return None

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.output, 1 << 16):
                self.said += part


def tear(run: Path, chance: random.Random) -> str:
    """Cuts one of the run's files at a random place, the youngest ones most likely; returns its name."""
    files = [p for p in run.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_size]
    files.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    if not files:
        return "nothing"
    file = files[min(int(chance.expovariate(0.2)), len(files) - 1)]
    size = file.stat().st_size
    os.truncate(file, chance.randrange(size))
    return f"{file.relative_to(run)}, {file.stat().st_size} of {size} bytes"


def disturbed(config: Path, run: Path, chance: random.Random, within: float) -> tuple[str, Ended]:
    """A run that something happens to at a random moment of its first `within` seconds: (what, how it ended)."""
    kind = chance.choice(["SIGKILL", "SIGTERM", "full disk", "torn file"])
    child = Child(config)
    ended = child.wait(chance.uniform(0.0, within))
    what = kind
    if ended is None and kind == "full disk":
        room = chance.choice([0, 1_000, 20_000, 100_000])
        child.fill_disk(room)
        what += f", {room} bytes"
    elif ended is None:
        os.kill(child.pid, signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
    ended = ended or child.wait(PATIENCE)
    assert ended is not None, f"{what}: the run still goes on after {PATIENCE:.0f} s:\n{child.said[-3000:]!r}"
    if kind == "torn file":
        what += f": {tear(run, chance)}"
    return what, ended
