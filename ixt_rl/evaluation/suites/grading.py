"""Completions of a suite's rows -> right, wrong or undecided, with what was extracted and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ixt_rl.errors import DataError
from ixt_rl.evaluation.suites.case_runs import run_on_cases
from ixt_rl.evaluation.suites.choice_answers import NamedChoice, chosen
from ixt_rl.evaluation.suites.golds import why_bad
from ixt_rl.evaluation.suites.instructions import follows
from ixt_rl.evaluation.suites.programs import code_of, program_of, run_programs
from ixt_rl.rewards import MathReward, parse_gold
from ixt_rl.rewards.math.extract import after_thinking
from ixt_rl.rewards.math.verifier import SHOWN_CHARS
from ixt_rl.suites import Preset, Suite
from ixt_rl.types import Verdict

BAD_GOLD = "bad gold"


@dataclass(frozen=True)
class Graded:
    """A graded completion.

    Args:
        verdict: what the suite's rule says.
        why: the rule that decided, or why nothing could be.
        extracted: the final answer that was judged, as text; None where the completion gives none, which is wrong.
    """

    verdict: Literal["right", "wrong", "undecided"]
    why: str
    extracted: str | None

    @property
    def score(self) -> float | None:
        """1 right, 0 wrong, None undecided."""
        return {"right": 1.0, "wrong": 0.0}.get(self.verdict)


class SuiteGrader:
    """A suite's rule, with the answer looked for where the preset says.

    Args:
        suite, preset: which.
        reward: a `MathReward` of other limits; by default one with the suite's tolerance and the preset's `extract`.
    """

    def __init__(self, suite: Suite, preset: Preset, reward: MathReward | None = None):
        self.suite = suite
        self.reward = reward or MathReward(
            extract=preset.extract,
            last_line=preset.last_line,
            tolerance=suite.grading.tolerance,
            on_bad_gold="drop",
        )

    def __call__(self, rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[Graded]:
        """Grade B completions.

        Args:
            rows: B rows as `find_rows` gives them, one a text.
            texts: B completions as text, without end tokens.
        """
        if self.suite.kind in ("code", "cases"):
            return self._programs(rows, texts)
        if self.suite.kind == "instructions":
            return [_followed(row, after_thinking(text)) for row, text in zip(rows, texts, strict=True)]
        rows = [row if row["choices"] else {**row, "bad_gold": why_bad(row["answer"], self.suite.kind)} for row in rows]
        extracted = [self.reward.extracted(text) for text in texts]
        found = [
            self._choice(row, answer) if row["choices"] else None for row, answer in zip(rows, extracted, strict=True)
        ]
        math = [at for at, one in enumerate(found) if one is None]
        verdicts = self.reward.judge(
            [extracted[at] for at in math],
            [None if rows[at]["bad_gold"] else parse_gold(rows[at]["answer"]) for at in math],
            [rows[at]["question"] for at in math],
        )
        for at, verdict in zip(math, verdicts, strict=True):
            found[at] = _graded(verdict, extracted[at], rows[at])
        return [one for one in found if one is not None]

    def _programs(self, rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[Graded]:
        if self.suite.kind == "cases":
            code = [code_of(text) for text in texts]
            golds = [row["answer"] for row in rows]
            outcomes = run_on_cases([*zip(code, golds, strict=True)], self.suite.code.seconds)
        else:
            tests = [_tests(row) for row in rows]
            code = [code_of(text, of["entry"]) for text, of in zip(texts, tests, strict=True)]
            programs = [program_of(one, **of) for one, of in zip(code, tests, strict=True)]
            outcomes = run_programs(programs, self.suite.code.seconds)
        verdicts: dict[bool | None, Literal["right", "wrong", "undecided"]]
        verdicts = {True: "right", False: "wrong", None: "undecided"}
        return [Graded(verdicts[one.passed], one.why, text) for one, text in zip(outcomes, code, strict=True)]

    def _choice(self, row: Mapping[str, Any], answer: str | None) -> Graded:
        if row["bad_gold"]:
            return Graded("undecided", f"{BAD_GOLD}: {row['bad_gold']}", answer)
        if answer is None:
            return Graded("wrong", "no final answer", None)
        found: NamedChoice = chosen(answer, row["choices"], self.reward)
        if found.label is None:
            return Graded("wrong" if found.decided else "undecided", found.why, answer)
        return Graded("right" if found.label == row["answer"] else "wrong", f"{found.why}: {found.label}", answer)


def _followed(row: Mapping[str, Any], response: str | None) -> Graded:
    """All instructions followed, one of them not, or none not and one undecided."""
    if response is None:
        return Graded("wrong", "its thinking never ends", None)
    asked = json.loads(row["answer"])
    found = [(one["id"], follows(response, one)) for one in asked]
    for verdict, value, words in (("wrong", False, "not followed"), ("undecided", None, "cannot be told here")):
        names = [name for name, one in found if one is value]
        if names:
            return Graded(verdict, f"{words}: {', '.join(names)}", response)  # type: ignore[arg-type]
    return Graded("right", "all followed", response)


def _tests(row: Mapping[str, Any]) -> dict[str, str]:
    """A program's `prompt`, `entry` and `tests`, as `find_rows` writes them."""
    try:
        found = json.loads(row["answer"])
        return {name: found[name] for name in ("prompt", "entry", "tests")}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{str(row['answer'])[:80]!r}", reason=f"it holds no program's tests: {error}", remedy="evaluate anew"
        ) from None


def _graded(verdict: Verdict, answer: str | None, row: Mapping[str, Any]) -> Graded:
    label: Literal["right", "wrong", "undecided"] = verdict.label  # type: ignore[assignment]
    if row["bad_gold"]:
        return Graded(label, f"{BAD_GOLD}: {row['bad_gold']}", answer)
    shown = answer or ""
    shown = shown if len(shown) <= SHOWN_CHARS else shown[: SHOWN_CHARS - 3] + "..."
    return Graded(label, verdict.evidence.removesuffix(f": {shown}"), answer)
