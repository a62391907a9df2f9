"""Documents set aside from every source, to measure on and never to train: a rule that knows the documents alone.

    rows    the first so many different documents of each source
    share   every document whose hash is below it: a number in [0, 1) that its text and prompt alone decide

Neither looks at weights, seed, feedback or what else a run sets, so that all runs over the same files set the same
documents aside. They are known by their content: a copy in another row or source is not trained either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b

from ixt_rl.data.document_source import DocumentSource, SourceReader
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.shares import share
from ixt_rl.types import Document


class Holdout:
    """What is set aside of some sources. Rows read the beginning of each, a share reads them whole, once.

    Args:
        sources: as for `DocumentStream`.
        amount: documents of each source (int), or their share (float, between 0 and 1).

    `documents` are those set aside, without feedback, one list a source, in the order of its files.

    Raises:
        ConfigError: neither a number of rows nor a share.
        DataError: a source from which none is set aside, or of which none is left.
    """

    def __init__(self, sources: Sequence[DocumentSource], amount: int | float):
        if isinstance(amount, bool) or not (amount >= 1 if isinstance(amount, int) else 0 < amount < 1):
            raise ConfigError(
                f"holdout={amount!r}",
                reason="it is a number of rows of each source, or their share",
                remedy="give a whole number of 1 or more, or a number between 0 and 1",
            )
        self.amount = amount
        self._keys: set[bytes] = set()
        self.documents = [self._of_source(source) for source in sources]
        for source in sources:
            if all(self.excludes(document) for document in _texts(source)):
                raise DataError(
                    f"{source.files[0]}: nothing but held-out documents",
                    reason=f"a holdout of {amount:g} leaves none to train on",
                    remedy="lower evaluation.holdout, or add documents to the source",
                )

    def excludes(self, document: Document) -> bool:
        """Whether a document is set aside."""
        if isinstance(self.amount, int):
            return _key(document) in self._keys
        return share("holdout", *document.content) < self.amount

    def _of_source(self, source: DocumentSource) -> list[Document]:
        found: dict[bytes, Document] = {}
        for document in _texts(source):
            if isinstance(self.amount, int) and len(found) == self.amount:
                break
            if isinstance(self.amount, int) or self.excludes(document):
                found.setdefault(_key(document), replace(document, feedback=None, judged_tokens=0))
        if not found:
            raise DataError(
                f"{source.files[0]}: no document is held out",
                reason=f"a share of {self.amount:g} took none of its documents",
                remedy="raise evaluation.holdout, or give a number of rows",
            )
        self._keys |= {*found}
        return [*found.values()]


def _texts(source: DocumentSource) -> Iterator[Document]:
    """One pass over the documents of a source that have text."""
    reader = SourceReader(source)
    while (document := reader.next()) is not None:
        yield document


def _key(document: Document) -> bytes:
    text = "\0".join(document.content).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()
