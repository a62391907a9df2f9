"""Problems of several sources in proportion to their weights: which row is drawn when, known beforehand.

    draw n  -->  its source: item j of source i has its turn at time (j + 1/2) / w_i, and turns go by time
            -->  its row: every source is gone through in passes, each in an order of its own, by (seed, source, pass)

So every batch has each source's share of the prompts but for one prompt or two, and the order is a function of seed and
sources alone: a resumed run needs no cursor of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Rows = list[dict]


def turns(weights: Sequence[float], count: int) -> np.ndarray:
    """int64 [count]: the source of each draw. Source i of k has `n w_i / sum(w)` of the first n, within k / 2 + 1."""
    total = sum(weights)
    enough = [int(count * weight / total) + len(weights) // 2 + 2 for weight in weights]
    times = np.concatenate([(np.arange(n) + 0.5) / weight for n, weight in zip(enough, weights, strict=True)])
    sources = np.repeat(np.arange(len(weights)), enough)
    return sources[np.argsort(times, kind="stable")][:count]


def drawn(sizes: Sequence[int], weights: Sequence[float], count: int, seed: int) -> np.ndarray:
    """int64 [count]: the row of each draw, from 0 for the first row of the first source on; `sizes` rows of each."""
    sources = turns(weights, count)
    first = np.cumsum([0, *sizes])
    found = np.empty(count, dtype=np.int64)
    for source, size in enumerate(sizes):
        places = np.flatnonzero(sources == source)
        passes = -(-len(places) // size)
        orders = [np.random.default_rng([seed, source, number]).permutation(size) for number in range(passes)]
        found[places] = first[source] + np.concatenate([np.empty(0, np.int64), *orders])[: len(places)]
    return found


def interleaved(of_sources: Sequence[Rows]) -> Rows:
    """All rows once, those of a source in their order and evenly among the others': a beginning has a bit of each."""
    filled = [rows for rows in of_sources if rows]
    given = [iter(rows) for rows in filled]
    return [next(given[source]) for source in turns([*map(len, filled)], sum(map(len, filled)))] if filled else []


def alike(of_sources: Sequence[Rows]) -> list[Rows]:
    """Rows with the same columns: what a source's rows do not have is None in them."""
    columns = dict.fromkeys(name for rows in of_sources for row in rows[:1] for name in row)
    return [[{**columns, **row} for row in rows] for rows in of_sources]
