"""Verdicts anew from the texts of an evaluation: no model, no sampling, no data file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ixt_rl.errors import DataError
from ixt_rl.evaluation.records.folder import EvaluationFolder
from ixt_rl.evaluation.records.record import Record
from ixt_rl.evaluation.suites import SuiteGrader
from ixt_rl.rewards import parse_gold

_AT_ONCE = 1024  # texts


def regrade(folder: EvaluationFolder, grader: Callable[[str], SuiteGrader]) -> dict[str, Counter[tuple[str, str]]]:
    """Grades every record anew and writes them as a whole; ids, texts and all else stay. The caller holds the lock.

    Args:
        folder: of the evaluation.
        grader: of a suite, by its name.

    Returns:
        Of each suite, how many records have which verdicts (before, now).

    Raises:
        DataError: a damaged record.
    """
    graders: dict[str, SuiteGrader] = {}
    changes: dict[str, Counter[tuple[str, str]]] = {}

    def graded(records: Sequence[Record]) -> list[Record]:
        suite = records[0].suite
        graders[suite] = graders.get(suite) or grader(suite)
        found = graders[suite]([_row(record) for record in records], [record.text for record in records])
        new = [
            replace(record, extracted=one.extracted, verdict=one.verdict, why=one.why)
            for record, one in zip(records, found, strict=True)
        ]
        changes.setdefault(suite, Counter()).update(
            (was.verdict, now.verdict) for was, now in zip(records, new, strict=True)
        )
        return new

    def all_records() -> Iterator[Record]:
        waiting: list[Record] = []
        for record in folder.records():
            if waiting and (waiting[0].suite != record.suite or len(waiting) == _AT_ONCE):
                yield from graded(waiting)
                waiting = []
            waiting.append(record)
        if waiting:
            yield from graded(waiting)

    folder.replace_records(all_records())
    return changes


def _row(record: Record) -> dict[str, Any]:
    """What a grader reads of the row that a record is of."""
    row = {"question": record.question, "answer": record.gold, "id": record.id, "choices": record.choices}
    return {**row, "bad_gold": _bad_gold(record)}


def _bad_gold(record: Record) -> str | None:
    """Why its gold answer cannot be judged; None if it can."""
    if record.choices is not None:
        return None if record.gold in record.choices else "it is none of the choices"
    try:
        parse_gold(record.gold)
    except DataError as error:
        return error.reason
    return None
