"""Mutated configs, rows, replies and state files: readable errors only, none takes long, none takes much memory.

`IXT_RL_FUZZ_CASES=10000 pytest tests/fuzz` runs it at length; `IXT_RL_FUZZ_SEED` begins elsewhere. A failure names its
seed and target: `IXT_RL_FUZZ_SEED=<seed> IXT_RL_FUZZ_CASES=1 pytest tests/fuzz -k <target>` repeats it.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import traceback

import pytest

from ixt_rl.redaction import keep_secret
from tests.fuzz.targets import ALLOWED, TARGETS, Target, clear

CASES = int(os.environ.get("IXT_RL_FUZZ_CASES", "500"))
SEED = int(os.environ.get("IXT_RL_FUZZ_SEED", "0"))
SECONDS = 5
MEMORY_GB = 1.0


class TookTooLong(BaseException):
    """Not an Exception, so that nothing under test takes it for one of its own."""


def _late(number: int, frame: object) -> None:
    raise TookTooLong


def run(target: Target, seed: int, folder, seconds: float = SECONDS) -> str | None:
    """What is wrong with a case, None if nothing is. Time is that of the processor."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        target(random.Random(f"{target.__name__} {seed}"), folder)
    except ALLOWED as error:
        if not str(error).strip() or len(str(error)) > 20_000:
            return f"seed {seed}: an error of {len(str(error))} characters"
    except TookTooLong:
        return f"seed {seed}: over {seconds} s\n{traceback.format_exc(limit=-4)}"
    except Exception:
        return f"seed {seed}: {traceback.format_exc(limit=-5)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        clear(folder)
    return None


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_only_readable_errors(target: Target, tmp_path):
    keep_secret("5e7470ee-" + "\\" * 3 + "%25+/")  # what is taken out of every message takes no long time either
    before = signal.signal(signal.SIGPROF, _late)
    run(target, SEED, tmp_path, 300)  # imports
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        cases = -(-CASES // len(TARGETS)) if CASES > 1 else 1
        found = [said for seed in range(SEED, SEED + cases) if (said := run(target, seed, tmp_path)) is not None]
    finally:
        signal.signal(signal.SIGPROF, before)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 2**20
    assert not found, f"{len(found)} of {cases}:\n" + "\n".join(found[:5])
    assert grown < MEMORY_GB, f"{grown:.2f} GB more than before"
