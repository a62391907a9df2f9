"""What it cost to reach the evaluated models, where they are checkpoints of one run.

RUN/stages/STAGE[/seed1]/model                        the stage's last row of training
RUN/stages/STAGE[/seed1]/checkpoints/checkpoint-40    its row of update 40
the run's `model.path`                                nothing
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.files import read_rows
from ixt_rl.report.evaluations.evaluated import EvaluatedModel
from ixt_rl.report.run_folder import number
from ixt_rl.yaml_io import parse_yaml

COSTS = ("tokens", "rollouts", "flops", "seconds")
"""What a curve may be drawn against, as rows of metrics.jsonl call it; rollouts in place of tokens, where none are
counted."""


@dataclass(frozen=True)
class RunPlace:
    """Where in a run a model comes from.

    Args:
        run: the run's folder.
        stage: name of the stage.
        seed: of the stage; None: it has none.
        step: updates; None: all.
    """

    run: Path
    stage: str
    seed: int | None
    step: int | None


def run_place(model: str) -> RunPlace | None:
    """The place of a model by its path; None for one that no run made."""
    path = Path(model).expanduser()
    path = path.resolve() if path.exists() else path
    parts = path.parts
    if "stages" not in parts[:-1]:
        return None
    at = len(parts) - 1 - parts[::-1].index("stages")
    run, stage, rest = Path(*parts[:at]), parts[at + 1], parts[at + 2 :]
    seed = next((int(part[4:]) for part in rest if part.startswith("seed") and part[4:].isdigit()), None)
    named = next((part for part in rest if part.startswith("checkpoint-")), "")
    step = named.removeprefix("checkpoint-")
    return RunPlace(run, stage, seed, int(step) if step.isdigit() else None)


def config_of(run: Path) -> dict[str, Any]:
    """A run's config.yaml as plain values; empty where it cannot be read."""
    try:
        found = parse_yaml((run / "config.yaml").read_text(encoding="utf-8", errors="replace"), "config.yaml").value
    except (OSError, ConfigError):
        return {}
    return found if isinstance(found, dict) else {}


def costs_of(models: Sequence[EvaluatedModel]) -> list[Mapping[str, float]] | None:
    """Costs of each model, where all but those that the run started from come from one run; else None.

    A cost that is known of each is in each; what the run started from cost 0.
    """
    places = [run_place(one.model) for one in models]
    runs = {place.run for place in places if place is not None}
    if len(models) < 2 or len(runs) != 1:
        return None
    (run,) = runs
    started = (config_of(run).get("model") or {}).get("path")
    found: list[dict[str, float]] = []
    for one, place in zip(models, places, strict=True):
        if place is not None:
            found.append(_costs(place))
        elif started is not None and _same(one.model, str(started)):
            found.append(dict.fromkeys(COSTS, 0.0))
        else:
            return None
    shared = [name for name in COSTS if all(name in costs for costs in found)]
    kept = [{name: costs[name] for name in shared} for costs in found]
    moving = [name for name in shared if len({costs[name] for costs in kept}) > 1]
    moving = [name for name in moving if name != "rollouts" or "tokens" not in moving]
    return [{name: costs[name] for name in moving} for costs in kept] if moving else None


def _costs(place: RunPlace) -> dict[str, float]:
    folder = place.run / "stages" / place.stage / (f"seed{place.seed}" if place.seed is not None else "")
    try:
        rows = [row for row in read_rows(folder / "metrics.jsonl") if number(row.get("step")) is not None]
    except (DataError, OSError):
        return {}
    reached = [row for row in rows if place.step is None or row["step"] <= place.step]
    found: dict[str, float] = {}
    for name in COSTS:
        values = [value for row in reached if (value := number(row.get(name))) is not None]
        if values:
            found[name] = max(values)  # they grow
    return found


def _same(model: str, started: str) -> bool:
    one, other = Path(model).expanduser(), Path(started).expanduser()
    return model == started or (one.exists() and other.exists() and one.resolve() == other.resolve())
