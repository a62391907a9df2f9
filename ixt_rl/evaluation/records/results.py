"""What follows from the records of an evaluation: tables of verdicts, metrics with intervals, counts. No torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ixt_rl.evaluation.records.folder import EvaluationFolder
from ixt_rl.evaluation.records.record import Record
from ixt_rl.evaluation.records.votes import ballot, same_answer
from ixt_rl.evaluation.statistics import SuiteSummary, VerdictTable, average_of, summarize

_SPENT = ("seconds", "prompt_tokens", "completion_tokens")


def verdict_table(records: Iterable[Record]) -> dict[str, VerdictTable]:
    """The verdicts of each suite, a row a question, in the order of the records.

    A question with fewer samples than others of its suite is left out: its evaluation was stopped within it.
    """
    questions: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        questions.setdefault(record.suite, {}).setdefault(record.id, []).append(record)
    return {suite: _table(list(found.values())) for suite, found in questions.items()}


def _table(questions: list[list[Record]]) -> VerdictTable:
    most = max(map(len, questions))
    whole = [samples for samples in questions if len(samples) == most]
    named = any(samples[0].cluster is not None for samples in whole)
    return VerdictTable(
        ids=[samples[0].id for samples in whole],
        # a question that shares nothing is a cluster of its own
        clusters=[samples[0].cluster or f"question {samples[0].id}" for samples in whole] if named else None,
        scores=np.array([[np.nan if one.score is None else one.score for one in samples] for samples in whole]),
        truncated=np.array([[one.truncated for one in samples] for samples in whole]),
        extracted=[[one.extracted for one in samples] for samples in whole],
    )


def results_of(folder: EvaluationFolder, harnesses: Sequence[str] = ()) -> dict[str, Any]:
    """What results.json says: of each suite metrics with intervals beside the shares of what was undecided, truncated
    and not extracted; the mean over suites; what was spent.

    Args:
        folder: with its settings and records.
        harnesses: whose rules are applied beside ours.

    Raises:
        ConfigError, DataError: see `EvaluationFolder`.
    """
    settings = folder.settings()
    by_suite: dict[str, list[Record]] = {name: [] for name in settings["suites"]}
    for record in folder.records(with_ids=False):
        by_suite.setdefault(record.suite, []).append(record)
    chunks = folder.chunks()
    suites, summaries = {}, []
    for name, records in by_suite.items():
        if not records:
            continue
        summary = summarize(verdict_table(map(ballot, records))[name], same=same_answer)
        summaries.append(summary)
        suites[name] = _of_suite(summary, records, settings["suites"].get(name, {}), chunks)
        if harnesses:
            from ixt_rl.evaluation.records.harnesses import by_harnesses  # they import sympy

            suites[name]["as"] = by_harnesses(harnesses, name, records)
    asked = sum(suite["questions"] * suite["sampling"]["samples"] for suite in settings["suites"].values())
    done = sum(map(len, by_suite.values()))
    found: dict[str, Any] = {
        "model": settings["model"]["name"],
        "preset": settings["preset"]["name"],
        "complete": done == asked,
        "samples": {"done": done, "asked": asked},
        "suites": suites,
    }
    if len(summaries) > 1:
        found["average"] = asdict(average_of(summaries))
    return dict(json.loads(json.dumps(found)))  # as the file has it: lists, no tuples


def _of_suite(
    summary: SuiteSummary, records: Sequence[Record], asked: Mapping[str, Any], chunks: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    undecided = Counter(record.why.partition(":")[0] for record in records if record.verdict == "undecided")
    own = [chunk for chunk in chunks if chunk.get("suite") == records[0].suite]
    versions = list(dict.fromkeys(f"{record.engine} {record.engine_version}" for record in records))
    notes = [*asked.get("notes", [])]
    if len(versions) > 1:
        notes.append(f"sampled by {' and '.join(versions)}")
    return {
        **summary.as_json(),
        "of": asked.get("of"),
        "undecided_by_reason": dict(undecided.most_common()),
        "tokens": {
            "mean": float(np.mean([record.length for record in records])),
            "most": max(record.length for record in records),
        },
        "spent": {name: sum(chunk[name] for chunk in own) for name in _SPENT},
        "notes": notes,
    }
