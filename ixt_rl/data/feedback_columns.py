"""Feedback as columns of a file: what `ixt-rl annotate` adds to each row, and what training reads back."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any, Literal

from ixt_rl.types import Feedback

Status = Literal["judged", "undecided", "skipped"]
"""`skipped`: not in the sample that was judged; `undecided`: judged, without an overall value."""


def feedback_columns(
    feedback: Feedback | None, status: Status, *, reason: str = "", tokens: int = 0, prefix: str = "feedback"
) -> dict[str, Any]:
    """The columns of one row.

    Args:
        feedback: None where the row was skipped; axes decided in an undecided answer are kept.
        status: see `Status`.
        reason: why it is undecided.
        tokens: tokens that the judge read and wrote for this row, whether it was asked or its answers were at hand.
        prefix: start of the columns' names.
    """
    known = feedback or Feedback()
    return {
        f"{prefix}_level": known.level,
        f"{prefix}_scores": dict(known.scores),
        f"{prefix}_critique": known.critique,
        f"{prefix}_judge": known.judge,
        f"{prefix}_status": status,
        f"{prefix}_reason": reason,
        f"{prefix}_tokens": tokens,
    }


def read_feedback(row: Mapping[str, Any], prefix: str = "feedback") -> Feedback | None:
    """The feedback of a row; None where there is none, or nothing in it was decided.

    A level that some writer of Parquet has made a float (columns with nulls) is read as the whole number it is.
    """
    scores = {axis: score for axis, score in (row.get(f"{prefix}_scores") or {}).items() if score is not None}
    level: Any = row.get(f"{prefix}_level")
    critique = row.get(f"{prefix}_critique") or ""
    if isinstance(level, float):
        level = int(level) if level.is_integer() else None if isnan(level) else level
    if level is None and not scores:
        return None
    return Feedback(level, scores, critique, row.get(f"{prefix}_judge") or "")
