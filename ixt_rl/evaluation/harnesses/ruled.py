"""mathruler, the package that several RL frameworks reward with: its box, its grader, called as they are."""

from __future__ import annotations

from importlib import util

from ixt_rl.errors import BackendMissing
from ixt_rl.evaluation.harnesses.verdict import HarnessCase, HarnessVerdict


def mathruler(case: HarnessCase) -> HarnessVerdict:
    """`grade_answer(extract_boxed_content(text), gold)`.

    Raises:
        BackendMissing: mathruler, or pylatexenc that it reads LaTeX with, is not installed.
    """
    check()
    from mathruler.grader import extract_boxed_content, grade_answer

    found = extract_boxed_content(case.text)
    right = bool(grade_answer(found, case.gold))
    return HarnessVerdict(right, None if found == "None" else found, "mathruler" if found != "None" else "no box")


def check() -> None:
    """Refuses where the package cannot run."""
    missing = [name for name in ("mathruler", "pylatexenc") if util.find_spec(name) is None]
    if missing:
        raise BackendMissing(
            f"the rules of mathruler need {' and '.join(missing)}",
            reason="not installed in this Python",
            remedy='pip install "mathruler>=0.1,<0.2" "pylatexenc>=2.10,<3"',
        )
