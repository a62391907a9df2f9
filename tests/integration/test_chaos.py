"""Real trainings, killed at random moments and gone on with: the same weights, logs and counts, bit for bit."""

from __future__ import annotations

from random import Random

import pytest
import torch

from tests.integration.chaos import Nursery, disturbed

LONG = pytest.mark.long("tests/unit/trainers/test_ixt.py", "tests/unit/trainers/test_sip_resume.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "seed"), [("intro", 1), *(pytest.param(*case, marks=LONG) for case in (("ixt", 2), ("sip", 3)))]
)
def test_a_training_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path, job, seed):
    with Nursery("tests.integration.chaos_jobs", tmp_path) as nursery:
        seconds = nursery.run(f"{job}('straight')")
        strikes = disturbed(nursery, f"{job}('struck')", 5, Random(seed), seconds / 2)
    assert len(strikes) >= 2
    straight, struck = (torch.load(tmp_path / name / "final.pt") for name in ("straight", "struck"))
    assert struck["tokens"] == straight["tokens"]
    assert struck["logs"] == straight["logs"]
    for part in ("weights", "average"):
        assert struck[part].keys() == straight[part].keys()
        for name, weight in straight[part].items():
            assert torch.equal(struck[part][name], weight), (part, name)
