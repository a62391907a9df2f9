"""The row of a paper that an evaluated model repeats, beside ours.

Papers' rows stand in run files, in the block `paper`: in that of the model's own run, and in the shipped ones
(`papers/intro-table1`). A row is a model's if both start from a model of one name, and the stage is the row's, or its
method by another run file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ixt_rl.config.shipped import names, shipped
from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.statistics import Estimate, average
from ixt_rl.report.evaluations.checkpoints import RunPlace, config_of, run_place
from ixt_rl.report.evaluations.evaluated import EvaluatedModel
from ixt_rl.yaml_io import parse_yaml

_METHODS = {"intro": "InTRO", "grpo": "GRPO", "gpg": "GPG", "raft": "RAFT++", "sft": "SFT"}
_PRESET = "paper"
_AVERAGE = "average"


@dataclass(frozen=True)
class PaperRow:
    """What a paper printed for a model and method, and what was measured here.

    Args:
        label: of the evaluated model.
        paper: which paper and table.
        row: `Qwen2.5-1.5B, InTRO`.
        column: a suite, or `average`.
        printed: percent.
        ours: the same of ours; None where a suite of it was not evaluated.
        apart: what keeps the two from being the same measurement; nothing if that is so.
    """

    label: str
    paper: str
    row: str
    column: str
    printed: float
    ours: Estimate | None
    apart: Sequence[str]


def paper_rows(models: Sequence[EvaluatedModel]) -> list[PaperRow]:
    """The rows of all models that a paper has, too; one figure of a paper once a model."""
    found: dict[tuple[str, str, str, float], PaperRow] = {}
    for one in models:
        place = run_place(one.model)
        config = {} if place is None else config_of(place.run)
        for own, table in [(True, config), *((False, other) for other in _shipped())]:
            for row in _rows(table):
                if _is_of(one, place, config, row, own):
                    for shown in _shown(one, place, table["paper"], row):
                        found.setdefault((one.label, table["paper"]["arxiv"], shown.column, shown.printed), shown)
    return list(found.values())


@cache
def _shipped() -> tuple[dict[str, Any], ...]:
    """The shipped run files that stand for tables of papers."""
    found = []
    for name in names():
        try:
            config = parse_yaml(shipped(name).path.read_text(encoding="utf-8"), name).value
        except (OSError, ConfigError):  # `ixt-rl check` says what is wrong with it
            continue
        if isinstance(config, dict) and "paper" in config:
            found.append(config)
    return tuple(found)


def _rows(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a run file's table, each with the model that it is of; none where it has no whole table."""
    paper = config.get("paper")
    if not isinstance(paper, dict) or not {"arxiv", "table", "rows"} <= set(paper):
        return []
    started = (config.get("model") or {}).get("path")
    rows = [{"model": started, **row} for row in paper["rows"] if isinstance(row, dict)]
    return [row | {"model": row["model"] or started} for row in rows if {"stage", "method", "expected"} <= set(row)]


def _is_of(
    one: EvaluatedModel, place: RunPlace | None, config: Mapping[str, Any], row: Mapping[str, Any], own: bool
) -> bool:
    """Whether a row is of an evaluated model; `own`: the row stands in the run file that made the model."""
    started = one.model if place is None else (config.get("model") or {}).get("path")
    if _plain(started) != _plain(row["model"]):
        return False
    if place is None:
        return bool(row["method"] == "base")
    return row["stage"] == place.stage if own else row["method"] in _methods(place, config)


def _methods(place: RunPlace, config: Mapping[str, Any]) -> list[str]:
    """What papers call the method of a run's stage."""
    stages = [stage for stage in config.get("stages") or [] if isinstance(stage, dict)]
    stage: dict[str, Any] = next((stage for stage in stages if stage.get("name") == place.stage), {})
    method = _METHODS.get(str(stage.get("type")))
    if method is None or (method == "RAFT++" and not (stage.get("raft") or {}).get("importance_ratio")):
        return []
    if method == "GRPO" and (stage.get("grpo") or {}).get("preset"):
        return []
    if method != "InTRO":
        return [method]
    n = (stage.get("intro") or {}).get("candidates", 5)
    return [f"InTRO n={n}", *(["InTRO"] if n == 5 else [])]


def _plain(path: Any) -> str:
    """The name of a model without its owner and `-Base`."""
    return Path(str(path)).name.lower().removesuffix("-base")


def _shown(
    one: EvaluatedModel, place: RunPlace | None, paper: Mapping[str, Any], row: Mapping[str, Any]
) -> list[PaperRow]:
    found = []
    for column, printed in row["expected"].items():
        suites = paper.get("average_of") or [] if column == _AVERAGE else [column]
        if not suites or (column != _AVERAGE and column not in one.results["suites"]):
            continue  # which figure of ours it stands beside is not said
        apart = _apart(one, suites)
        if place is not None and place.step is not None:
            apart.insert(0, f"a checkpoint, of update {place.step}")
        model = Path(str(row["model"])).name
        table = f"arXiv {paper['arxiv']}, {paper['table']}"
        found.append(
            PaperRow(one.label, table, f"{model}, {row['method']}", column, float(printed), _ours(one, suites), apart)
        )
    return found


def _ours(one: EvaluatedModel, suites: Sequence[str]) -> Estimate | None:
    if not all(suite in one.results["suites"] for suite in suites):
        return None
    estimates = [Estimate(**one.first_metric(suite)[1]["left_out"]) for suite in suites]
    return average(estimates) if len(estimates) > 1 else estimates[0]


def _apart(one: EvaluatedModel, suites: Sequence[str]) -> list[str]:
    there = {suite: found for suite, found in one.results["suites"].items() if suite in suites}
    missing = [suite for suite in suites if suite not in there]
    cut = [suite for suite, found in there.items() if found.get("of") not in (None, found["questions"])]
    preset = one.settings["preset"]["name"]
    return [
        *([f"not evaluated: {', '.join(missing)}"] if missing else []),
        *([f"preset {preset}"] if preset != _PRESET else []),
        *([f"not all questions: {', '.join(cut)}"] if cut else []),
    ]
