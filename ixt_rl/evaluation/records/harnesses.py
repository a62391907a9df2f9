"""The same samples by the rules of other harnesses, beside ours. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ixt_rl.evaluation.harnesses import HarnessCase, HarnessVerdict, harness, verdicts_as
from ixt_rl.evaluation.records.record import Record

_SHOWN = 50
"""Samples that are named where verdicts differ."""

_LABELS = {True: "right", False: "wrong", None: "undecided"}


def by_harnesses(names: Sequence[str], suite: str, records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Of each harness its score, its verdicts by kind, and the samples that it judges otherwise than we do.

    The score is that of the samples which the harness scores (of some, each question's first), among those that it
    gives a verdict on; None where there is none.

    Raises:
        ConfigError, BackendMissing: see `ixt_rl.evaluation.harnesses.harness`.
    """
    return {name: _by_harness(name, suite, records) for name in names}


def _by_harness(name: str, suite: str, records: Sequence[Record]) -> dict[str, Any]:
    rule = harness(name)
    verdicts = _verdicts(name, suite, records)
    differing = [
        {
            "id": record.id,
            "sample": record.sample,
            "ours": record.verdict,
            "theirs": _LABELS[found.right],
            "extracted": found.extracted,
            "why": found.why,
        }
        for record, found in zip(records, verdicts, strict=True)
        if _LABELS[found.right] != record.verdict
    ]
    scored = [
        _LABELS[found.right]
        for record, found in zip(records, verdicts, strict=True)
        if record.sample == 0 or not rule.first_sample
    ]
    counts = Counter(scored)
    decided = counts["right"] + counts["wrong"]
    return {
        "score": counts["right"] / decided if decided else None,
        **{label: counts[label] for label in _LABELS.values()},
        "of": "first samples" if rule.first_sample else "all samples",
        "quirks": list(rule.quirks),
        "differs": len(differing),
        "rows": differing[:_SHOWN],
    }


def _verdicts(name: str, suite: str, records: Sequence[Record]) -> list[HarnessVerdict]:
    """A verdict a record; of several accepted golds, the best that the harness says of any."""
    cases: list[HarnessCase] = []
    owners: list[int] = []
    for at, record in enumerate(records):
        for gold in record.gold if isinstance(record.gold, list) else [record.gold]:
            cases.append(HarnessCase(suite, record.text, str(gold), record.solution or ""))
            owners.append(at)
    best: dict[int, HarnessVerdict] = {}
    for at, found in zip(owners, verdicts_as(name, cases), strict=True):
        if at not in best or _rank(found) > _rank(best[at]):
            best[at] = found
    return [best[at] for at in range(len(records))]


def _rank(found: HarnessVerdict) -> int:
    return {None: 0, False: 1, True: 2}[found.right]
