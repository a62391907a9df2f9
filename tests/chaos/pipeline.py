"""A pipeline of seconds with everything that a resume has to restore, and what two runs of it are compared by."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ixt_rl.config.load import dump_yaml
from tests.integration.run_helpers import base, online, sip
from tests.integration.test_document_stages import on_chain

STAGES = ("base/base", "intro/seed1", "ixt/seed1", "sip/seed1")

JUDGE = '''
def better(fields):
    """Of two texts the one with more digits; a text alone is fine."""
    if "a" not in fields:
        return "yes"
    a, b = (sum(c.isdigit() for c in fields[name]) for name in "ab")
    return "tie" if a == b else "A" if a > b else "B"
'''

TIMES = ("seconds", "time", "per_second", "rss_gib", "runtime")
"""Parts of the names of values that two equal runs do not share."""


def write_config(folder: Path) -> Path:
    """pretrain -> intro (windows of 3 updates, each trained on twice), ixt (packed, averaged), sip (a judge's cache).

    Every stage but the first writes a checkpoint after each update.
    """
    (folder / "judge.py").write_text(JUDGE, encoding="utf-8")
    window = {"steps_per_generation": 3, "num_iterations": 2, "steps": 8, "checkpoint_every": 1}
    judge = {"model": f"python:{folder / 'judge.py'}:better"}
    value = {
        "name": "chaos",
        "output_dir": str(folder / "runs"),
        "model": {"new": {"hidden_size": 32, "heads": 2, "intermediate_size": 64}},
        "stages": [
            base(steps=12),
            online("intro", intro={"importance_ratio": True, "keep_reward": 0.0}, **window),
            on_chain("ixt", ema=0.9, steps=6, checkpoint_every=1),
            sip("sip", judge=judge, checkpoint_every=1),
        ],
    }
    path = folder / "chaos.yaml"
    path.write_text(dump_yaml(value), encoding="utf-8")
    return path


def outcome(run: Path) -> dict[str, Any]:
    """What a finished run left, times apart: hashes of weights, rows, samples, summary."""
    found: dict[str, Any] = {}
    for model in sorted(run.glob("stages/*/*/model/*.safetensors")):
        found[str(model.relative_to(run))] = hashlib.sha256(model.read_bytes()).hexdigest()
    for rows in sorted([*run.glob("*.jsonl"), *run.glob("stages/*/*/*.jsonl")]):
        lines = rows.read_text(encoding="utf-8").splitlines()
        found[str(rows.relative_to(run))] = [_without_times(json.loads(line)) for line in lines]
    found["summary"] = _without_times(json.loads((run / "summary.json").read_text(encoding="utf-8")))
    return found


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Where two outcomes differ, a line each."""
    told = [f"{name}: only in one of them" for name in sorted(found.keys() ^ expected.keys())]
    for name in sorted(found.keys() & expected.keys()):
        mine, theirs = found[name], expected[name]
        if isinstance(mine, list) and len(mine) != len(theirs):
            told.append(f"{name}: {len(mine)} rows for {len(theirs)}")
        elif mine != theirs:
            told.append(f"{name}: {_first_difference(mine, theirs)}")
    return told


def _first_difference(mine: Any, theirs: Any, place: str = "") -> str:
    if isinstance(mine, dict) and isinstance(theirs, dict) and mine.keys() == theirs.keys():
        key = next(key for key in mine if mine[key] != theirs[key])
        return _first_difference(mine[key], theirs[key], f"{place}.{key}")
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        index = next(i for i, pair in enumerate(zip(mine, theirs, strict=True)) if pair[0] != pair[1])
        return _first_difference(mine[index], theirs[index], f"{place}[{index}]")
    return f"{place} is {str(mine)[:200]}, not {str(theirs)[:200]}"


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if not any(part in k for part in TIMES)}
    return [_without_times(one) for one in value] if isinstance(value, list) else value
