"""Replies on disk, so that no question is asked twice: after a stop, in another process, or for an equal text."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from ixt_rl.errors import DataError
from ixt_rl.files import readable
from ixt_rl.judging.backend import LARGEST_REPLY, WRITTEN, Reply, Request, counted

_FORMAT = 1
_PATIENCE = 60.0  # seconds to wait for another process's write


class JudgeCache:
    """A table of replies in one SQLite file, written by any number of processes of one machine.

    Each reply is its own transaction in a write-ahead log: after `kill -9`, those that `put` had returned for are
    there, and one half-written is ignored and written over. A reply is never changed: the first one of a key stays.
    Only replies that the judge ended or that were cut, at the limit or in a loop, are kept, never failures. The
    file has to lie on a local disk, because SQLite's log needs shared memory.

    Args:
        file: created if it is not there; its folder too.

    Raises:
        DataError: the file is no cache of this format.
    """

    def __init__(self, file: str | os.PathLike[str]):
        self.file = Path(file)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._owner = 0
        self._connection: sqlite3.Connection | None = None
        self._moment: int | None = None
        self._counted: set[bytes] = set()
        with self._readable_errors():
            self._connect()

    @staticmethod
    def key(judge: str, request: Request) -> bytes:
        """32 bytes of the judge, the rubric, the messages and texts, the sampling and the sample number."""
        content = [
            judge, request.rubric.model_dump(), request.messages, sorted(request.fields.items()),
            request.sampling.settings(), request.sample,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(content).encode()).digest()

    def get(self, key: bytes) -> Reply | None:
        """The reply of that key, or None; also where the row is no reply. Impossible token counts come back as 0."""
        with self._readable_errors():
            query = "SELECT CAST(reply AS BLOB) FROM replies WHERE key = ?"
            row = self._connect().execute(query, (key,)).fetchone()
            reply = None if row is None else _restored(row[0])
            if row is not None and reply is None:
                self._connect().execute("DELETE FROM replies WHERE key = ?", (key,))  # so that the next one is kept
        return reply

    def put(self, key: bytes, reply: Reply) -> None:
        """Keeps a reply; does nothing if the key has one, or if it is a failure, a refusal, or larger than any."""
        if reply.finish in WRITTEN and len(reply.text) <= LARGEST_REPLY:
            with self._readable_errors():
                if self._moment is not None:  # first, so that no reply is without it
                    self._connect().execute("INSERT OR IGNORE INTO moments VALUES (?, ?)", (key, self._moment))
                    self._counted.add(key)
                self._connect().execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, json.dumps(asdict(reply))))

    def at(self, moment: int) -> None:
        """From now on, replies are asked for on behalf of this update of a training that may be stopped and resumed."""
        if moment != self._moment:
            self._moment = moment
            self._counted.clear()

    def counts(self, key: bytes) -> bool:
        """Whether a reply that is there counts as asked for now: it was first asked for at this update or a later one,
        which a stopped run had come to. Once an update: a resumed run then counts what the straight run counts."""
        if self._moment is None or key in self._counted:
            return False
        with self._readable_errors():
            row = self._connect().execute("SELECT moment FROM moments WHERE key = ?", (key,)).fetchone()
        if row is None or row[0] < self._moment:
            return False
        self._counted.add(key)
        return True

    def __len__(self) -> int:
        return self._connect().execute("SELECT count(*) FROM replies").fetchone()[0]

    def close(self) -> None:
        if self._connection is not None and self._owner == os.getpid():
            self._connection.close()
        self._connection = None

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        """Raises FileError where the disk is full or read-only, DataError where the file is damaged."""
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter: an error that quotes damaged bytes
            raise readable(error) or DataError(
                f"judge cache {self.file}",
                reason=f"SQLite cannot open it: {error}",
                remedy="give another path, or delete the file: its replies will be asked for again",
            ) from error

    def _connect(self) -> sqlite3.Connection:
        """This process's connection: one must not be used on the other side of a fork."""
        if self._connection is None or self._owner != os.getpid():
            connection = sqlite3.connect(self.file, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # a killed process loses nothing, a power cut the latest
            connection.execute("CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, reply TEXT) WITHOUT ROWID")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS moments (key BLOB PRIMARY KEY, moment INTEGER) WITHOUT ROWID"
            )
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _FORMAT):
                connection.close()
                raise sqlite3.DatabaseError(f"it has format {version}, not {_FORMAT}")
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
            self._connection, self._owner = connection, os.getpid()
        return self._connection


def _restored(row: bytes) -> Reply | None:
    try:
        kept = Reply(**json.loads(row))
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(kept.text, str) or kept.finish not in WRITTEN:
        return None
    return replace(
        kept,
        prompt_tokens=counted(kept.prompt_tokens) or 0,
        completion_tokens=counted(kept.completion_tokens) or 0,
        seconds=kept.seconds if isinstance(kept.seconds, int | float) and 0 <= kept.seconds < 1e9 else 0.0,
        retries=counted(kept.retries) or 0,
    )
