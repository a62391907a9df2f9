"""The files of a run folder, as far as they can be read, under the names of now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ixt_rl.blocks.earlier_names import ENGINE_KEYS, RUN_KEYS, STAGE_KEYS, metrics_of_now, with_names_of_now
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.files import read_json
from ixt_rl.methods.registry import SPECS
from ixt_rl.report.overlaps import overlaps_of
from ixt_rl.yaml_io import parse_yaml

_OF_METHODS = tuple(spec.block for spec in SPECS if spec.block)
_BLOCKS = ("optim", "data", "evaluation", "feedback", "sampling", "packing", "lora", *_OF_METHODS)
_METRICS = ("mean", "spread", "start")
_TABLES = (*_METRICS, "seeds", "prompt_lengths", "corpus")  # of a stage's summary


def read_config(path: Path, unreadable: list[str]) -> tuple[str, dict[str, Any]]:
    if not path.is_file():
        unreadable.append("config.yaml is missing: learning rates and stages are known from the other files only")
        return "", {}
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        config = parse_yaml(text, "config.yaml").value
    except ConfigError as error:
        unreadable.append(f"config.yaml cannot be read: {error}")
        return text, {}
    left_out: list[str] = []
    config = with_names_of_now(_shaped(config, {"seeds": list}, left_out), RUN_KEYS)
    if isinstance(config.get("engine"), dict):
        config["engine"] = with_names_of_now(config["engine"], ENGINE_KEYS)
    stages = [with_names_of_now(stage, STAGE_KEYS) for stage in _named(config, left_out)]
    config["stages"] = [_shaped(stage, dict.fromkeys(_BLOCKS, dict), left_out) for stage in stages]
    for stage in config["stages"]:
        for block in _BLOCKS:
            if isinstance(stage.get(block), dict):
                stage[block] = _shaped(stage[block], {"data": dict, "sources": list}, left_out)
    _say_left_out(path.name, left_out, unreadable)
    return text, config


def read_summary(path: Path, unreadable: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        summary = read_json(path) or {}
    except DataError as error:
        unreadable.append(f"summary.json cannot be read: {error.reason}")
        return {}
    left_out: list[str] = []
    summary = _shaped(summary, {"seeds": list, "expectations": list, "claims": list}, left_out)
    for key in ("expectations", "claims"):
        summary[key] = [item for item in summary.get(key) or [] if isinstance(item, dict)]
    shape: dict[str, type] = {**dict.fromkeys(_TABLES, dict), "notes": list}
    stages = [_shaped(stage, shape, left_out) for stage in _named(summary, left_out)]
    summary["stages"] = [
        {key: metrics_of_now(value) if key in _METRICS and value else value for key, value in stage.items()}
        for stage in stages
    ]
    if summary.get("overlap") is not None:
        summary["overlap"] = overlaps_of(summary["overlap"], left_out)
    _say_left_out(path.name, left_out, unreadable)
    return summary


def _shaped(value: Any, shape: dict[str, type], left_out: list[str]) -> dict[str, Any]:
    """An object without the keys that hold something else than they should; names of those go to `left_out`."""
    if not isinstance(value, dict):
        left_out.append(f"all of it, {type(value).__name__}")
        return {}
    wrong = [key for key, kind in shape.items() if value.get(key) is not None and not isinstance(value[key], kind)]
    left_out += wrong
    return {key: item for key, item in value.items() if key not in wrong}


def _named(value: dict[str, Any], left_out: list[str]) -> list[dict[str, Any]]:
    """The stages of a config or summary that have a name."""
    stages = value.get("stages") or []
    listed = stages if isinstance(stages, list) else []
    named = [stage for stage in listed if isinstance(stage, dict) and isinstance(stage.get("name"), str)]
    if stages and len(named) < len(listed or [None]):
        left_out.append("stages without a name")
    return named


def _say_left_out(name: str, left_out: list[str], unreadable: list[str]) -> None:
    if left_out:
        unreadable.append(f"{name} is damaged, left out: {', '.join(dict.fromkeys(left_out))}")


def rows_of_run(folder: Path, name: str, config: dict[str, Any], unreadable: list[str]) -> list[dict[str, Any]]:
    """Rows of all stages: those that the run has joined when it ended or was stopped, and what stages wrote since.

    Args:
        folder: of the run.
        name: of the file, in the run's folder and in its stages'.
        config: of the run.
        unreadable: takes what was found damaged, as sentences.
    """
    joined = folder / name
    before = joined.stat().st_mtime if joined.is_file() else 0.0
    since: list[dict[str, Any]] = []
    for stage in config.get("stages") or []:
        own = folder / "stages" / stage["name"]
        for file in (own / name, *(own / f"seed{seed}" / name for seed in config.get("seeds") or [])):
            if file.is_file() and file.stat().st_mtime > before:
                since += [{**row, "stage": stage["name"]} for row in read_lines(file, unreadable)]
    if since and not joined.is_file():
        return since
    written = {(row["stage"], row.get("seed")) for row in since}
    known = read_lines(joined, unreadable)
    return [row for row in known if (row.get("stage"), row.get("seed")) not in written] + since


def read_lines(path: Path, unreadable: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        unreadable.append(f"{path.name} is missing")
        return []
    rows, damaged = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            damaged += 1
            continue
        if isinstance(row, dict) and all(isinstance(row.get(key), kind | None) for key, kind in _ROW.items()):
            rows.append(row)
        else:
            damaged += 1
    if damaged:
        unreadable.append(f"{damaged} damaged line{'s' if damaged > 1 else ''} in {path.name} left out")
    return rows


_ROW = {"stage": str, "type": str, "phase": str, "seed": int}
