r"""The study of DESIGN.md: makes run files, runs them, collects tables, tests and figures.

    .venv/bin/python benchmarks/study/study.py --out runs/study --tune          # all of it: some two hours
    .venv/bin/python benchmarks/study/study.py --out runs/study --short         # some 50 minutes
    .venv/bin/python benchmarks/study/study.py --out runs/study --worlds clean shortcut --arms grpo --minutes 30
    .venv/bin/python benchmarks/study/study.py --out runs/study --collect             # only the page, of what is there
    .venv/bin/python benchmarks/study/study.py --out runs/more --known runs/study/measured.csv   # the rest, elsewhere

Times are estimates for two cores that do nothing else, at 13 s of one core a cell and 130 s a base. Rates that the rule
chose stand in rates.json; --tune also finds those that it has not chosen yet.

Stopped, by Ctrl-C or otherwise, the same command goes on: finished cells are kept, one under way starts over. The page
is OUT/study.md, written after every cell; numbers are in OUT/study.json.

To see all of it work, in a folder of its own, in a minute or two; its figures mean nothing:

    .venv/bin/python benchmarks/study/study.py --out runs/try --worlds clean --arms grpo raft --bases 1 --seeds 1 \
        --steps 2 --base-steps 20
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jobs import run_files
from measured import read_measured, write_measured
from page import write_page
from plan import (
    ARMS,
    BASE_STEPS,
    BASES,
    CANDIDATES,
    MAIN_ARMS,
    MAIN_WORLDS,
    RATES,
    RIVALS,
    SEEDS,
    STEPS,
    TUNING,
    WORLDS,
    Cell,
    ordered,
)
from rates import Rates, candidate
from store import Store

from ixt_rl.signals import Stopped, stoppable

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import machine

SHORT_ARMS = ("told-nll", "grpo", "raft", "rlsd", "intro", "intro-steps", "told-steps", "limit")


class Study:
    """One call of the command."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.store = Store(args.out, args.steps, args.base_steps, read_measured(args.known) if args.known else None)
        self.rates = Rates(self.store, given=not args.tune)
        if args.short:
            self.rates.take(self.pairs, RATES[1])
        self.until = math.inf if args.minutes is None else time.monotonic() + 60 * args.minutes
        self.failed: list[Path] = []
        self.machine = machine()
        self.shown: dict[str, dict[str, Any]] = {}
        """What is on the page, by name."""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(world, arm) for world in self.args.worlds for arm in self.args.arms]

    def cells(self) -> list[Cell]:
        """The reported ones, in order."""
        return ordered(self.args.worlds, self.args.arms, self.args.bases, self.args.seeds, self.rates.of)

    def run(self) -> None:
        """Bases, then rates, then cells; of bases only those that something is left for."""
        self.tune()
        cells = self.cells()
        self.all(cell.of for cell in self.store.missing(cells))
        self.all(cells)

    def tune(self) -> None:
        """Tries rates until every arm of every world has one, or time is up."""
        while (asked := self.store.missing(self.rates.untuned(self.pairs))) and not self.over():
            before = len(self.failed)
            self.all(cell.of for cell in asked)
            self.all(asked)
            if len(self.failed) > before:
                return  # an arm that fails, or its base, would be tried for ever

    def all(self, whats: Iterable[Any]) -> None:
        """Runs what is missing of bases or cells."""
        missing = self.store.missing(whats)
        files = {self.store.write(what): what for what in missing if self.ready(what)}
        for number, (file, status, seconds) in enumerate(run_files([*files], self.args.jobs, self.until), 1):
            done = status == 0 and self.store.is_done(files[file])
            if not done:
                self.failed.append(file)
            said = f"{seconds:.0f} s" if done else f"FAILED ({status}): see {file.with_suffix('.log')}"
            print(f"{time.strftime('%H:%M:%S')} {number}/{len(files)} {files[file].name}: {said}", flush=True)
            self.collect()

    def ready(self, what: Any) -> bool:
        """Whether a cell's base is there."""
        return not isinstance(what, Cell) or self.store.is_done(what.of)

    def over(self) -> bool:
        return time.monotonic() >= self.until

    def collect(self) -> None:
        """The page of all that is finished, whatever this call asked for."""
        rates = self.rates.shown()
        every = ordered(WORLDS, ARMS, BASES, SEEDS, rates.of)
        measured = self.store.done_cells(every)
        bases = dict.fromkeys(Cell(world, "", 0, seed, 0).of for world in WORLDS for seed in (*BASES, TUNING))
        found = {base: row for base in bases if (row := self.store.measured(base)) is not None}
        chosen = candidate(self.rates.table, CANDIDATES, RIVALS)
        self.store.out.mkdir(parents=True, exist_ok=True)
        self.shown = {what.name: row for what, row in [*found.items(), *measured.items()]}
        write_measured(self.store.out / "measured.csv", {**self.store.known, **self.shown})
        sizes = {"steps": self.store.steps, "base_steps": self.store.base_steps}
        write_page(self.store.out, measured, found, rates.table, chosen, ARMS, self.machine, sizes)


