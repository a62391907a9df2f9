"""Documents from a weighted mixture of files larger than memory, with a cursor that resumes exactly.

    files --readers--> rows --Source's columns--> Documents --weights, seed--> one stream

`datasets.interleave_datasets` mixes too, but over iterables that re-read their files to resume (see readers.py). Here
draw number n is a hash of (seed, n), so that a stream's whole state is a few integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import accumulate
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ixt_rl.conditioning.conditioner import share
from ixt_rl.data.feedback_columns import read_feedback
from ixt_rl.data.readers import READERS, Cursor, columns_of, read_hub
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.types import Document

if TYPE_CHECKING:
    from ixt_rl.data.holdout import Holdout

_FEEDBACK_COLUMNS = ("level", "scores", "critique", "judge", "tokens")


@dataclass(frozen=True)
class Source:
    """Where documents come from, and how often.

    Args:
        files: .jsonl, .json and .parquet files, read in this order; or one hub dataset's id.
        text: column of the document; with `prompt`, of the reply.
        prompt: column of what the text replies to; None: documents of their own.
        feedback: prefix of the feedback columns that `ixt-rl annotate` wrote; None: feedback is not read.
        weight: share of the documents drawn from this source, relative to the other sources' weights.
        name: configuration of the hub dataset.
        split: split of the hub dataset.

    Raises:
        ConfigError: no file, or a weight that is not a positive number.
    """

    files: tuple[str, ...]
    text: str = "text"
    prompt: str | None = None
    feedback: str | None = "feedback"
    weight: float = 1.0
    name: str | None = None
    split: str = "train"

    def __post_init__(self) -> None:
        if not self.files or isinstance(self.files, str):
            raise ConfigError(
                f"files={self.files!r}",
                reason="a source reads a list of files",
                remedy="give at least one, also if it is only one, in a list",
            )
        if not isfinite(self.weight) or self.weight <= 0:
            raise ConfigError(
                f"weight={self.weight!r} of {self.files[0]}",
                reason="documents are drawn in proportion to the weights",
                remedy="give a positive number, or leave the source out",
            )

    @property
    def is_hub(self) -> bool:
        """Whether `files` is the id of one dataset, not files."""
        return len(self.files) == 1 and Path(self.files[0]).suffix not in READERS and not Path(self.files[0]).is_file()

    @property
    def columns(self) -> list[str]:
        """Every column that is read."""
        feedback = [f"{self.feedback}_{name}" for name in _FEEDBACK_COLUMNS] if self.feedback else []
        return [self.text, *([self.prompt] if self.prompt else []), *feedback]

    @property
    def required(self) -> list[str]:
        """The columns that there must be: text, prompt, and of the feedback its level."""
        return self.columns[: 1 + bool(self.prompt) + bool(self.feedback)]


class SourceReader:
    """The documents of one source, pass after pass; `cursor` and `epoch` say where it is."""

    def __init__(self, source: Source, holdout: Holdout | None = None):
        self.source, self.holdout = source, holdout
        self.cursor = Cursor()
        self.epoch = 0
        self.empty = 0
        self._rows = self._pass()

    def check(self) -> None:
        """Reads the first row of every file.

        Raises:
            DataError: a file that is missing, empty or of an unknown kind, a missing column, a row that is not text.
        """
        for file in range(len(self.source.files)):
            if not self.source.is_hub:
                self._check_file(self.source.files[file])
            cursor = Cursor(file=file)
            row = next(self._read(cursor), None)
            if row is None:
                raise DataError(
                    f"{self.source.files[file]}: empty",
                    reason="it has no row",
                    remedy="leave it out of `files`, or write it again",
                )
            self._document(row, cursor)

    def next(self) -> Document | None:
        """The next document that is not empty; None at the end of a pass, after which the next one begins.

        Raises:
            DataError: a row that cannot be used, or a whole pass of empty documents.
        """
        for document in self._rows:
            if not document.text or document.text.isspace():
                self.empty += 1
            elif self.holdout is None or not self.holdout.excludes(document):
                return document
        self.epoch += 1
        self.cursor = Cursor()
        self._rows = self._pass()
        return None

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "empty": self.empty, **asdict(self.cursor)}

    def load(self, state: Mapping[str, Any]) -> None:
        place = dict(state)
        self.epoch, self.empty = place.pop("epoch"), place.pop("empty")
        self.cursor = Cursor(**place)
        self._rows = self._pass()

    def _pass(self) -> Iterator[Document]:
        """From the cursor to the end of the last file; the cursor is past a document before it is given out."""
        cursor = self.cursor
        while cursor.file < len(self.source.files):
            for row in self._read(cursor):
                yield self._document(row, cursor)
            cursor.next_file()

    def _read(self, cursor: Cursor) -> Iterator[Mapping[str, Any]]:
        source, path = self.source, self.source.files[cursor.file]
        if source.is_hub:
            return read_hub(path, source.name, source.split, cursor)
        return READERS[Path(path).suffix](path, cursor, source.columns)

    def _check_file(self, path: str) -> None:
        if Path(path).suffix not in READERS:
            raise DataError(
                f"{path}: unknown kind of file",
                reason=f"its name ends in {Path(path).suffix!r}",
                remedy=f"one of {', '.join(READERS)}",
            )
        if not Path(path).is_file():
            raise DataError(f"{path}: no such file", reason="nothing is there", remedy="check the path")
        columns = columns_of(path)
        if columns is not None:
            self._require(columns, path)

    def _require(self, present: Sequence[str] | Mapping[str, Any], place: str) -> None:
        for name in self.source.required:
            if name not in present:
                is_feedback = name not in (self.source.text, self.source.prompt)
                raise DataError(
                    f"{place}: no column {name!r}",
                    reason=f"its columns are {', '.join(map(repr, present))}",
                    remedy="annotate the file with `ixt-rl annotate`, or set the source's `feedback` to null"
                    if is_feedback
                    else "map columns with the source's `text` and `prompt`",
                )

    def _document(self, row: Mapping[str, Any], cursor: Cursor) -> Document:
        source, key = self.source, f"{self.source.files[cursor.file]}:{cursor.row}"
        try:
            text, prompt = row[source.text], row[source.prompt] if source.prompt else ""
            for value in (text, prompt):
                if not value.isascii():
                    value.encode()  # half a surrogate pair is no text
            if not source.feedback:
                return Document(text, prompt, None, key)
            if f"{source.feedback}_level" in row:
                judged = (row.get(f"{source.feedback}_tokens") or 0) if self.epoch == 0 else 0
                return Document(text, prompt, read_feedback(row, source.feedback), key, judged)
        except KeyError:
            pass
        except (AttributeError, ValueError) as error:
            raise self._bad_row(row, key, error) from None
        self._require(row, key)
        raise AssertionError(f"{key}: every required column is there")

    def _bad_row(self, row: Mapping[str, Any], key: str, error: Exception) -> DataError:
        for name in (self.source.text, self.source.prompt):
            if name and not isinstance(row[name], str):
                return DataError(
                    f"{key}: {name}={row[name]!r:.80}",
                    reason=f"it is of type {type(row[name]).__name__}, not text",
                    remedy="remove the row, or write its text as a string",
                )
        return DataError(f"{key}: a row that cannot be used", reason=str(error), remedy="correct the row, or remove it")


class DocumentStream:
    """Documents of several sources in proportion to their weights, in the order of their files.

    A source that ends begins again; with `epochs` it ends after that many passes, the others go on in proportion to
    their own weights, and the stream ends with the last of them: every document comes `epochs` times. Documents
    without text are passed over and counted.

    Iterating goes on from where the stream stands; a second iterator goes on where the first one stopped.

    Args:
        sources: at least one.
        seed: of the draws between sources.
        epochs: passes over each source; None: no end.
        holdout: documents that never come, and do not count in the weights.

    Raises:
        ConfigError: no source, or epochs < 1.
        DataError: a file or a first row that cannot be used; later rows are checked as they come.
    """

    def __init__(self, sources: Sequence[Source], seed: int, epochs: int | None = None, holdout: Holdout | None = None):
        if not sources or (epochs is not None and epochs < 1):
            raise ConfigError(
                f"{len(sources)} sources with epochs={epochs}",
                reason="there is nothing to read",
                remedy="give at least one source, and epochs of at least 1, or none for a stream without end",
            )
        self.sources, self.seed, self.epochs, self.holdout = tuple(sources), seed, epochs, holdout
        self._drawn = 0
        self._readers = [SourceReader(source, holdout) for source in sources]
        for reader in self._readers:
            reader.check()
        self._files = self._fingerprint()

    @property
    def empty(self) -> int:
        """Documents passed over because they had no text."""
        return sum(reader.empty for reader in self._readers)

    def __iter__(self) -> Iterator[Document]:
        while active := [r for r in self._readers if self.epochs is None or r.epoch < self.epochs]:
            reader = self._draw(active)
            document = reader.next()
            while document is None and (self.epochs is None or reader.epoch < self.epochs):
                document = reader.next()
                if document is None:
                    raise DataError(
                        f"{reader.source.files[0]}: no document",
                        reason="every row of a pass is empty" + (" or held out" if self.holdout else ""),
                        remedy="leave the source out, or name another column with `text`",
                    )
            if document is not None:
                yield document

    def _draw(self, active: list[SourceReader]) -> SourceReader:
        self._drawn += 1
        if len(active) == 1:
            return active[0]
        bounds = list(accumulate(reader.source.weight for reader in active))
        drawn = share("source", self.seed, self._drawn) * bounds[-1]
        return next(reader for reader, bound in zip(active, bounds, strict=True) if drawn < bound)

    def state_dict(self) -> dict[str, Any]:
        """The place after the documents given out so far: JSON-able, a few numbers a source."""
        return {
            "files": self._files,
            "drawn": self._drawn,
            "sources": [reader.state() for reader in self._readers],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to a place that `state_dict` gave.

        Raises:
            DataError: the sources are not those of that stream, or a file has another size now.
        """
        if state["files"] != self._files:
            raise DataError(
                f"a cursor over {len(state['sources'])} sources",
                reason="files, their sizes, weights, columns, seed or epochs are not those it was written for",
                remedy="resume with the files and settings of the run that wrote it",
            )
        self._drawn = state["drawn"]
        for reader, place in zip(self._readers, state["sources"], strict=True):
            reader.load(place)

    def _fingerprint(self) -> str:
        """A hash of what a cursor is only valid for; folders may move, names and sizes may not change."""
        settings = [
            (*[(Path(file).name, 0 if source.is_hub else Path(file).stat().st_size) for file in source.files],)
            + (source.columns, source.weight, source.name, source.split)
            for source in self.sources
        ]
        held = () if self.holdout is None else (self.holdout.amount,)
        return blake2b(repr((settings, self.seed, self.epochs, *held)).encode(), digest_size=8).hexdigest()
