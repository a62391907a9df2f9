"""A stream without end whose place, update by update, goes into checkpoints."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch.utils.data import IterableDataset

from ixt_rl.errors import DataError
from ixt_rl.trainers.checkpoints import CURSOR as FILE
from ixt_rl.trainers.checkpoints import write_json

__all__ = ["FILE", "Resumable", "UpdateStream"]

Item = TypeVar("Item", covariant=True)


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
    """

    _KEPT = 8

    def __init__(self, source: Resumable[Any], per_update: int):
        self.source, self.per_update = source, per_update
        self.start, self.first_update = source.state_dict(), 0
        self.cursors: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def __iter__(self) -> Iterator[Any]:
        self.source.load_state_dict(self.start)
        self.cursors.clear()
        self._keep(self.first_update)
        for number, item in enumerate(self.source, start=1):
            if number % self.per_update == 0:
                self._keep(self.first_update + number // self.per_update)
            yield item

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
