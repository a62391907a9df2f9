"""The row of a paper that an evaluated model repeats, beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ixt_rl.evaluation.statistics import Estimate, average
from ixt_rl.report.evaluations.checkpoints import config_of, run_place
from ixt_rl.report.evaluations.evaluated import EvaluatedModel

_METHODS = {"intro": "InTRO", "grpo": "GRPO", "raft": "RAFT++", "sft": "SFT"}


@dataclass(frozen=True)
class PaperRow:
    """What a paper printed for a model and method, and what was measured here.

    Args:
        label: of the evaluated model.
        paper: which paper and table.
        row: `Qwen2.5-1.5B, InTRO`.
        printed: percent.
        ours: the same average of ours; None where a suite of it was not evaluated.
        apart: what keeps the two from being the same measurement; nothing if that is so.
    """

    label: str
    paper: str
    row: str
    printed: float
    ours: Estimate | None
    apart: Sequence[str]


@cache
def _tables() -> list[dict[str, Any]]:
    text = resources.files("ixt_rl.report.evaluations").joinpath("paper_rows.yaml").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = yaml.safe_load(text)
    return found


def paper_rows(models: Sequence[EvaluatedModel]) -> list[PaperRow]:
    """The rows of all models that a paper has, too: by the name of the model (that a run started from) and, of a run's
    stage, by its method."""
    found = []
    for one in models:
        name, method, candidates = _made_of(one)
        for table in _tables():
            model = next((known for known in table["rows"] if known.lower() == name), None)
            if model is None or method is None:
                continue
            printed = table["rows"][model].get(method)
            row = f"{model}, {method}"
            if method == "InTRO" and candidates is not None and model in table.get("candidates", {}):
                printed, row = table["candidates"][model].get(candidates), f"{row} with n={candidates}"
            if printed is not None:
                found.append(PaperRow(one.label, table["paper"], row, printed, *_ours(one, table)))
    return found


def _made_of(one: EvaluatedModel) -> tuple[str, str | None, int | None]:
    """(name of the model without its owner and `-Base`, method or None for another, InTRO's n or None)."""
    place = run_place(one.model)
    if place is None:
        return _plain(one.model), "base", None
    config = config_of(place.run)
    stages = [stage for stage in config.get("stages") or [] if isinstance(stage, dict)]
    stage: dict[str, Any] = next((stage for stage in stages if stage.get("name") == place.stage), {})
    started = (config.get("model") or {}).get("path") or ""
    candidates = (stage.get("intro") or {}).get("candidates")
    method = _METHODS.get(str(stage.get("type")))
    if method == "RAFT++" and not (stage.get("raft") or {}).get("importance_ratio"):
        method = None
    return _plain(str(started)), method, candidates if isinstance(candidates, int) else None


def _plain(path: str) -> str:
    return Path(path).name.lower().removesuffix("-base")


def _ours(one: EvaluatedModel, table: Mapping[str, Any]) -> tuple[Estimate | None, list[str]]:
    apart = []
    place = run_place(one.model)
    if place is not None and place.step is not None:
        apart.append(f"a checkpoint, of update {place.step}")
    missing = [suite for suite in table["suites"] if suite not in one.results["suites"]]
    if missing:
        apart.append(f"not evaluated: {', '.join(missing)}")
    if one.settings["preset"]["name"] != table["preset"]:
        apart.append(f"preset {one.settings['preset']['name']}")
    cut = [
        suite
        for suite in table["suites"]
        if suite in one.results["suites"] and one.results["suites"][suite]["questions"] != _rows(one, suite)
    ]
    if cut:
        apart.append(f"not all questions: {', '.join(cut)}")
    if missing:
        return None, apart
    estimates = [Estimate(**one.first_metric(suite)[1]["left_out"]) for suite in table["suites"]]
    return average(estimates), apart


def _rows(one: EvaluatedModel, suite: str) -> int | None:
    found = one.results["suites"][suite]
    return found["questions"] if found.get("of") is None else found["of"]
