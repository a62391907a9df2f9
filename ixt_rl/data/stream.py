"""Documents from a weighted mixture of files larger than memory, with a cursor that resumes exactly.

    files --readers--> rows --DocumentSource's columns--> Documents --weights, seed--> one stream

`datasets.interleave_datasets` mixes too, but over iterables that re-read their files to resume (see readers.py). Here
draw number n is a hash of (seed, n), so that a stream's whole state is a few integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

from ixt_rl.data.document_source import DocumentSource, SetAside, SourceReader
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.shares import share
from ixt_rl.types import Document


class DocumentStream:
    """Documents of several sources in proportion to their weights, in the order of their files.

    A source that ends begins again; with `epochs` it ends after that many passes, the others go on in proportion to
    their own weights, and the stream ends with the last of them: every document comes `epochs` times. Rows without
    text (null, missing, blank), or without a prompt where the source names one, are passed over and counted.

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

    def __init__(
        self, sources: Sequence[DocumentSource], seed: int, epochs: int | None = None, holdout: SetAside | None = None
    ):
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
        """Rows passed over because they had no text, or no prompt where the source names one."""
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
            + (source.columns, source.weight, source.name, source.split, source.template, source.control_tokens)
            for source in self.sources
        ]
        held = () if self.holdout is None else (self.holdout.amount,)
        return blake2b(repr((settings, self.seed, self.epochs, *held)).encode(), digest_size=8).hexdigest()
