"""What comparing two answers can end in, and the errors reading an answer can end in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """Result of comparing an answer with the gold answer.

    Args:
        right: True, False, or None for undecided.
        reason: the rule that decided, or why nothing could be decided.
        settled: an undecided that no second checker may overrule (the texts alone leave it open).
    """

    right: bool | None
    reason: str
    settled: bool = True


class Unreadable(Exception):
    """The text is not an answer this reader understands completely."""


class TwoReadings(Unreadable):
    """`a/b c` can mean (a/b)c or a/(bc): readable once a reading is chosen."""


class TooLarge(Exception):
    """The text is refused before it is read or computed: too long, too deep, too many digits."""
