"""What is being written, told while it is: for whoever waits at a screen. No model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class UnderWay:
    """What a call writes at a moment.

    Args:
        replies: begun and not ended.
        queued: not begun.
        ended: in this call, which hands them over at its end.
        tokens: written in this call so far; None where nobody can tell.
        oldest: seconds since the first of the replies was asked for, where they come one by one.
    """

    replies: int = 0
    queued: int = 0
    ended: int = 0
    tokens: int | None = 0
    oldest: float = 0.0


NOTHING = UnderWay()

WatchUnderWay = Callable[[UnderWay], None]


@contextmanager
def watched(engine: Any, watch: WatchUnderWay | None) -> Iterator[None]:
    """An engine tells `watch` what it writes, step by step, for the time of a `with`: one that has an attribute
    `watch`. Others tell nothing."""
    if watch is None or not hasattr(engine, "watch"):
        yield
        return
    engine.watch = watch
    try:
        yield
    finally:
        engine.watch = None
