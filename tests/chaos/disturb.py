"""A process of its own that disturbs runs, and says how they ended.

    .venv/bin/python -m tests.chaos.disturb FOLDER [DISTURBANCES] [SEED]      # 200 in ten minutes or so

Exit status 0: every disturbed run ended as the undisturbed one.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import torch  # noqa: F401  (imported before the forks, which then start at once)
import trl  # noqa: F401

import ixt_rl.run.stages.documents
import ixt_rl.run.stages.online  # noqa: F401
from tests.chaos.harm import PATIENCE, Child, Ended, disturbed
from tests.chaos.pipeline import differences, outcome, write_config

PER_RUN = 8
"""Disturbances of one run before it is let end."""

READABLE = {0, 1, 2, 143, -9}
"""Exit statuses that a disturbance may lead to: done, an error in words, stopped, killed."""


def main(folder: Path, disturbances: int = 8, seed: str = "0") -> int:
    config = write_config(folder)
    run = folder / "runs" / "chaos"
    straight = finish(config)
    assert straight.status == 0, straight.said
    expected = outcome(run)
    chance = random.Random(seed)
    told: Counter[str] = Counter()
    wrong: list[str] = []
    for start in range(0, disturbances, PER_RUN):
        shutil.rmtree(folder / "runs")
        history = []
        for _ in range(start, min(start + PER_RUN, disturbances)):
            what, ended = disturbed(config, run, chance, within=straight.seconds * 2 / PER_RUN)
            history.append(f"{what} (status {ended.status}, {ended.seconds:.1f} s)")
            print(history[-1], flush=True)
            told[what.partition(",")[0].partition(":")[0]] += 1
            if ended.status not in READABLE or "Traceback" in ended.said:
                wrong.append(f"{what}: status {ended.status}\n{ended.said[-3000:]}")
        ended = finish(config)
        found = differences(outcome(run), expected) if ended.status == 0 else [ended.said[-3000:]]
        print(f"== run {start // PER_RUN}: {found or 'as undisturbed'}", flush=True)
        if found:
            wrong.append("\n".join([*history, *found]))
    print(f"{sum(told.values())} disturbances: {dict(told)}; {len(wrong)} wrong")
    print("\n\n".join(wrong))
    return 1 if wrong else 0


def finish(config: Path) -> Ended:
    """A run that nothing happens to."""
    child = Child(config)
    ended = child.wait(PATIENCE)
    assert ended is not None, f"hung for {PATIENCE:.0f} s:\n{child.said[-3000:]!r}"
    return ended


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:3]), *sys.argv[3:4]))
