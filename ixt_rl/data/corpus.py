"""Documents held in memory, and documents of chosen levels only: sources like `DocumentStream`, with a cursor."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ixt_rl.data.packed import Documents
from ixt_rl.errors import DataError
from ixt_rl.types import Document


class MemoryCorpus:
    """Documents without end, every pass in another order. What judging them cost is counted in the first pass only.

    Args:
        documents: at least one.
        seed: of the orders.

    Raises:
        DataError: there is no document.
    """

    def __init__(self, documents: Sequence[Document], seed: int):
        if not documents:
            raise DataError("a corpus of 0 documents", reason="there is nothing to read", remedy="give at least one")
        self.documents, self.seed = documents, seed
        self._epoch = self._index = 0

    def __iter__(self) -> Iterator[Document]:
        while True:
            order = np.random.default_rng([self.seed, self._epoch]).permutation(len(self.documents))
            while self._index < len(order):
                document = self.documents[order[self._index]]
                self._index += 1
                yield document if self._epoch == 0 else replace(document, judged_tokens=0)
            self._epoch, self._index = self._epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "index": self._index, "documents": len(self.documents)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to a place that `state_dict` gave.

        Raises:
            DataError: the corpus had another size then.
        """
        if state["documents"] != len(self.documents):
            raise DataError(
                f"a cursor over {state['documents']} documents",
                reason=f"this corpus has {len(self.documents)}",
                remedy="resume with the corpus of the run that wrote it",
            )
        self._epoch, self._index = state["epoch"], state["index"]


class LevelFilter:
    """Only documents that the judge gave one of `levels`; judging the others is charged to the next one kept.

    Args:
        documents: a stream or a corpus.
        levels: those to keep; documents without a level are left out.

    Raises:
        DataError: while iterating, a million documents in a row of other levels.
    """

    _PATIENCE = 1_000_000

    def __init__(self, documents: Documents, levels: Collection[int]):
        self.documents, self.levels = documents, frozenset(levels)
        self._judged = 0

    def __iter__(self) -> Iterator[Document]:
        passed = 0
        for document in self.documents:
            self._judged += document.judged_tokens
            if document.feedback is not None and document.feedback.level in self.levels:
                judged, self._judged, passed = self._judged, 0, 0
                yield replace(document, judged_tokens=judged)
            else:
                passed += 1
                if passed >= self._PATIENCE:
                    raise DataError(
                        f"{passed} documents in a row without a level of {sorted(self.levels)}",
                        reason="nothing is left to train on",
                        remedy="change data.keep_levels, or annotate the files",
                    )

    def state_dict(self) -> dict[str, Any]:
        return {"judged": self._judged, "documents": self.documents.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._judged = state["judged"]
        self.documents.load_state_dict(state["documents"])
