"""A run folder as data: its stages, rows, samples and summary, with whatever is missing left out.

    config.yaml, metrics.jsonl, samples.jsonl, summary.json -> read_run -> Run

A run may have been cut off anywhere, so every file may be absent or end in half a line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ixt_rl.blocks.data import ADDITIONS, VIEWS
from ixt_rl.blocks.earlier_names import metrics_of_now
from ixt_rl.errors import DataError
from ixt_rl.evaluation.records.folder import SETTINGS
from ixt_rl.methods.registry import find
from ixt_rl.methods.spec import MethodReport, Role, Seen
from ixt_rl.report.run_files import read_config, read_summary, rows_of_run

FILES = ("config.yaml", "metrics.jsonl", "samples.jsonl", "summary.json")


@dataclass(frozen=True)
class StageRecord:
    """One stage, as its config and the summary tell it.

    Args:
        label: short name of the method, the same in every view.
        view: what the reward checks, or the name of the data file.
        of: name of the trained stage whose model this one starts from; None for the base model.
        after: name of the stage that this one starts from, whatever it is; None for the run's first model.
        learns_from: what it is trained on, as its method says; "nothing" for a base and for what only measures.
        role: what it is among the run's stages, as its method says.
        config: the stage's block of config.yaml.
        summary: the stage's block of summary.json; empty where the run did not get that far.
    """

    name: str
    type: str
    label: str
    view: str
    of: str | None = None
    after: str | None = None
    learns_from: Seen = "nothing"
    role: Role = "measured"
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def online(self) -> bool:
        """Trained on the policy's own rollouts."""
        return self.learns_from == "rollouts"

    @property
    def documents(self) -> bool:
        """Trained on documents and evaluated on the way, its tokens counted (`tokens`)."""
        return self.learns_from == "documents"

    @property
    def suffixes(self) -> bool:
        """Trained on continuations of prefixes, and measured on them."""
        return self.learns_from == "continuations"

    @property
    def trained(self) -> bool:
        """By one of the methods that a run compares; a plain pretraining stage only makes their base."""
        return self.learns_from != "nothing"

    @property
    def compared(self) -> bool:
        """Whether tables have a row for it: an arm, or what is measured beside arms."""
        return self.trained or self.role in ("arm", "measured")

    @property
    def learning_rate(self) -> float | None:
        return number((self.config.get("optim") or {}).get("lr", self.summary.get("lr")))


@dataclass(frozen=True)
class RunRecord:
    """A run folder.

    Args:
        rows: metrics.jsonl, one row for each stage, seed, phase and step.
        unreadable: what was found damaged, as sentences.
        config_text: config.yaml as it stands.
    """

    name: str
    config: dict[str, Any]
    config_text: str
    rows: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    summary: dict[str, Any]
    stages: list[StageRecord]
    unreadable: list[str]

    @property
    def online_stages(self) -> list[StageRecord]:
        return [stage for stage in self.stages if stage.online]

    @property
    def document_stages(self) -> list[StageRecord]:
        return [stage for stage in self.stages if stage.documents]

    @property
    def suffix_stages(self) -> list[StageRecord]:
        return [stage for stage in self.stages if stage.suffixes]

    @property
    def trained_stages(self) -> list[StageRecord]:
        return [stage for stage in self.stages if stage.trained]

    @property
    def views(self) -> list[str]:
        """Views of the stages that are measured, in the order of the config."""
        return unique(stage.view for stage in self.stages if stage.compared)

    @property
    def labels(self) -> list[str]:
        return unique(stage.label for stage in self.trained_stages)

    def stage_rows(self, stage: StageRecord, phase: str) -> dict[int, list[dict[str, Any]]]:
        """Rows of a stage by seed, ordered by step."""
        found: dict[int, list[dict[str, Any]]] = {}
        for row in self.rows:
            if row.get("stage") == stage.name and row.get("phase") == phase:
                found.setdefault(row.get("seed") or 0, []).append(row)
        return {seed: sorted(rows, key=lambda row: row["step"]) for seed, rows in sorted(found.items())}


