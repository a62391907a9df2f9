"""What this session of a job has done: told to whoever watches, and kept on disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixt_rl.corpus.time_left import TimeLeft, time_left
from ixt_rl.errors import DataError
from ixt_rl.under_way import NOTHING, UnderWay

if TYPE_CHECKING:
    from ixt_rl.corpus.job_folder import Folder

_SAVE_EVERY = 5.0  # seconds between two writes of the session's counts


@dataclass
class TakenUp:
    """What a worker has taken up.

    Args:
        rows: read, done or not.
        replies: that these take, repairs aside.
        under_way: what is being written.
    """

    rows: int = 0
    replies: int = 0
    under_way: UnderWay = NOTHING


@dataclass
class ProgressState:
    """How far a job is.

    Args:
        phase: `reading`, `starting the judge`, `judging`, `asking again` or `reporting`, for instance.
        total: rows, or bytes while reading.
        done: of them, earlier sessions included.
        counts: of this session.
        seconds: since this session's backend was up.
        working: whether rows are passing.
        begun: what is being answered.
        longest: most tokens of a reply.
    """

    phase: str
    total: int
    done: int
    counts: JobCounts
    seconds: float
    working: bool = False
    begun: TakenUp = field(default_factory=TakenUp)
    longest: int = 0

    @property
    def written(self) -> float:
        """Tokens that replies have, those under way included."""
        return self.counts.spent["completion_tokens"] + (self.begun.under_way.tokens or 0)

    @property
    def left(self) -> TimeLeft | None:
        """Until the last row: rows that were not read yet take as many replies each as those that were, and as many of
        these have to be repaired."""
        spent, begun = self.counts.spent, self.begun
        rows = self.total - self.done + self.counts.documents  # of this session
        asked = spent["requests"] + begun.under_way.ended
        first = asked - spent["repairs"]
        if not begun.rows or first < 0:
            return None
        left = rows * begun.replies / begun.rows - first - spent["cached"]
        again = asked / first if first else 1.0
        return time_left(self.seconds, self.written, asked, max(left * again, begun.under_way.replies), self.longest)


Watch = Callable[[ProgressState], None]


class Progress:
    """Counts of this session.

    Args:
        folder: keeps them.
        total: rows of the job.
        watch: told of every step.
        longest: most tokens of a reply.
    """

    def __init__(self, folder: Folder, total: int, watch: Watch, longest: int = 0):
        self._folder, self._total, self._watch, self._longest = folder, total, watch, longest
        self._counts, self._begun = JobCounts(), TakenUp()
        self._before = self._last_save = 0.0
        self._phase = self._next = ""
        self._file: Path | None = None
        self._started: float | None = None

    def begin(self, phase: str, *, before: int = 0, then: str = "") -> None:
        """Goes to a phase, and with the first counts of rows to the phase `then`.

        Args:
            phase: what is done now.
            before: rows that earlier sessions have done.
            then: the phase in which rows pass.
        """
        self._before, self._phase, self._next, self._begun = before, phase, then, TakenUp()
        self._tell()

    def add(self, counts: JobCounts, begun: TakenUp | None = None) -> None:
        """What was done since the last call, and what is being done now, where that is told."""
        self._phase = self._next or self._phase
        self._counts.add(counts)
        self._begun = begun or self._begun
        self._tell()
        if time.monotonic() - self._last_save > _SAVE_EVERY:
            self.save()

    def up(self) -> None:
        """The backend is up: time counts from now."""
        self._started = self._started or time.monotonic()

    def save(self) -> None:
        if self._started is not None:
            self._file = self._file or self._folder.new_session()
            self._folder.write_json(self._file, asdict(self._counts) | {"wall_seconds": round(self._seconds, 3)})
            self._last_save = time.monotonic()

    @property
    def _seconds(self) -> float:
        return 0.0 if self._started is None else time.monotonic() - self._started

    def _tell(self) -> None:
        done = int(self._before) + self._counts.documents
        working = bool(self._next) and self._phase == self._next
        how = (self._counts, self._seconds, working, self._begun, self._longest)
        self._watch(ProgressState(self._phase, self._total, done, *how))


def spending(folder: Folder, parameters: int | None) -> dict[str, Any]:
    """What all sessions of a job came to, and what its backend noted; `parameters` of the model, where known."""
    sessions = folder.sessions()
    spent, notes = JobCounts().spent, []
    for session in sessions:
        counts = session.get("spent")
        if not isinstance(counts, dict) or not counts.keys() <= spent.keys():
            raise _damaged(folder)
        if not all(isinstance(value, int | float) for value in (*counts.values(), session.get("wall_seconds"))):
            raise _damaged(folder)
        for name, value in counts.items():
            spent[name] += value
        notes += [note for note in session.get("notes", []) if note not in notes]
    tokens = int(spent["prompt_tokens"] + spent["completion_tokens"])
    return spent | {
        "tokens": tokens,
        "flops": None if parameters is None else 2.0 * parameters * tokens,
        "sessions": len(sessions),
        "wall_seconds": round(sum(session["wall_seconds"] for session in sessions), 3),
        "notes": notes,
    }


def _damaged(folder: Folder) -> DataError:
    return DataError(
        f"{folder.job / 'sessions'}: a session's counts are damaged",
        reason="they do not say what it asked and spent",
        remedy="delete that file: its session is then missing in the report's sums, and nothing else",
    )


COUNTED = (
    "requests", "cached", "failed", "refused", "truncated", "looped", "retries", "repairs", "prompt_tokens",
    "completion_tokens", "seconds", "cost",
)  # fmt: skip
"""What is summed over sessions; see `Tally`."""

UNCOUNTED = "uncounted"
"""Summed too: the answers of an endpoint that came without token counts."""


@dataclass
class JobCounts:
    """Work done.

    Args:
        documents: passed, skipped ones included.
        undecided: of them.
        spent: what was asked and paid, by the names of `COUNTED` and `UNCOUNTED`.
        notes: what the backend has to say, see `EndpointBackend.notes`.
    """

    documents: int = 0
    undecided: int = 0
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*COUNTED, UNCOUNTED), 0))
    notes: list[str] = field(default_factory=list)

    def add(self, other: JobCounts) -> None:
        self.documents += other.documents
        self.undecided += other.undecided
        for name, value in other.spent.items():
            self.spent[name] += value
        self.notes = list(dict.fromkeys([*self.notes, *other.notes]))
