"""Problems from JSONL, JSON or Parquet files, or from the hub, as rows of `question` and `answer`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ixt_rl.errors import DataError

if TYPE_CHECKING:
    from ixt_rl.config.sections import FileData

_BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}
_SPLIT_SEED = 0


def load_rows(spec: FileData) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training rows, evaluation rows); the latter are `spec.eval_rows` set aside by a fixed shuffle.

    With `spec.group` they are whole groups, as few as have that many rows.

    Raises:
        DataError: a field is missing, a row has no extractable answer, or nothing is left.
    """
    dataset = _open(spec)
    for field in (spec.question, spec.answer, *spec.where, *spec.columns, *([spec.group] if spec.group else [])):
        if field not in dataset.column_names:
            raise DataError(
                f"{spec.path}: no field {field!r}",
                reason=f"its fields are {', '.join(dataset.column_names)}",
                remedy="map fields with data.question, data.answer, data.where, data.columns and data.group",
            )
    found = [
        (
            row[spec.group] if spec.group else index,
            {
                "question": str(row[spec.question]),
                "answer": extract_answer(str(row[spec.answer]), spec.answer_extract, f"{spec.path} row {index}"),
                **{field: row[field] for field in spec.columns},
            },
        )
        for index, row in enumerate(dataset)
        if all(row[field] in values for field, values in spec.where.items())
    ][: spec.max_rows]
    rows, aside = _shuffled(found, spec.eval_rows)
    if len(rows) <= aside:
        raise DataError(
            f"{spec.path}: {len(rows)} rows with eval_rows={spec.eval_rows}",
            reason="no row is left to train on" if rows else "no row matches data.where",
            remedy="lower eval_rows, or change data.where",
        )
    return rows[aside:], rows[:aside]


def _shuffled(found: list[tuple[Any, dict[str, Any]]], wanted: int) -> tuple[list[dict[str, Any]], int]:
    """(rows, those of a group together and groups in a fixed random order; rows of the first groups, >= `wanted`)."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for group, row in found:
        groups.setdefault(group, []).append(row)
    order = list(groups)
    random.Random(_SPLIT_SEED).shuffle(order)
    ends = [0, *accumulate(len(groups[group]) for group in order)]
    return [row for group in order for row in groups[group]], next((end for end in ends if end >= wanted), len(found))


def extract_answer(text: str, how: Literal["none", "last_box", "hashes"], place: str) -> str:
    """The gold answer in its field's text, by `FileData.answer_extract`.

    Raises:
        DataError: the text has no answer of that form.
    """
    from ixt_rl.rewards import final_answer

    found = text.strip() if how == "none" else final_answer(text, how)
    if not found:
        raise DataError(
            f"{place}: no answer by answer_extract={how} in {text[-80:]!r}",
            reason="every row needs a gold answer",
            remedy="choose another answer_extract (none, last_box, hashes) or field",
        )
    return found


def _open(spec: FileData):
    from datasets import load_dataset

    builder = _BUILDERS.get(Path(spec.path).suffix)
    if builder is not None:
        return load_dataset(builder, data_files=spec.path, split="train")
    return load_dataset(spec.path, spec.name, split=spec.split)


@dataclass(frozen=True)
class LengthAudit:
    """Prompt lengths in tokens, and what the policy did with those beyond the limit."""

    lengths: list[int]
    limit: int
    dropped: int
    truncated: int = 0

    def summary(self) -> dict[str, Any]:
        """Count, median, p95, max, dropped, and a histogram as [left edge, count] pairs."""
        lengths = np.array(self.lengths)
        counts, edges = np.histogram(lengths, bins=min(20, max(1, int(np.ptp(lengths)))))
        return {
            "count": len(lengths),
            "median": float(np.median(lengths)),
            "p95": float(np.percentile(lengths, 95)),
            "max": int(lengths.max()),
            "limit": self.limit,
            "dropped": self.dropped,
            "truncated": self.truncated,
            "histogram": [[float(e), int(c)] for e, c in zip(edges[:-1], counts, strict=True)],
        }


def audit_lengths(
    rows: list[dict[str, Any]], lengths: list[int], limit: int, on_long: str
) -> tuple[list[dict[str, Any]], LengthAudit]:
    """Rows whose prompt fits (or will be truncated), and the audit of all.

    Raises:
        DataError: a prompt is too long and `on_long` is `fail`, or every prompt is.
    """
    fits = [length <= limit for length in lengths]
    if on_long == "truncate":
        return rows, LengthAudit(lengths, limit, dropped=0, truncated=len(rows) - sum(fits))
    kept = [row for row, ok in zip(rows, fits, strict=True) if ok]
    if not kept or (len(kept) < len(rows) and on_long == "fail"):
        raise DataError(
            f"{len(rows) - len(kept)} of {len(rows)} prompts are longer than max_prompt_tokens={limit} "
            f"(the longest has {max(lengths)})",
            reason="they do not fit",
            remedy="raise rollout.max_prompt_tokens, or set rollout.on_long: drop or truncate",
        )
    return kept, LengthAudit(lengths, limit, len(rows) - len(kept))
