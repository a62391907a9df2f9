"""Rows of token ids on disk, in the order in which they are trained: written before a job, read by its ranks.

    ids.bin      int32, the tokens of all rows end to end
    trained.bin  bool, whether each is in the loss
    starts.bin   int64 [rows + 1], where each row begins in the two

Imports no torch. Shapes: T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ixt_rl.data.piece_buffer import IGNORED
from ixt_rl.errors import DataError

_IDS, _TRAINED, _STARTS = "ids.bin", "trained.bin", "starts.bin"


def write_token_files(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as `PackedRows` gives them, one at a time.

    Args:
        folder: is made.
        rows: each with `input_ids` and `labels` (T,); a label of -100 is not trained.
    """
    folder.mkdir(parents=True)
    starts = [0]
    with (folder / _IDS).open("wb") as ids, (folder / _TRAINED).open("wb") as trained:
        for row in rows:
            ids.write(np.asarray(row["input_ids"], dtype=np.int32).tobytes())
            trained.write((np.asarray(row["labels"]) != IGNORED).tobytes())
            starts.append(starts[-1] + len(row["input_ids"]))
    (folder / _STARTS).write_bytes(np.asarray(starts, dtype=np.int64).tobytes())  # last: without it nothing is read


class TokenFiles:
    """The rows that `write_token_files` wrote, read where they lie: `rows[place]` is `(ids, trained)`, each (T,).

    Raises:
        DataError: the folder has no such files.
    """

    def __init__(self, folder: Path):
        if not (folder / _STARTS).is_file():
            raise DataError(
                f"{folder}: no {_STARTS}",
                reason="there are no rows, or their writing was stopped",
                remedy="give every process the folder of the run",
            )
        self._starts = np.fromfile(folder / _STARTS, dtype=np.int64)
        self._ids = np.memmap(folder / _IDS, dtype=np.int32, mode="r")
        self._trained = np.memmap(folder / _TRAINED, dtype=np.bool_, mode="r")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        span = slice(self._starts[place], self._starts[place + 1])
        return np.array(self._ids[span]), np.array(self._trained[span])
