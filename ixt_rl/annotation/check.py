"""Does the judge agree with itself? A sample asked once more, and of pairs, in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ixt_rl.annotation.job import Job
from ixt_rl.annotation.pieces import texts
from ixt_rl.annotation.source import Source
from ixt_rl.judging.answer import Answer, Question, combine
from ixt_rl.judging.client import Judge


def compare_again(job: Job, source: Source, judge: Judge, rows: Sequence[int]) -> list[dict[str, Any]]:
    """What the votes so far say of each row, and what one more says.

    Args:
        job: what was asked.
        source: the rows.
        judge: with one repeat more than the job has; the votes so far come out of its cache.
        rows: numbers of judged rows.

    Returns:
        for each row, `first` and `again` as {"level": ..., axis: ...} with None for undecided, and `consistent`: for
        pairs, whether both orders gave the same label, all votes counted.
    """
    questions = []
    for row in rows:
        (fields,) = texts(source.read(row, row + 1), job.fields)
        questions.append(Question(job.rubric, fields))
    found = []
    for answer in judge.ask(questions):
        old, new = _split(answer, job)
        found.append({"first": _values(old), "again": _values(new), "consistent": answer.consistent})
    return found


def agreement(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares over a checked sample.

    Returns:
        documents: asked again.
        values: by name (`level` and the axes): both (decided twice), same (share of those with equal values), near
            (share at most 1 apart), difference (mean absolute), once (decided only once of two times).
        pairs, consistent: pairs decided in both orders, and the share with the same label in both.
    """
    values = {}
    for name in found[0]["first"] if found else ():
        pairs = [(row["first"][name], row["again"][name]) for row in found]
        gaps = [abs(a - b) for a, b in pairs if a is not None and b is not None]
        values[name] = {
            "both": len(gaps),
            "same": fmean(gap == 0 for gap in gaps) if gaps else None,
            "near": fmean(gap <= 1 for gap in gaps) if gaps else None,
            "difference": fmean(gaps) if gaps else None,
            "once": sum((a is None) != (b is None) for a, b in pairs),
        }
    orders = [row["consistent"] for row in found if row["consistent"] is not None]
    return {
        "documents": len(found),
        "values": values,
        "pairs": len(orders),
        "consistent": fmean(orders) if orders else None,
    }


def _split(answer: Answer, job: Job) -> tuple[Answer, Answer]:
    """The answer of the votes so far, and that of the further one in each order."""
    old, new = [], []
    for swapped in (False, True):
        votes = [vote for vote in answer.votes if vote.swapped is swapped]
        old += votes[: job.repeats]
        new += votes[job.repeats :]
    return combine(job.rubric, old, answer.judge), combine(job.rubric, new, answer.judge)


def _values(answer: Answer) -> dict[str, float | None]:
    return {"level": answer.level} | {
        name: answer.scores.get(name) for name in answer.axes if name not in ("overall", "verdict")
    }
