"""Feedback columns: written and read back; what other writers make of them."""

from __future__ import annotations

import pytest

from ixt_rl.data.feedback_columns import feedback_columns, read_feedback
from ixt_rl.types import Feedback

FOUND = Feedback(4, {"correctness": 5.0}, "short", "me")


def test_what_is_written_is_read_back():
    row = {"text": "x", **feedback_columns(FOUND, "judged", tokens=7, prefix="late")}
    assert read_feedback(row, "late") == FOUND
    assert row["late_tokens"] == 7
    assert read_feedback(row) is None


def test_undecided_axes_and_rows_are_left_out():
    row = feedback_columns(None, "undecided", reason="no verdict")
    assert read_feedback(row) is None
    row["feedback_scores"] = {"correctness": None, "soundness": 2.0}
    assert read_feedback(row) == Feedback(None, {"soundness": 2.0})


def test_levels_as_floats_are_whole_numbers():
    row = feedback_columns(FOUND, "judged")
    level = read_feedback({**row, "feedback_level": 4.0}).level
    assert (level, type(level)) == (4, int)
    assert read_feedback({**row, "feedback_level": float("nan")}).level is None
    with pytest.raises(ValueError, match="level"):
        read_feedback({**row, "feedback_level": 4.5})
