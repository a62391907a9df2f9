"""What a probe comes to: the share of questions completed verbatim, and of those answered, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ixt_rl.evaluation.contamination.probe import LEAST_WORDS, PartialPrompt, ProbeRecord
from ixt_rl.evaluation.statistics import estimate

EXAMPLES = 5


def probe_summary(
    records: Sequence[ProbeRecord], clusters: Mapping[str, Sequence[str | None]], short: Mapping[str, int], graded: bool
) -> dict[str, Any]:
    """The figures of a probe, as they are written to contamination.json.

    By suite and share: `questions` asked; `verbatim` and, where answers were graded, `answered` (of all) and
    `answered_of_verbatim`, each with `value`, `low`, `high` (95 %, questions clustered where the suite says so) and
    `count`; shares `undecided` (in no `answered`) and `truncated`.

    Args:
        records: of all suites.
        clusters: of each suite, by its rows; None for a question of its own.
        short: questions that were too short, by suite.
        graded: whether answers were.
    """
    suites: dict[str, Any] = {}
    for suite in short:
        own = [record for record in records if record.prompt.suite == suite]
        shares = {}
        for share in sorted({record.prompt.share for record in own}):
            found = [record for record in own if record.prompt.share == share]
            names = _names([clusters[suite][record.prompt.index] for record in found], found)
            verbatim = np.array([float(record.verbatim) for record in found])
            figures: dict[str, Any] = {"questions": len(found), "verbatim": _figure(verbatim, names)}
            figures["truncated"] = sum(record.truncated for record in found) / len(found)
            if graded:
                right = np.array([np.nan if record.answered is None else float(record.answered) for record in found])
                figures["answered"] = _figure(right, names)
                figures["answered_of_verbatim"] = _figure(np.where(verbatim == 1, right, np.nan), names)
                figures["undecided"] = float(np.isnan(right).mean())
            shares[f"{share:g}"] = figures
        suites[suite] = {"short": short[suite], "least_words": LEAST_WORDS, "shares": shares}
    return {"suites": suites, "examples": [probe_row(record) for record in _examples(records)]}


def probe_row(record: ProbeRecord) -> dict[str, Any]:
    """A record as a line of probe.jsonl."""
    return {**asdict(record.prompt), **{name: value for name, value in asdict(record).items() if name != "prompt"}}


def probe_record(row: Mapping[str, Any]) -> ProbeRecord:
    """The record of a line of probe.jsonl."""
    prompt = PartialPrompt(**{name: row[name] for name in ("suite", "index", "id", "share", "shown", "rest")})
    return ProbeRecord(prompt, row["text"], row["verbatim"], row["answered"], row["truncated"])


def _names(clusters: Sequence[str | None], records: Sequence[ProbeRecord]) -> list[str] | None:
    if all(name is None for name in clusters):
        return None
    return [
        f"question {record.prompt.index}" if name is None else f"cluster {name}"
        for name, record in zip(clusters, records, strict=True)
    ]


def _figure(values: np.ndarray, names: Sequence[str] | None) -> dict[str, Any]:
    found = estimate(values, names)
    return {"value": found.value, "low": found.low, "high": found.high, "count": int(np.nansum(values))}


def _examples(records: Sequence[ProbeRecord]) -> list[ProbeRecord]:
    """Verbatim completions of the smallest share shown, of each suite the longest rests."""
    found = []
    for suite in dict.fromkeys(record.prompt.suite for record in records):
        verbatim = [record for record in records if record.prompt.suite == suite and record.verbatim]
        verbatim.sort(key=lambda record: (record.prompt.share, -len(record.prompt.rest)))
        seen: dict[int, ProbeRecord] = {}
        for record in verbatim:
            seen.setdefault(record.prompt.index, record)
        found += list(seen.values())[:EXAMPLES]
    return found
