"""A stream whose place, update by update, goes into checkpoints."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch.utils.data import IterableDataset

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.trainers.checkpoints import CURSOR as FILE
from ixt_rl.trainers.checkpoints import write_json

__all__ = ["FILE", "Resumable", "SharedUpdates", "UpdateStream"]

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
        source, update = iter(self.source), self.first_update
        while items := list(islice(source, self.per_update)):
            update += 1
            self._keep(update)
            yield from self.dealt(items)

    def dealt(self, items: list[Any]) -> list[Any]:
        """The items of an update, in the order in which a loader is to have them."""
        missing = self.per_update - len(items)
        return items if self.filler is NOTHING else items + [self.filler] * missing

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


class SharedUpdates(UpdateStream):
    """One that deals each rank neighbours: what is drawn by an item's place in the update is so on any ranks.

    A loader gives micro-batches to ranks in turns. Here rank r of R gets, of n items, those from n r / R to
    n (r + 1) / R, rounded up, and None in place of what it lacks.

    Args:
        source, per_update: as in `UpdateStream`.
        ranks: R.
        at_once: items of a rank's micro-batch.
    """

    def __init__(self, source: Resumable[Any], per_update: int, ranks: int, at_once: int):
        super().__init__(source, per_update, filler=None)
        self.ranks, self.at_once = ranks, at_once

    def dealt(self, items: list[Any]) -> list[Any]:
        share = self.per_update // self.ranks
        ends = [-(-len(items) * rank // self.ranks) for rank in range(self.ranks + 1)]
        shares = [items[first:last] + [self.filler] * (share - last + first) for first, last in pairwise(ends)]
        return [item for at in range(0, share, self.at_once) for own in shares for item in own[at : at + self.at_once]]


def _ends(source: Any) -> bool:
    """Whether what is read in the end, by way of others, has a number of passes."""
    while hasattr(source, "documents"):
        source = source.documents
    return getattr(source, "epochs", None) is not None or getattr(source, "passes", None) is not None