def read_run(folder: Path) -> RunRecord:
    """Reads a run folder.

    Raises:
        DataError: the folder does not exist or holds none of a run's files.
    """
    folder = Path(folder)
    if not any((folder / name).is_file() for name in FILES):
        below = sorted(str(path.parent) for name in (FILES[0], SETTINGS) for path in folder.glob(f"*/{name}"))
        raise DataError(
            f"no run or evaluation in {str(folder)!r}",
            reason=f"it holds none of {', '.join([*FILES, SETTINGS])}",
            remedy=(f"name folders in it: {', '.join(below[:8])}; " if below else "")
            + "give the folder that `ixt-rl run` or `ixt-rl eval` printed",
        )
    unreadable: list[str] = []
    config_text, config = read_config(folder / "config.yaml", unreadable)
    summary = read_summary(folder / "summary.json", unreadable)
    lines = rows_of_run(folder, "metrics.jsonl", config, unreadable)
    rows = [metrics_of_now(row) for row in lines if number(row.get("step")) is not None]
    latest = {(r.get("stage"), r.get("seed"), r.get("phase"), r["step"]): r for r in rows}  # a resumed step twice
    return RunRecord(
        name=str(summary.get("name") or config.get("name") or folder.resolve().name),
        config=config,
        config_text=config_text,
        rows=list(latest.values()),
        samples=rows_of_run(folder, "samples.jsonl", config, unreadable),
        summary=summary,
        stages=make_stages(config, summary, rows),
        unreadable=unreadable,
    )


def make_stages(config: dict[str, Any], summary: dict[str, Any], rows: Iterable[dict[str, Any]]) -> list[StageRecord]:
    """The run's stages in the config's order, then any that only the summary or the rows name.

    A stage is labelled by its method, or by its name where two stages of a view would share a label.
    """
    configs = {stage["name"]: stage for stage in config.get("stages") or []}
    summaries = {stage["name"]: stage for stage in summary.get("stages") or []}
    rows = list(rows)
    types = {row["stage"]: row.get("type") for row in rows if row.get("stage")}
    counted = {row["stage"] for row in rows if row.get("phase") == "eval" and _counts_tokens(row)}
    counted |= {name for name, found in summaries.items() if _counts_tokens(found.get("mean") or {})}
    stages: dict[str, StageRecord] = {}
    previous: str | None = None
    for name in unique([*configs, *summaries, *types]):
        block, result = configs.get(name, {}), summaries.get(name, {})
        told = {**{key: result[key] for key in ("like", "trainer") if key in result}, **block}
        kind = str(result.get("type") or block.get("type") or types.get(name))
        shows = _shows(kind, told, name in counted)
        init = None if shows.role == "rows" else result.get("init") or block.get("init") or previous
        source = stages.get(str(init))
        of = None
        if source is not None and source.role != "base":
            of = source.name if source.trained else source.of
        label = result.get("label")
        if not label or label == name:
            label = shows.label(told) or name
        stages[name] = StageRecord(
            name,
            kind,
            label,
            view=result.get("view") or view_of(block),
            of=of,
            after=source.name if source else None,
            learns_from=shows.learns_from,
            role=shows.role,
            config=block,
            summary=result,
        )
        previous = previous if shows.role == "rows" else name
    taken = Counter((stage.label, stage.view) for stage in stages.values() if stage.online)
    return [replace(s, label=s.name) if taken[s.label, s.view] > 1 and s.online else s for s in stages.values()]


