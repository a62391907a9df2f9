"""Shares of n-grams, of token ids as of words: how much of a sequence it has said before, or another one has."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def ngrams(items: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """All n-grams of the items, in order; none where there are fewer than n."""
    return [tuple(items[place : place + n]) for place in range(len(items) - n + 1)]


def repeated_share(items: Sequence[Hashable], n: int) -> float:
    """Share of the items' n-grams that were there before: (all - different) / all; 0 where there is none."""
    found = ngrams(items, n)
    return 1 - len({*found}) / len(found) if found else 0.0


def copied_share(items: Sequence[Hashable], of: Sequence[Hashable], n: int) -> float:
    """Share of the items' n-grams that are in `of`; 0 where there is none."""
    found, there = ngrams(items, n), {*ngrams(of, n)}
    return sum(one in there for one in found) / len(found) if found else 0.0
