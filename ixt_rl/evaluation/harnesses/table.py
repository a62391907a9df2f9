"""The harnesses whose rules can be applied, what is odd about each, and their verdicts in a child process.

texts, golds --HarnessPool--> worker: the rule of the harness --> HarnessVerdict
                              its own time limit passed: killed, and counted as that harness counts it
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.evaluation.harnesses import lm_eval, ruled
from ixt_rl.evaluation.harnesses.verdict import HarnessCase, HarnessVerdict
from ixt_rl.rewards.math.pool import Check, MathPool, TaskResult, shared_pool
from ixt_rl.threads import usable_cores


@dataclass(frozen=True)
class Harness:
    """A harness, as its score differs from ours.

    Args:
        name: as in `--as NAME`.
        about: whose rule, which version.
        quirks: what its score hides or allows.
        limit_s: wall time it gives a comparison, seconds.
        late: what it makes of one that takes longer; None: it waits, and here there is no verdict.
        first_sample: its score is that of each question's first sample, whatever others were drawn.
        suites: suites it has a task for; None: any.
        check: refuses where it cannot run.
    """

    name: str
    about: str
    quirks: tuple[str, ...] = ()
    limit_s: float = 30.0
    late: bool | None = False
    first_sample: bool = False
    suites: tuple[str, ...] | None = None
    check: Callable[[], None] = lambda: None


TASKS_PER_WORKER = 20_000
"""Few of them leave anything in sympy's caches."""

_LM_EVAL_LATE = "a comparison that takes 5 s is wrong"

HARNESSES: dict[str, Harness] = {
    harness.name: harness
    for harness in (
        Harness(
            "qwen25-math",
            "Qwen2.5-Math's evaluation, which the InTRO paper was measured with",
            (
                "its score is that of the first sample of each question",
                "a comparison that takes 3 s is wrong",
                "a hundredth of the gold and a hundred times it are accepted",
                "braces and parentheses are dropped before texts are compared: (1,2) is {1,2}",
                "without a box or a phrase the last number is the answer",
                "words that may be units are dropped wherever they stand alone",
            ),
            limit_s=3.0,
            first_sample=True,
        ),
        Harness(
            "lm-eval",
            "lm-evaluation-harness 0.4.13: strict-match of gsm8k, exact_match of minerva_math and aime",
            (
                "gsm8k: only a number after `####` counts",
                "minerva_math: only what follows `Final Answer: The final answer is` counts",
                "aime: without a box everything between the first and the last `$` is the answer",
                _LM_EVAL_LATE,
            ),
            limit_s=5.0,
            suites=lm_eval.TASKS,
        ),
        Harness(
            "lm-eval-flexible",
            "lm-evaluation-harness 0.4.13: flexible-extract of gsm8k",
            ("the last number of the text is the answer, and must be spelled as the gold: 18.00 is not 18",),
            suites=lm_eval.GSM8K,
        ),
        Harness(
            "lm-eval-math-verify",
            "lm-evaluation-harness 0.4.13: math_verify of minerva_math",
            ("the gold is read from the solution",),
            suites=lm_eval.MINERVA,
        ),
        Harness(
            "lighteval",
            "lighteval 0.13: expr_gold_metric of gsm8k, pass_at_k_math elsewhere, read by math-verify",
            ("the gold of gsm8k and math500 is read from the solution", "several numbers of a text may be compared"),
        ),
        Harness("math-verify", "math-verify with its defaults", ("floats are compared at 6 decimals",)),
        Harness(
            "mathruler",
            "mathruler 0.1, as RL frameworks reward with it",
            ("only a box counts", "fractions have to be reduced as the gold is", "integers need the same spelling"),
            limit_s=10.0,
            late=None,
            check=ruled.check,
        ),
    )
}


@dataclass(frozen=True)
class HarnessCheck(Check):
    """A comparison for the child process: `answer` is the whole completion.

    Args:
        harness, suite: whose rule, of which task.
        solution: the gold solution, or "".
    """

    harness: str = ""
    suite: str = ""
    solution: str = ""


@dataclass(frozen=True)
class HarnessResult(TaskResult):
    """What the child process found.

    Args:
        extracted: what the harness compared.
    """

    extracted: str | None = None


class HarnessPool(MathPool):
    """The math reward's pool with harness rules in its workers."""

    worker_command = (sys.executable, "-m", "ixt_rl.evaluation.harnesses.worker")

    def __init__(self, **settings: Any):
        super().__init__(**settings, tasks_per_worker=TASKS_PER_WORKER)

    def _combine(
        self, exact: dict[str, Any] | None, second: dict[str, Any] | None, failure: str, seconds: float
    ) -> HarnessResult:
        if exact is None:
            return HarnessResult(None, failure, None, seconds)
        return HarnessResult(exact["right"], exact["reason"], None, seconds, exact["extracted"])


def harness(name: str) -> Harness:
    """The harness of that name, able to run.

    Raises:
        ConfigError: there is none.
        BackendMissing: a package it needs is not installed.
    """
    if name not in HARNESSES:
        raise ConfigError(
            f"harness {name!r}",
            reason="unknown",
            remedy=f"{did_you_mean(name, list(HARNESSES))}one of {', '.join(HARNESSES)}",
        )
    HARNESSES[name].check()
    return HARNESSES[name]


def verdicts_as(name: str, cases: Sequence[HarnessCase]) -> list[HarnessVerdict]:
    """What a harness says of B completions.

    Raises:
        ConfigError, BackendMissing: see `harness`.
    """
    found = harness(name)
    tasks = [HarnessCheck(case.gold, case.text, 0.0, name, case.suite, case.solution) for case in cases]
    pool = shared_pool(workers=min(4, usable_cores()), deadline_s=found.limit_s, kind=HarnessPool)
    return [_verdict(found, result) for result in pool.judge(tasks)]


def verdict_as(name: str, suite: str, text: str, gold: str | Sequence[str], solution: str = "") -> HarnessVerdict:
    """What a harness says of one completion; where several golds are accepted, the best it says of any.

    Args:
        name: of `HARNESSES`.
        suite: name of the suite.
        text: the completion.
        gold: the gold answer alone.
        solution: the gold solution, where the suite has one.

    Raises:
        ConfigError, BackendMissing: see `harness`.
    """
    golds = [gold] if isinstance(gold, str) else list(gold)
    found = verdicts_as(name, [HarnessCase(suite, text, one, solution) for one in golds])
    return max(found, key=lambda one: (one.right is True, one.right is not None))


def _verdict(found: Harness, result: TaskResult) -> HarnessVerdict:
    assert isinstance(result, HarnessResult) or result.reason.startswith("crash")
    if result.reason.startswith(("timeout", "crash")):
        return HarnessVerdict(found.late, None, f"{result.reason}, counted as {_COUNTED[found.late]}")
    return HarnessVerdict(result.right, getattr(result, "extracted", None), result.reason)


_COUNTED = {False: "wrong", True: "right", None: "no verdict"}
