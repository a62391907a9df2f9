"""A program on inputs, each in a child of its own; what it gives is compared here: no child knows the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, InvalidOperation

from ixt_rl.evaluation.suites.cases import arguments_of, tests_of_gold
from ixt_rl.evaluation.suites.programs import AT_ONCE, Outcome, Ran, run_child

_SPARE = 1 << 20
"""Bytes that an output may have beyond eight times those of the right one."""

_SHOWN = 60


def run_on_cases(programs: Sequence[tuple[str, str]], seconds: int) -> list[Outcome]:
    """Outcomes of B programs, in order: passed where every test is; the first one that is not decides.

    Args:
        programs: of each its code, and its tests as a record keeps them (`cases.kept`).
        seconds: processor time of each test.

    Raises:
        ConfigError: this system lets no child process leave the network, so nothing is run.
        DataError: tests that lie in a file cannot be read there.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda one: _judged(one[0], one[1], seconds), programs))


def _judged(code: str, gold: str, seconds: int) -> Outcome:
    entry, tests = tests_of_gold(gold)  # only now: all tests of a suite are gigabytes
    for number, test in enumerate(tests, 1):
        outcome = _on_case(code, entry, test, seconds)
        if not outcome.passed:
            return Outcome(outcome.passed, f"test {number} of {len(tests)}: {outcome.why}")
    return Outcome(True, f"all {len(tests)} tests pass")


def _on_case(code: str, entry: str, test: dict[str, str], seconds: int) -> Outcome:
    most = _SPARE + 8 * len(test["output"])
    if entry:
        call = {"entry": entry, "arguments": arguments_of(test)}
        ran = run_child(code, seconds, {"call": call, "file_bytes": most})
        same = "value" in ran.said and ran.said["value"] == json.loads(test["output"])
        gives = ran.said.get("odd") or f"gives {json.dumps(ran.said.get('value')):.{_SHOWN}}"
    else:
        ran = run_child(code, seconds, {"file_bytes": most}, test["input"].encode("utf-8", "surrogatepass"))
        text = ran.output.decode("utf-8", "replace")
        same, gives = same_output(text, test["output"]), f"gives {text.strip()!r:.{_SHOWN}}"
    return _compared(ran, same, gives)


def _compared(ran: Ran, same: bool, gives: str) -> Outcome:
    if not ran.outcome.passed or same:
        return ran.outcome
    refused = ran.said.get("refused")
    return Outcome(None, f"refused: {refused[0]}") if refused else Outcome(False, f"it {gives}")


def same_output(given: str, expected: str) -> bool:
    """Whether two outputs are one, as LiveCodeBench compares them: line by line without spaces around, as texts or as
    exact decimals."""
    ours, theirs = ([line.strip() for line in text.strip().split("\n")] for text in (given, expected))
    return len(ours) == len(theirs) and all(map(_same_line, ours, theirs))


def _same_line(given: str, expected: str) -> bool:
    if given == expected:
        return True
    try:
        return [Decimal(word) for word in given.split()] == [Decimal(word) for word in expected.split()]
    except InvalidOperation:  # not all are numbers
        return False
