"""A run that is killed, stopped, torn and cut off at random moments ends as one that nothing happened to.

IXT_RL_CHAOS=200 .venv/bin/python -m pytest tests/chaos -n 0 -s      # so many disturbances; a few by default
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch  # noqa: F401  (imported before the forks, which then start at once)
import trl  # noqa: F401

import ixt_rl.run.documents
import ixt_rl.run.sip
import ixt_rl.run.stages  # noqa: F401
from tests.chaos.harm import PATIENCE, Child, Ended, disturbed
from tests.chaos.pipeline import differences, outcome, write_config

DISTURBANCES = int(os.environ.get("IXT_RL_CHAOS", "8"))
PER_RUN = 8
"""Disturbances of one run before it is let end."""

READABLE = {0, 1, 2, 143, -9}
"""Exit statuses that a disturbance may lead to: done, an error in words, stopped, killed."""


def finish(config: Path) -> Ended:
    child = Child(config)
    ended = child.wait(PATIENCE)
    assert ended is not None, f"hung for {PATIENCE:.0f} s:\n{child.said[-3000:]!r}"
    return ended


@pytest.mark.slow
@pytest.mark.timeout(60 + 60 * DISTURBANCES)
def test_disturbed_runs_end_as_undisturbed_ones(tmp_path):
    config = write_config(tmp_path)
    run = tmp_path / "runs" / "chaos"
    straight = finish(config)
    assert straight.status == 0, straight.said
    expected = outcome(run)
    chance = random.Random(os.environ.get("IXT_RL_CHAOS_SEED", "0"))
    told: Counter[str] = Counter()
    wrong: list[str] = []
    for start in range(0, DISTURBANCES, PER_RUN):
        shutil.rmtree(tmp_path / "runs")
        history = []
        for _ in range(start, min(start + PER_RUN, DISTURBANCES)):
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
    print(f"{sum(told.values())} disturbances: {dict(told)}")
    assert not wrong, "\n\n".join(wrong)
