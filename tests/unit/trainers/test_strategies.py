"""Two CPU ranks under each strategy: five updates are those of one process, to 1e-5, also with one engine for both;
sampling, resume and saving."""

from __future__ import annotations

import pytest

from ixt_rl.backends import is_installed
from tests.unit.distributed import run_ranks
from tests.unit.trainers.strategy_worker import CHECKS, METHODS, alone

pytestmark = pytest.mark.timeout(900)  # all cells of a fixture run before its first test
STRATEGIES = ("ddp", "fsdp2", *(("zero2", "zero3") if is_installed("deepspeed") else ()))
FAST = [*((strategy, "intro") for strategy in STRATEGIES), ("ddp", "grpo-beside"), ("fsdp2", "grpo-beside")]
ALL = [(strategy, what) for strategy in STRATEGIES for what in (*METHODS, *CHECKS)]
if not is_installed("peft"):
    ALL = [(strategy, what) for strategy, what in ALL if what not in ("intro-lora", "pairs-lora", "saves")]
KINDS = {  # every kind of method once, and what runs need; the rest is long
    "ddp": ("intro-frozen", "rlsd", "ixt-ema", "dpo"),
    "zero2": ("grpo", "nll", "saves-wide"),
    "zero3": ("intro-lora", *CHECKS),
    "fsdp2": ("pairs-lora", "nll-passes", "resumes"),
}
SLOW = [cell for cell in ALL if cell not in FAST and cell[1] in KINDS[cell[0]]]
LONG = [cell for cell in ALL if cell not in (*FAST, *SLOW)]


def outcomes(cells, folder) -> list[set[str]]:
    """What each rank says of its cells, which run one after the other in the same two processes."""
    for method in dict.fromkeys(what for _, what in cells if what in METHODS):
        alone(method, folder)
    outputs = run_ranks("tests.unit.trainers.strategy_worker", f"cells({cells!r}, {str(folder)!r})", 2, 800)
    print(*(output[-8000:] for output in outputs))
    return [set(output.splitlines()) for output in outputs]


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return outcomes(FAST, tmp_path_factory.mktemp("fast"))


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return outcomes(SLOW, tmp_path_factory.mktemp("slow"))


@pytest.fixture(scope="module")
def rest(tmp_path_factory):
    return outcomes(LONG, tmp_path_factory.mktemp("rest"))


@pytest.mark.parametrize(("strategy", "method"), FAST)
def test_two_ranks_reach_the_weights_of_one_process(fast, strategy, method):
    assert all(f"{strategy} {method}: right" in said for said in fast)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "what"), SLOW)
def test_every_method_and_what_runs_need(slow, strategy, what):
    assert all(f"{strategy} {what}: right" in said for said in slow)


@pytest.mark.long("tests/unit/trainers/test_strategies.py::test_every_method_and_what_runs_need")
@pytest.mark.parametrize(("strategy", "what"), LONG)
def test_every_method_under_every_strategy(rest, strategy, what):
    assert all(f"{strategy} {what}: right" in said for said in rest)
