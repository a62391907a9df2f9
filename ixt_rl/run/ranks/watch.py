"""Where every rank is, known to all of them: a beat a second of each, through the launcher's store.

A rank that waits for the others longer than the deadline gets torch's error of its process group, which says neither
who is missing nor where. The beats do. At a deadline every rank writes the stacks of its threads to stderr.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from torch.distributed import DistError, PrefixStore

from ixt_rl import signals
from ixt_rl.errors import EndsWithLeader, IxtRlError, RankFailed
from ixt_rl.files import readable
from ixt_rl.redaction import redacted
from ixt_rl.signals import Stopped

BEAT = 1.0
"""Seconds between two beats."""

LOST = 4.0
"""Seconds without a beat after which a rank is taken for lost, when another has met an error."""

BOTH = 20.0
"""Seconds, at most, that a rank with an error waits to see whether rank 0 meets the same one, which then says it."""

_PACKAGE = Path(__file__).resolve().parents[2]
_OURS = (str(_PACKAGE), str(_PACKAGE.parent / "trainers"), str(_PACKAGE.parent / "rewards"))
_STACKS = "stacks"
_OF_THE_GROUP = re.compile(r"gloo|nccl|processgroup|c10d|tcpstore", re.IGNORECASE)
_LATE = re.compile(r"timed? ?out", re.IGNORECASE)


class Watch:
    """Says where this rank is, and asks where the others are.

    Args:
        store: of all ranks; the beats use a connection of their own.
        rank, size: of this rank.
        parent: the process without which this one ends; None: none.
    """

    def __init__(self, store: Any, rank: int, size: int, parent: int | None = None):
        self.rank, self.size, self.parent, self.lost = rank, size, parent, LOST
        self._asked = PrefixStore("watch", store)
        self._own = PrefixStore("watch", store.clone())
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="beats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join(timeout=2 * BEAT)

    def beats(self) -> dict[int, dict[str, Any]]:
        """The last beat of each rank: `beat`, its number; `place`, where the main thread was; `since`, for how many
        seconds. A rank that has not begun has none."""
        keys = [str(rank) for rank in range(self.size)]
        return {int(key): json.loads(self._asked.get(key)) for key in keys if self._asked.check([key])}

    def tell(self, error: BaseException) -> None:
        """Tells the other ranks what this one met, before it ends."""
        known = readable(error) or error
        what = known.what if isinstance(known, IxtRlError) else redacted(str(error))
        with suppress(RuntimeError):  # the store went with the rank, or the launcher, that had it
            self._asked.set(f"met/{self.rank}", "" if isinstance(error, Stopped) else f"{type(known).__name__}: {what}")

    def told(self) -> dict[int, str]:
        """What other ranks met that have ended or are about to, by rank; "" where a signal stopped it."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        return {rank: self._asked.get(f"met/{rank}").decode() for rank in others if self._asked.check([f"met/{rank}"])}

    def rank_0_meets_one(self) -> bool:
        """Whether rank 0 meets an error, too; waits as long as it may, at most `BOTH` seconds."""
        end = time.monotonic() + BOTH
        with suppress(RuntimeError):
            while 0 not in self.told():
                waits = self.beats().get(0, {}).get("since", 0.0) > self.lost  # for this rank
                if waits or time.monotonic() > end:
                    return False
                time.sleep(BEAT / 5)
            return True
        return False

    def let_rank_0_end(self) -> None:
        """Waits until rank 0 has reported its error and shows no more life: launchers end all ranks with the first."""
        beat = -1
        with suppress(RuntimeError):  # the store went with it
            while (now := self.beats()[0]["beat"]) != beat:
                beat = now
                time.sleep(self.lost)

    def explained(self, error: BaseException) -> RankFailed | None:
        """What an error of the process group, or the launcher's SIGTERM on rank 0, comes from, once it is known who is
        missing; None for another error.

        Writes the stacks of all ranks where it was a deadline.
        """
        if isinstance(error, Stopped):
            return self._why_stopped(error) if self.rank == 0 and error.number == signal.SIGTERM else None
        if isinstance(error, IxtRlError) or not isinstance(error, RuntimeError):
            return None
        if not isinstance(error, DistError) and not _OF_THE_GROUP.search(str(error)):
            return None
        late = _LATE.search(str(error)) is not None
        where = _waited_at(error)
        if self._orphaned:
            return self._without_launcher(where)
        try:
            if (met := self._met_by_another()) is not None:
                return met
            if late:
                self._asked.set(_STACKS, "asked for")
            before = self.beats()
            time.sleep(self.lost)
            now = self.beats()
        except RuntimeError:  # the store went with the rank, or the launcher, that had it
            return RankFailed(
                f"rank {self.rank} lost the other ranks at {where}",
                reason="the process that joined them, rank 0 or its launcher, has ended",
                remedy="what it wrote last says why; the same command goes on from the last checkpoint",
            )
        lost = _silent(before, now, self.size)
        if lost:
            return self._no_life(lost, where)
        if not late:
            return None
        others = [f"rank {rank} is at {at['place']} for {at['since']:.0f} s" for rank, at in sorted(now.items())
                  if rank != self.rank]  # fmt: skip
        return RankFailed(
            f"rank {self.rank} waited longer than launch.deadline at {where}",
            reason="; ".join(others),
            remedy="the stacks of all ranks are above. Where one was still working, raise launch.deadline; the same "
            "command goes on from the last checkpoint",
        )

    def _met_by_another(self) -> RankFailed | None:
        met = {rank: what for rank, what in sorted(self.told().items()) if what}
        if not met:
            return None
        rank, what = next(iter(met.items()))
        if self.rank > 0:
            self.let_rank_0_end()
            return EndsWithLeader(f"rank {self.rank} ends with rank {rank}", reason=what)
        return RankFailed(
            f"rank {rank} of {self.size} met an error",
            reason=what,
            remedy=f"rank {rank} says what to do; the same command goes on from the last checkpoint",
        )

    def _why_stopped(self, stop: Stopped) -> RankFailed | None:
        """Whom the launcher stopped this rank for: it sends SIGTERM to all when one ends badly, or when it is sent
        one."""
        where, end = _waited_at(stop.__context__ or stop), time.monotonic() + self.lost
        if self._orphaned:
            return self._without_launcher(where)
        with suppress(RuntimeError):
            before = self.beats()
            while time.monotonic() < end:
                if (met := self._met_by_another()) is not None:
                    return met
                if len(self.told()) == self.size - 1:  # all were sent it
                    return None
                time.sleep(BEAT / 5)
            lost = [rank for rank in _silent(before, self.beats(), self.size) if rank not in self.told()]
            return self._no_life(lost, where) if lost else None
        return None

    def _no_life(self, lost: list[int], where: str) -> RankFailed:
        return RankFailed(
            f"no sign of life from {_ranks(lost)}",
            reason=f"rank {self.rank} waited for {'it' if len(lost) == 1 else 'them'} at {where}",
            remedy="what was written last says why; the same command goes on from the last checkpoint",
        )

    @property
    def _orphaned(self) -> bool:
        """Whether the launcher has ended: its ranks end themselves, and show no more life while they do."""
        return self.parent is not None and os.getppid() != self.parent

    def _without_launcher(self, where: str) -> RankFailed:
        kind: type[RankFailed] = RankFailed if self.rank == 0 else EndsWithLeader
        return kind(
            f"the launcher, process {self.parent}, has ended",
            reason=f"its ranks end with it; rank {self.rank} was at {where}",
            remedy="see whether it was killed, or memory ran out; the same command goes on from the last checkpoint",
        )

    # ---------------------------------------------------------------- the thread

    def _beat(self) -> None:
        main = threading.main_thread().ident
        number, place, since, told = 0, "", time.monotonic(), False
        while not self._end.wait(BEAT if number else 0):
            number += 1
            if self._orphaned:
                self._end_orphan()
            frames = sys._current_frames()
            found = place_of(frames.get(main or 0))
            if found != place:
                place, since = found, time.monotonic()
            said = {"beat": number, "place": place, "since": time.monotonic() - since}
            try:
                self._own.set(str(self.rank), json.dumps(said))
                if not told and self._own.check([_STACKS]):
                    told = True
                    self._write_stacks()
            except RuntimeError:  # the store has ended, with rank 0 or the launcher
                self._end.wait(BEAT)
                if self._orphaned:
                    self._end_orphan()
                return

    def _write_stacks(self) -> None:
        print(f"\nstacks of rank {self.rank}, pid {os.getpid()}:", file=sys.__stderr__, flush=True)
        faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)

    def _end_orphan(self) -> None:
        """Ends this process, whose launcher was killed and can no longer do it."""
        os.kill(os.getpid(), signal.SIGTERM)
        self._end.wait(5 * self.lost)
        os._exit(128 + signal.SIGTERM)