def view_of(block: dict[str, Any]) -> str:
    """Which problems a stage is measured on (a view of a world, or a data file), or else what it is trained on."""
    data = (block.get("evaluation") or {}).get("data") or block.get("data") or {}
    world = data.get("world")
    if world is None:
        sources = data.get("sources") or [data]
        if len(sources) > 1 and "question" in sources[0]:  # problems; documents are called by their first source
            return ", ".join(str(one.get("path") or one.get("from") or "") for one in sources)
        path = sources[0].get("path") or sources[0].get("from") or ""
        return ", ".join(path) if isinstance(path, list) else str(path)
    return str(data.get("view") or next(iter(VIEWS.get(world, ())), "sum"))


def finals(run: RunRecord, stage: StageRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """Mean and spread over seeds of a stage's final metrics; of the last evaluations where the summary has none."""
    if stage.summary.get("mean"):
        return stage.summary["mean"], stage.summary.get("spread") or {}
    last = [rows[-1] for rows in run.stage_rows(stage, "eval").values()]
    names = unique(name for row in last for name in row)
    values = {name: [v for row in last if (v := number(row.get(name))) is not None] for name in names}
    mean = {name: fmean(found) for name, found in values.items() if found}
    spread = {name: stdev(found) for name, found in values.items() if len(found) > 1}
    return mean, spread


def unfinished(run: RunRecord, stage: StageRecord) -> str:
    """Which seeds of a trained stage are missing or did not reach the last step; empty if all did."""
    planned, seeds = stage.config.get("steps"), run.config.get("seeds") or []
    if not stage.trained or stage.role == "base" or planned is None:
        return ""
    reached: dict[Any, int] = {}
    for phase in ("train", "eval"):
        for seed, rows in run.stage_rows(stage, phase).items():
            reached[seed] = max(reached.get(seed, 0), rows[-1]["step"])
    best = stage.summary.get("best") or {}  # with early stopping, a seed may be done before the last step
    ends = {seed: (best.get(str(seed)) or {}).get("updates", planned) for seed in reached}
    short = [f"seed {seed} at step {step} of {planned}" for seed, step in reached.items() if step < ends[seed]]
    return "; ".join(short + [f"seed {seed} not run" for seed in seeds if seed not in reached])


def cost(run: RunRecord, stage: StageRecord, name: str) -> float | None:
    """`flops` or `seconds` of one seed of a stage, averaged over seeds: both grow over a stage's rows."""
    rows = [run.stage_rows(stage, phase) for phase in ("train", "eval")]
    seeds = {seed for found in rows for seed in found}
    totals = [
        max(
            (v for found in rows for row in found.get(seed, []) if (v := number(row.get(name))) is not None),
            default=None,
        )
        for seed in seeds
    ]
    known = [total for total in totals if total is not None]
    if known:
        return fmean(known)
    recorded = number((stage.summary.get("mean") or {}).get(name))
    return recorded if recorded is not None else number(stage.summary.get(name))


def number(value: Any) -> float | None:
    """A finite number, or None: null, NaN, infinities and text are nothing measured."""
    if isinstance(value, str):  # PyYAML reads 1e-5 as text
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _shows(kind: str, block: dict[str, Any], counted: bool) -> MethodReport:
    """What a report shows of a stage of some type; `counted`: whether it was evaluated with its tokens counted.

    A base on documents is told by its data, and where its block is missing by having been counted.
    """
    spec = find(kind, block.get)
    if spec is None:
        return MethodReport(role="measured")
    if spec.report.role == "base":
        return replace(spec.report, learns_from="documents" if counted or _names_documents(block) else "nothing")
    return spec.report


def _names_documents(block: dict[str, Any]) -> bool:
    """Whether a pretraining stage's data are documents, not an addition world's pairs."""
    data = block.get("data") or {}
    return "sources" in data or data.get("world", "addition") not in ADDITIONS


def _counts_tokens(values: dict[str, Any]) -> bool:
    """Whether these are figures of a model trained on counted tokens and evaluated."""
    return number(values.get("tokens")) is not None and any(name.endswith(("/strict", "/checked")) for name in values)
