"""The same samples by the rules of other harnesses, beside ours. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ixt_rl.evaluation.harnesses import verdict_as
from ixt_rl.evaluation.records.record import Record

_SHOWN = 50
"""Samples that are named where verdicts differ."""

_LABELS = {True: "right", False: "wrong", None: "undecided"}


def by_harnesses(harnesses: Sequence[str], suite: str, records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Of each harness its score, its verdicts by kind, and the samples that it judges otherwise than we do."""
    return {name: _by_harness(name, suite, records) for name in harnesses}


def _by_harness(harness: str, suite: str, records: Sequence[Record]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    rows = []
    for record in records:
        found = verdict_as(harness, suite, record.text, record.gold)
        theirs = _LABELS[found.right]
        counts[theirs] += 1
        if theirs != record.verdict:
            own = {"id": record.id, "sample": record.sample, "ours": record.verdict, "theirs": theirs}
            rows.append({**own, "extracted": found.extracted, "why": found.why})
    return {
        "score": counts["right"] / len(records),
        **{label: counts[label] for label in _LABELS.values()},
        "differs": len(rows),
        "rows": rows[:_SHOWN],
    }
