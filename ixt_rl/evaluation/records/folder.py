"""The folder of an evaluation. Imports no torch.

OUT/evaluation.json   what is measured, how and with what; written before anything is sampled
OUT/records.jsonl     one line a sample, in order of suite, question and sample; grows by whole chunks
OUT/chunks.jsonl      seconds and tokens of each chunk
OUT/results.json      what follows from the records; written anew whenever they change
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ixt_rl.differences import told
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.records.record import Record, record_of
from ixt_rl.files import append_rows, read_json, read_rows, write_json, write_rows
from ixt_rl.locks import locked

SETTINGS, RECORDS, CHUNKS, RESULTS = "evaluation.json", "records.jsonl", "chunks.jsonl", "results.json"

_UNCOMPARED = (("started",), ("ixt_rl",), ("engine", "version"), ("model", "path"), ("model", "name"))
"""What an evaluation may go on with otherwise: where its model lies, versions, which every record says."""

Key = tuple[str, str, int, int, str]


class EvaluationFolder:
    """Where an evaluation writes, and goes on.

    Args:
        path: made when the first file is written.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    def locked(self, doing: str) -> AbstractContextManager[None]:
        """Holds the folder for this process; the lock ends with it, however it ends.

        Raises:
            ConfigError: another process has it.
        """
        return locked(self.path, doing, "wait for it, or give another --out")

    def settings(self) -> dict[str, Any]:
        """What evaluation.json says.

        Raises:
            ConfigError: there is none.
            DataError: it is damaged.
        """
        found = read_json(self.path / SETTINGS)
        if found is None:
            raise ConfigError(
                f"folder {self.path}",
                reason=f"it has no {SETTINGS}, so that it is no evaluation's",
                remedy="name the folder that `ixt-rl eval` wrote",
            )
        return found

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Keeps the settings of a new evaluation, or makes sure that the one that is there is this one. One that has no
        record yet gives way: its engine did not start, for instance.

        Raises:
            ConfigError: it is another one; names what differs.
        """
        file, records = self.path / SETTINGS, self.path / RECORDS
        begun = records.is_file() and records.stat().st_size > 0
        if not begun or not file.is_file():
            if begun:
                raise ConfigError(
                    f"folder {self.path}",
                    reason=f"it has {RECORDS} of an unknown evaluation",
                    remedy="give another --out",
                )
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(file, settings, indent=1)
            return
        difference = told(_compared(self.settings()), _compared(settings))
        if difference:
            raise ConfigError(
                f"folder {self.path} holds another evaluation",
                reason=difference,
                remedy="give another --out, or the settings of the one there to go on with it",
            )

    def recover(self, keys: Sequence[Key], ends: Iterable[int]) -> int:
        """Takes out what a kill left of a chunk, and counts the records of the whole ones.

        Args:
            keys: `Record.key` of all records that there will be.
            ends: how many records there are at the end of each chunk.

        Raises:
            DataError: a record that is not the asked one at its place, or a damaged line before others.
        """
        file = self.path / RECORDS
        if not file.is_file():
            return 0
        whole, kept, size = {0, *ends}, 0, 0
        with file.open("r+b") as handle:
            for number, record, end in _lines(handle, file):
                if number > len(keys) or record.key != keys[number - 1]:
                    raise DataError(
                        f"{file}, line {number}: sample {record.sample} of {record.id} in {record.suite}",
                        reason="another sample is asked for at this place: questions or prompts have changed since",
                        remedy="give another --out, or what the evaluation there was made from",
                    )
                if number in whole:
                    kept, size = number, end
            handle.truncate(size)
        return kept

    def append(self, records: Sequence[Record], chunk: Mapping[str, Any]) -> None:
        """Adds a chunk: on disk when this returns, and whole or (by an error) not there."""
        append_rows(self.path / RECORDS, (record.row() for record in records), default=str)
        append_rows(self.path / CHUNKS, [chunk])

    def records(self, with_ids: bool = True) -> Iterator[Record]:
        """The records, without a last line that was cut; none where there is no file.

        Raises:
            DataError: another line is no record; names it.
        """
        file = self.path / RECORDS
        if file.is_file():
            with file.open("rb") as handle:
                yield from (record for _, record, _ in _lines(handle, file, with_ids))

    def replace_records(self, records: Iterable[Record]) -> None:
        """Writes all records anew, as a whole."""
        write_rows(self.path / RECORDS, (record.row() for record in records))

    def chunks(self) -> list[dict[str, Any]]:
        """Seconds and tokens of each chunk; of chunks whose records are gone too."""
        return read_rows(self.path / CHUNKS, ("seconds", "prompt_tokens", "completion_tokens"))

    def write_results(self, results: Mapping[str, Any]) -> None:
        write_json(self.path / RESULTS, results, indent=1)


def read_records(folder: str | Path, with_ids: bool = True) -> list[Record]:
    """All records of an evaluation's folder, in order of suite, question and sample; see `EvaluationFolder.records`.

    Args:
        with_ids: whether completions keep their token ids, which are most of what they take of memory.
    """
    return list(EvaluationFolder(Path(folder)).records(with_ids))


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = copy.deepcopy(json.loads(json.dumps(settings)))
    for *path, last in _UNCOMPARED:
        holder = found
        for key in path:
            holder = holder.get(key, {})
        holder.pop(last, None)
    for suite in found["suites"].values():
        suite.pop("notes", None)
    return found


def _lines(handle: Any, file: Path, with_ids: bool = True) -> Iterator[tuple[int, Record, int]]:
    """(number, record, where its line ends) of whole lines, up to a last one that was cut."""
    end = 0
    lines = enumerate(handle, 1)
    for number, line in lines:
        place = f"{file}, line {number}"
        try:
            row = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            if next(lines, None) is not None:
                raise DataError(
                    f"{place}: {line[:80].decode('utf-8', 'replace')!r}",
                    reason="it is no whole record, and records stand after it",
                    remedy="cut the file before that line: the same command samples the rest again",
                )
            return
        end += len(line)
        yield number, record_of(row, place, with_ids), end
