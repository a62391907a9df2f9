"""Evaluations on suites: every sample is a record on disk, and all that is said of a model is computed from records.

rows -> prompts -> chunks of questions --engine--> texts --grader--> records.jsonl -> verdict tables -> results.json
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ixt_rl.evaluation.records.folder import EvaluationFolder, read_records
    from ixt_rl.evaluation.records.job import AskedSuite, EngineFacts, evaluate_suites
    from ixt_rl.evaluation.records.record import Record
    from ixt_rl.evaluation.records.regrade import regrade
    from ixt_rl.evaluation.records.results import results_of, verdict_table

_HOMES = {
    "AskedSuite": "job", "EngineFacts": "job", "EvaluationFolder": "folder", "Record": "record",
    "evaluate_suites": "job", "read_records": "folder", "regrade": "regrade", "results_of": "results",
    "verdict_table": "results",
}  # fmt: skip

__all__ = [
    "AskedSuite",
    "EngineFacts",
    "EvaluationFolder",
    "Record",
    "evaluate_suites",
    "read_records",
    "regrade",
    "results_of",
    "verdict_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
