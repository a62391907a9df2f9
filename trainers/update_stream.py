"""A stream whose place, update by update, goes into checkpoints."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch.utils.data import IterableDataset

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.trainers.checkpoints import CURSOR as FILE
from ixt_rl.trainers.checkpoints import write_json

__all__ = ["FILE", "Resumable", "UpdateStream"]

Item = TypeVar("Item", covariant=True)

NOTHING = object()
"""No filler."""


class Resumable(Protocol[Item]):
    """Anything that streams items and has a cursor."""

    def __iter__(self) -> Iterator[Item]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class UpdateStream(IterableDataset):
    """A source for a DataLoader: every iterator starts at `start`, and cursors are kept by update.

    A loader reads ahead, so the cursor of an update is not that of the last item read.

    Args:
        source: what is read.
        per_update: items of an update, those of all ranks.
        filler: stands for items where a source ends amid an update, so that ranks have equally many (accelerate would
            give them its first ones again); `NOTHING`: that update has fewer.
    """

    _KEPT = 8

    def __init__(self, source: Resumable[Any], per_update: int, filler: Any = NOTHING):
        self.source, self.per_update, self.filler = source, per_update, filler
        self.start, self.first_update = source.state_dict(), 0
        self.cursors: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def __iter__(self) -> Iterator[Any]:
        self.source.load_state_dict(self.start)
        self.cursors.clear()
        self._keep(self.first_update)
        number = 0
        for number, item in enumerate(self.source, start=1):
            if number % self.per_update == 0:
                self._keep(self.first_update + number // self.per_update)
            yield item
        missing = -number % self.per_update
        if missing:
            self._keep(self.first_update + number // self.per_update + 1)
            yield from [self.filler] * missing if self.filler is not NOTHING else []

    def length(self, max_steps: int) -> int:
        """`max_steps`; where it is none, the updates until the source ends, which is read for that, and begins again.

        Raises:
            ConfigError: nobody says how long it is.
            DataError: there is no item.
        """
        if max_steps > 0:
            return max_steps
        if not _ends(self.source):
            raise ConfigError(
                f"max_steps={max_steps}",
                reason="what streams by without an end has no length",
                remedy="set max_steps, or give a stream that ends: DocumentStream(..., epochs=1)",
            )
        items = sum(1 for _ in self.source)
        self.source.load_state_dict(self.start)
        if not items:
            raise DataError(
                "0 items in all passes", reason="there is nothing to train on", remedy="give some documents"
            )
        return -(-items // self.per_update)

    def save(self, folder: Path, update: int, extra: dict[str, Any] | None = None) -> None:
        """Writes where the stream stood after `update` updates, and `extra`, into a checkpoint's folder."""
        saved = {**(extra or {}), "update": update, "cursor": self.cursors[update]}
        write_json(folder / FILE, saved)

    def seek(self, folder: Path) -> dict[str, Any]:
        """The next iterator starts where `save` was called; returns what was saved.

        Raises:
            DataError: the checkpoint has no cursor.
        """
        file = folder / FILE
        if not file.is_file():
            raise DataError(
                f"{folder}: no {FILE}",
                reason="without it, the place in the stream is not known",
                remedy="resume from a checkpoint of this trainer",
            )
        saved = json.loads(file.read_text(encoding="utf-8"))
        self.start, self.first_update = saved["cursor"], saved["update"]
        return saved

    def _keep(self, update: int) -> None:
        self.cursors[update] = self.source.state_dict()
        while len(self.cursors) > self._KEPT:
            self.cursors.popitem(last=False)


def _ends(source: Any) -> bool:
    """Whether what is read in the end, by way of others, has a number of passes."""
    while hasattr(source, "documents"):
        source = source.documents
    return getattr(source, "epochs", None) is not None or getattr(source, "passes", None) is not None
