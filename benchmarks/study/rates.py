"""Learning rates: one rule for every arm and world, on a base and a seed that are not reported; see DESIGN.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from copy import copy
from typing import Any

from plan import BEYOND, HERE, RATES, TUNING, Cell
from store import Store

from ixt_rl.files import read_json, write_json

GIVEN = HERE / "rates.json"
"""Chosen before: what the study was tuned to, or what its pilot took from elsewhere, with the source."""

BY_RULE = "the rule"
Table = dict[str, dict[str, Any]]
"""World -> arm -> rate, where it comes from, and what was tried."""


def trials(world: str, arm: str, tried: dict[float, float]) -> list[Cell]:
    """Cells that the rule asks for next, given strict shares by rate; empty where the rate is found."""
    wanted = [rate for rate in RATES if rate not in tried]
    if not wanted:
        beyond = BEYOND.get(best(tried))
        wanted = [beyond] if beyond is not None and beyond not in tried else []
    return [Cell(world, arm, rate, TUNING, TUNING) for rate in wanted]


def best(tried: dict[float, float]) -> float:
    """The rate with the highest strict share, of equal ones the lowest."""
    return min(tried, key=lambda rate: (-tried[rate], rate))


class Rates:
    """The rate of every (world, arm): chosen here, else given.

    Args:
        given: also those that were not found by the rule.
    """

    def __init__(self, store: Store, given: bool = True):
        self.store, self.file = store, store.out / "rates.json"
        self.table: dict[str, dict[str, Any]] = {}
        for file in (GIVEN, self.file):
            for world, arms in (read_json(file) or {}).items():
                chosen = {arm: one for arm, one in arms.items() if given or one.get("from") == BY_RULE}
                self.table.setdefault(world, {}).update(chosen)

    def of(self, world: str, arm: str) -> float | None:
        """The rate; None where none is chosen."""
        found = self.table.get(world, {}).get(arm)
        return None if found is None else float(found["rate"])

    def untuned(self, pairs: Iterable[tuple[str, str]]) -> list[Cell]:
        """The next cells of all (world, arm) without a rate; writes down what is found meanwhile."""
        cells = []
        for world, arm in pairs:
            if self.of(world, arm) is not None:
                continue
            tried = self._tried(world, arm)
            asked = trials(world, arm, tried)
            if asked:
                cells += asked
            else:
                said = {f"{rate:g}": share for rate, share in sorted(tried.items())}
                self.table.setdefault(world, {})[arm] = {"rate": best(tried), "strict": said, "from": BY_RULE}
                self.save()
        return cells

    def shown(self) -> Rates:
        """These, and for others, as not tuned, the rate that most of their finished cells have: what a page shows."""
        cells = (cell for cell in self.store.cells_there() if cell.base != TUNING)
        untuned = (cell for cell in cells if self.of(cell.world, cell.arm) is None)
        counts = Counter((c.world, c.arm, c.rate) for c in untuned if self.store.measured(c) is not None)
        found = copy(self)
        found.table = {world: dict(arms) for world, arms in self.table.items()}
        for (world, arm, rate), _ in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
            found.take([(world, arm)], rate)
        return found

    def take(self, pairs: Iterable[tuple[str, str]], rate: float) -> None:
        """That rate for all without one, and said so: it is not tuned. Not written down."""
        for world, arm in pairs:
            if self.of(world, arm) is None:
                self.table.setdefault(world, {})[arm] = {"rate": rate, "from": "not tuned"}

    def save(self) -> None:
        chosen = {
            world: {arm: one for arm, one in arms.items() if one.get("from") == BY_RULE}
            for world, arms in self.table.items()
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, {world: arms for world, arms in chosen.items() if arms}, indent=1)

    def _tried(self, world: str, arm: str) -> dict[float, float]:
        rates = [*RATES, *BEYOND.values()]
        found = {rate: self.store.strict_at_end(Cell(world, arm, rate, TUNING, TUNING)) for rate in rates}
        return {rate: share for rate, share in found.items() if share is not None}


def candidate(table: Table, candidates: Iterable[str], rivals: Iterable[str]) -> tuple[str, dict] | None:
    """(arm, margins of all) by the rule of DESIGN.md, from what was tried on the tuning base alone; None where one of
    these has a rate that was not found by the rule."""
    margins: dict[str, dict[str, float]] = {}
    for world in ("clean", "shortcut"):
        found = {arm: _tuned(table, world, arm) for arm in {*candidates, *rivals}}
        shares = {arm: share for arm, share in found.items() if share is not None}
        if len(shares) < len(found):
            return None
        against = max(shares[rival] for rival in rivals)
        for arm in candidates:
            margins.setdefault(arm, {})[world] = shares[arm] - against
    chosen = max(sorted(margins), key=lambda arm: min(margins[arm].values()))
    return chosen, margins


def _tuned(table: Table, world: str, arm: str) -> float | None:
    """The strict share that an arm's rate was chosen for; None where it was not chosen by the rule."""
    one = table.get(world, {}).get(arm, {})
    return max(one["strict"].values()) if one.get("from") == BY_RULE else None


def source(table: Table, world: str, arm: str) -> str:
    """Where a rate comes from, in words."""
    return str(table.get(world, {}).get(arm, {}).get("from", ""))
