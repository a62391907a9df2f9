"""What is held in memory, and documents of chosen levels only: sources like `DocumentStream`, with a cursor."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np

from ixt_rl.data.token_rows import Documents
from ixt_rl.errors import DataError
from ixt_rl.types import Document

Item = TypeVar("Item", covariant=True)


class Repeated(Generic[Item]):
    """Items in memory, every pass in another order.

    Args:
        items: at least one.
        seed: of the orders.
        passes: over the items; None: without end.

    Raises:
        DataError: there is no item.
    """

    _called = "prompts"

    def __init__(self, items: Sequence[Item], seed: int, passes: int | None = None):
        if not items:
            raise DataError(f"0 {self._called}", reason="there is nothing to train on", remedy="give at least one")
        self.items, self.seed, self.passes = items, seed, passes
        self._read = 0

    def __iter__(self) -> Iterator[Item]:
        while self.passes is None or self._read < self.passes * len(self.items):
            passed, index = divmod(self._read, len(self.items))
            order = np.random.default_rng([self.seed, passed]).permutation(len(self.items))
            for position in order[index:]:
                self._read += 1
                yield self.items[position]

    @property
    def given(self) -> int:
        """Items given out so far."""
        return self._read

    def state_dict(self) -> dict[str, Any]:
        return {"read": self._read, "items": len(self.items)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to a place that `state_dict` gave.

        Raises:
            DataError: there was another number of items then.
        """
        if state["items"] != len(self.items):
            raise DataError(
                f"a cursor over {state['items']} {self._called}",
                reason=f"there are {len(self.items)}",
                remedy=f"resume with the {self._called} of the run that wrote it",
            )
        self._read = state["read"]


class MemoryCorpus(Repeated[Document]):
    """Documents without end, every pass in another order. What judging them cost is counted in the first pass only."""

    _called = "documents"

    def __iter__(self) -> Iterator[Document]:
        for document in super().__iter__():
            yield document if self._read <= len(self.items) else replace(document, judged_tokens=0)


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