def at_least_1(text: str) -> int:
    """A whole number of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def opened(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Study:
    """The study; ends the command where what is known, or what the folder has, does not go with the options."""
    if args.known and (args.steps, args.base_steps) != (STEPS, BASE_STEPS):
        parser.error("--known has cells of the sizes of the design; leave --steps and --base-steps out")
    try:
        study = Study(args)
    except (OSError, ValueError) as wrong:
        parser.error(str(wrong))
    if other := study.store.of_other_sizes():
        parser.error(
            f"--known: {other[0]} of {args.known} has not the updates of the design; its cells count for no other"
        )
    if sizes := study.store.sizes_there():
        again = "they would be run again, over what is there"
        parser.error(f"{args.out} has {sizes}: {again}; give those sizes, or another --out")
    return study


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--short", action="store_true", help="eight arms, three seeds")
    parser.add_argument("--worlds", nargs="+", choices=WORLDS)
    parser.add_argument("--arms", nargs="+", choices=ARMS)
    parser.add_argument("--bases", nargs="+", type=int, choices=BASES)
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS)
    parser.add_argument("--jobs", type=at_least_1, default=2, help="processes at once, of one thread each")
    parser.add_argument("--minutes", type=float, help="start nothing after this")
    parser.add_argument("--tune", action="store_true", help="find rates by the rule where rates.json has none by it")
    parser.add_argument(
        "--known",
        type=Path,
        metavar="CSV",
        help="cells of this table, the measured.csv of another OUT, count as done",
    )
    parser.add_argument("--collect", action="store_true", help="run nothing")
    parser.add_argument("--steps", type=at_least_1, default=STEPS, help="updates of a cell; others are to try")
    parser.add_argument("--base-steps", type=at_least_1, default=BASE_STEPS, help="updates of a base; likewise")
    return parser


def main() -> None:
    parser = _parser()
    args = parser.parse_args()
    args.worlds = args.worlds or list(MAIN_WORLDS)
    args.arms = args.arms or list(SHORT_ARMS if args.short else MAIN_ARMS)
    args.bases = args.bases or list(BASES)
    args.seeds = args.seeds or list(SEEDS[:3] if args.short else SEEDS)
    study = opened(parser, args)
    stopped: Stopped | None = None
    if not args.collect:
        try:
            with stoppable():
                study.run()
        except Stopped as stop:
            stopped = stop
    study.collect()
    cells = study.cells()
    unrated = sum(study.rates.of(world, arm) is None for world, arm in study.pairs)
    further = f"; {unrated} more arms of a world have no rate yet" if unrated else ""
    print(f"{study.store.out / 'study.md'}; {len(study.store.missing(cells))} of {len(cells)} cells are left{further}")
    if unshown := sorted(study.store.known.keys() - study.shown.keys()):
        print(f"{len(unshown)} rows of --known are kept and on no page, as no cell has such a rate: {unshown[0]}, ...")
    if other := study.store.other_bases():
        print(
            f"{', '.join(other)}: made here, another model than that of --known; cells that started from the one and "
            "from the other stand on the page as pairs. Run all cells of a base on one machine"
        )
    if stopped is not None:
        print(f"{stopped}; the same command goes on", file=sys.stderr)
        sys.exit(stopped.status)
    if study.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
