"""examples/own_method: a trainer of one's own trains from the run file beside it; another file is another stage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ixt_rl.config.load import load_run
from ixt_rl.config.problems import InvalidConfig

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "own_method"


def ixt_rl(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ixt_rl", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_a_typing_error_in_its_option_is_refused_by_check():
    assert load_run(EXAMPLE / "run.yaml").stages[1].options == {"power": 0.5}
    with pytest.raises(InvalidConfig) as raised:
        load_run(EXAMPLE / "run.yaml", ["stages.soft.options={pwoer: 0.5}"])
    (problem,) = raised.value.problems
    assert problem.path == "stages.soft.options.pwoer"
    assert problem.reason == "SoftInTROConfig has no option `pwoer`"
    assert problem.remedy.startswith("did you mean `power`?")


@pytest.mark.slow
def test_it_trains_with_its_own_factor_and_another_trainer_is_another_stage(tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "mine")
    changed = {"steps": 2, "evaluation.problems": 8, "intro.keep_reward": 0.0, "options.power": 0.0}
    short = ("mine/run.yaml", "stages.base.steps=20", *(f"stages.soft.{key}={value}" for key, value in changed.items()))
    done = ixt_rl(tmp_path, "run", *short)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "own-method"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (last,) = [row for row in rows if row["stage"] == "soft" and row["phase"] == "train" and row["step"] == 2]
    assert last["factor/taken"] == last["factor/sampled"] == 1  # (q / p)^0
    assert "SoftInTRO" in (folder / "report.html").read_text()

    assert "soft, seed 1: reused" in ixt_rl(tmp_path, "run", *short, "--dry-run").stderr
    trainer = tmp_path / "mine" / "my_trainer.py"
    trainer.write_text(trainer.read_text() + "\n")
    said = ixt_rl(tmp_path, "run", *short, "--dry-run").stderr
    assert "soft, seed 1: done again: mine/my_trainer.py changed" in said
    assert "base: reused" in said
