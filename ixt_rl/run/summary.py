"""summary.json: final values per stage and seed, their means and spreads, and what was expected."""

from __future__ import annotations

import statistics
from typing import Any

from ixt_rl.config.load import resolved
from ixt_rl.config.schema import RunConfig
from ixt_rl.files import read_json, write_json
from ixt_rl.report.run_folder import RunRecord, make_stages, view_of
from ixt_rl.run.answered import of_start
from ixt_rl.run.expectations import _check, _of
from ixt_rl.run.final_values import FinalValues, _values_at
from ixt_rl.run.folder import RunFolder, StageFolder
from ixt_rl.run.precision import KEPT


def summarise(config: RunConfig, folder: RunFolder, reason: str | None, seconds: float) -> dict[str, Any]:
    """Writes and returns the summary; `reason` says why the run stopped early, if it did."""
    stages, finals = [], FinalValues()
    for stage in config.stages:
        folders = _of(stage.name, folder)
        if folders:
            stages.append(_stage_summary(stage, folders, finals))
    run = _as_run(config, folder)
    summary = {
        "name": config.name,
        "status": "finished" if reason is None else "stopped",
        "reason": reason,
        "seconds": round(seconds, 1),
        "seeds": config.seeds,
        "stages": stages,
        "expectations": [_check(expectation, folder, run, finals) for expectation in config.expect],
        **_precision(config, folder),
        **_overlap(folder),
        "claims": [{**_check(claim, folder, run, finals), "says": claim.says} for claim in config.claims],
    }
    write_json(folder.path / "summary.json", summary, indent=1)
    return summary


def _precision(config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """What `model.dtype: auto` was measured by, where that is the run's dtype."""
    kept = read_json(folder.path / KEPT)
    return {"precision": kept} if kept and kept["dtype"] == config.model.dtype else {}


def _overlap(folder: RunFolder) -> dict[str, Any]:
    """Which test questions stand in what was trained on, where any set of them is a file's."""
    from ixt_rl.run.overlap import OVERLAP  # reads rows, and so loads numpy, which a dry run does without

    found = read_json(folder.path / OVERLAP)
    return {"overlap": found["measured"]} if found else {}


def _stage_summary(stage, folders: list[StageFolder], known: FinalValues) -> dict[str, Any]:
    finals = {str(f.seed): known.of(f) for f in folders}
    names = sorted({name for values in finals.values() for name in values})
    columns = {name: [v[name] for v in finals.values() if v.get(name) is not None] for name in names}
    results = [f.result() for f in folders]
    optim, start = getattr(stage, "optim", None), _values_at(folders[0], 0)
    return {
        "name": stage.name,
        "type": stage.type,
        **{key: getattr(stage, key) for key in ("like", "trainer") if hasattr(stage, key)},  # of a trainer of one's own
        "label": stage.name,
        "view": view_of(stage.model_dump()),
        "lr": optim.lr if optim else None,
        "init": stage.init,
        "seconds": round(sum(r.get("seconds", 0.0) for r in results), 1),
        "seeds": finals,
        "mean": {name: statistics.fmean(v) for name, v in columns.items() if v},
        "spread": {name: statistics.stdev(v) if len(v) > 1 else None for name, v in columns.items() if v},
        "start": start and start | of_start(folders[0].path),
        "reward_errors": sum(r.get("reward_errors", 0) for r in results),
        "notes": [note for r in results for note in r.get("notes", [])],
        "best": _by_seed("best", folders, results),
        "prompt_lengths": results[0].get("prompt_lengths"),
        **({"corpus": corpus} if (corpus := results[0].get("corpus")) else {}),
        **{name: found for name in ("told", "posterior") if (found := _by_seed(name, folders, results))},
    }


def _by_seed(name: str, folders: list[StageFolder], results: list[dict[str, Any]]) -> dict[str, Any]:
    return {str(f.seed): found[name] for f, found in zip(folders, results, strict=True) if name in found}


def _as_run(config: RunConfig, folder: RunFolder) -> RunRecord:
    """The run so far, as the report reads it."""
    plain = resolved(config)
    rows = [{**row, "stage": stage.stage} for stage in folder.stages for row in stage.metrics()]
    return RunRecord(config.name, plain, "", rows, [], {}, make_stages(plain, {}, rows), [])