def place_of(frame: FrameType | None) -> str:
    """Where a thread is: the innermost line of this library, and what it calls."""
    innermost = frame
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OURS):
            inside = "" if frame is innermost or innermost is None else f", in {innermost.f_code.co_qualname}"
            return _line(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name) + inside
        frame = frame.f_back
    if innermost is None:
        return "its end"
    return _line(innermost.f_code.co_filename, innermost.f_lineno, innermost.f_code.co_name)


def _silent(before: dict[int, dict[str, Any]], now: dict[int, dict[str, Any]], size: int) -> list[int]:
    """Ranks without a beat between two looks."""
    return [rank for rank in range(size) if rank not in now or now[rank]["beat"] == before.get(rank, {}).get("beat")]


def _waited_at(error: BaseException) -> str:
    """The innermost line of this library's own that an error went through, handlers of signals aside."""
    trace, found = error.__traceback__, "a wait of torch's"
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(_OURS) and code.co_filename != signals.__file__:
            found = _line(code.co_filename, trace.tb_lineno, code.co_name)
        trace = trace.tb_next
    return found


def _line(file: str, number: int, name: str) -> str:
    path = Path(file)
    shown = path.relative_to(_PACKAGE.parent) if path.is_relative_to(_PACKAGE.parent) else Path(*path.parts[-2:])
    return f"{shown}:{number} in {name}"


def _ranks(numbers: list[int]) -> str:
    return ("rank " if len(numbers) == 1 else "ranks ") + ", ".join(map(str, numbers))
