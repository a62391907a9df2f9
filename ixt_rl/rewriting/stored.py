"""Rewrites that `ixt-rl rewrite` has written, in place of a rewriter that is asked while training."""

from __future__ import annotations

import glob
import os
from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixt_rl.data.readers import READERS, Cursor
from ixt_rl.errors import DataError
from ixt_rl.types import Candidate

if TYPE_CHECKING:
    from ixt_rl.data.suffixes import PrefixSuffix

_COLUMNS = ["prefix_ids", "suffix_ids", "rewrite", "rewrite_ids"]


class StoredRewrites:
    """Gives the stored rewrite of each suffix, as a `Rewriter` would; nothing is asked.

    Suffixes are found by the ids of prefix and suffix, so they have to be cut as the job cut them: by the same
    tokenizer and lengths. Holds every rewrite in memory, 4 bytes a token and its text.

    Args:
        path: the job's folder, one of its files, or a pattern of such.

    Raises:
        DataError: no such file; rows without these columns, or without any rewrite.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        self._rewrites: dict[bytes, tuple[bytes, str] | None] = {}
        for file in _files(self.path):
            for row in READERS[file.suffix](str(file), Cursor(), _COLUMNS):
                self._keep(row, file)
        if not any(self._rewrites.values()):
            raise DataError(
                f"{self.path}: no rewrite",
                reason=f"{len(self._rewrites)} suffixes are there, and none has one",
                remedy="look into rewriting.html beside the files, and rewrite again",
            )

    def __len__(self) -> int:
        """Number of different suffixes, those without a rewrite included."""
        return len(self._rewrites)

    def __call__(self, items: Sequence[PrefixSuffix]) -> list[Candidate | None]:
        """A candidate of source `rewrite` for each item; None where the rewriter gave none.

        Raises:
            DataError: an item that is not in the file.
        """
        return [self._candidate(item) for item in items]

    def _candidate(self, item: PrefixSuffix) -> Candidate | None:
        key = _key(item.prefix_ids, item.suffix_ids)
        if key not in self._rewrites:
            raise DataError(
                f"{item.key or 'a document'}: its suffix of {len(item.suffix_ids)} tokens is not in {self.path}",
                reason="the documents are others, or they were cut otherwise",
                remedy="give the documents, the tokenizer, --suffix-tokens, --max-prefix-tokens and "
                "--min-prefix-tokens that the rewrites were made with",
            )
        found = self._rewrites[key]
        return None if found is None else Candidate("rewrite", tuple(array("i", found[0])), found[1])

    def _keep(self, row: Mapping[str, Any], file: Path) -> None:
        missing = [name for name in _COLUMNS if name not in row]
        if missing:
            raise DataError(
                f"{file}: no column {missing[0]!r}",
                reason="it was not written by `ixt-rl rewrite` with a prompt for suffixes",
                remedy="give the folder that the command wrote",
            )
        if row["suffix_ids"] is None:  # a document that could not be cut
            return
        key, text = _key(row["prefix_ids"], row["suffix_ids"]), row["rewrite"]
        if not self._rewrites.get(key):  # equal documents have equal rewrites, but for requests that failed
            self._rewrites[key] = None if text is None else (array("i", row["rewrite_ids"]).tobytes(), text)


def _key(prefix: Sequence[int], suffix: Sequence[int]) -> bytes:
    digest = blake2b(array("q", [len(prefix)]).tobytes(), digest_size=16)
    digest.update(array("i", prefix).tobytes() + array("i", suffix).tobytes())
    return digest.digest()


def _files(path: str) -> list[Path]:
    folder = Path(path)
    if folder.is_dir():
        found = sorted([*folder.glob("part-*.parquet"), *folder.glob("part-*.jsonl")])
    else:
        found = sorted(map(Path, glob.glob(path))) if glob.has_magic(path) else [folder]
    for file in found or [folder]:
        if not file.is_file() or file.suffix not in READERS:
            raise DataError(
                f"{file}: no rewrites",
                reason="it is neither a folder with part-* files nor a .parquet or .jsonl file",
                remedy="give the OUT of `ixt-rl rewrite`",
            )
    return found
