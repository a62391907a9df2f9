"""Which evaluation is the best, and which run files ask for it wrongly."""

from __future__ import annotations

import math

import pytest

from ixt_rl.blocks.best import KeepBestBlock
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.run.best import Standing
from tests.integration.run_helpers import base, config, online


@pytest.mark.parametrize(
    ("mode", "values", "step", "since"),
    [
        ("max", [0.1, 0.3, 0.2], 1, 1),
        ("min", [0.1, 0.3, 0.2], 0, 2),
        ("max", [0.3, 0.3, 0.3], 0, 2),
        ("max", [None, math.nan, 0.1], 2, 0),
        ("min", [None, math.nan], None, 2),
        ("max", [], None, 0),
    ],
    ids=["max", "min", "the first of equal ones", "undecided is worse than any", "never decided", "none"],
)
def test_the_best_of_some_values(mode, values, step, since):
    standing = Standing(KeepBestBlock(metric="m", mode=mode))
    for number, value in enumerate(values):
        standing.add(number, value)
    assert (standing.step, standing.since) == (step, since)


BEST = {"metric": "greedy/checked", "mode": "max"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keep_best": BEST, "evaluation": None}, "keep_best.metric=greedy/checked without evaluation"),
        ({"early_stopping": {"patience": 2}}, "early_stopping.patience=2 without keep_best"),
        ({"keep_best": {"metric": "greedy/checked"}}, "keep_best.mode"),
        ({"keep_best": {**BEST, "mode": "maxi"}}, "did you mean `max`"),
    ],
    ids=["no evaluation", "no metric", "no mode", "a wrong mode"],
)
def test_what_cannot_be_meant_is_refused(changes, said, tmp_path):
    with pytest.raises(InvalidConfig) as error:
        config(tmp_path, [base(), online("rl", **changes)])
    assert said in str(error.value)
