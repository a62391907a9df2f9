"""The real OpenRLHF, Ray and vLLM on CPUs: its environment and flags, an actor's update, whole runs from run files.

make openrlhf-env && .venv/bin/python -m pytest -n 0 tests/openrlhf
"""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ixt_rl.blocks.openrlhf_ppo_flags import TRAIN_PPO_RAY
from ixt_rl.blocks.openrlhf_sft_flags import TRAIN_SFT
from ixt_rl.integrations.openrlhf.environment import check_environment
from tests.openrlhf.helpers import PYTHON, Run, needs_openrlhf, on_two_ranks

pytestmark = needs_openrlhf
LONG = pytest.mark.long("tests/unit/integrations/test_openrlhf_updates.py")


def test_the_environment_is_the_locks():
    assert check_environment(str(PYTHON)) == []


@pytest.mark.parametrize("table", [TRAIN_PPO_RAY, TRAIN_SFT], ids=lambda table: table.program)
def test_the_tables_name_every_flag_of_its_parser(table):
    where = "import importlib.util as u; print(u.find_spec('openrlhf').submodule_search_locations[0])"
    folder = subprocess.run([str(PYTHON), "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    names = set()
    for node in ast.walk(ast.parse((Path(folder) / "cli" / f"{table.program}.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            written = ast.unparse(node.args[0])
            names |= {eval(written, {"prefix": prefix})[2:] for prefix in ("actor", "critic")}
    assert names == {*table.set, *table.free, *table.refused}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory) -> Path:
    from ixt_rl.blocks.model import NewModelBlock
    from ixt_rl.models import new_model
    from ixt_rl.worlds import AdditionWorld

    folder, tokenizer = tmp_path_factory.mktemp("model"), AdditionWorld("sum").tokenizer()
    new_model(NewModelBlock(layers=2, hidden_size=64, heads=2), tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@LONG
@pytest.mark.parametrize("method", ["intro", "rlsd"])
def test_an_update_on_two_ranks_is_the_plain_one(tmp_path, small_model, method):
    """Of DeepSpeed and OpenRLHF's own actor trainer, in bfloat16: four micro-batches on two ranks, in one pass here."""
    out = tmp_path / "out.json"
    on_two_ranks("actor_step.py", str(small_model), method, str(out))
    found = json.loads(out.read_text())
    status, plain = found["status"], found["plain"]
    assert status["factor/taken"] == pytest.approx(plain["factor"], abs=1e-4)
    assert status["policy_loss"] == pytest.approx(plain["loss"], abs=1e-4)
    assert status["actor_grad_norm"] == pytest.approx(plain["norm"], rel=5e-3)  # its gradients are bfloat16


def stage(**changes: Any) -> dict[str, Any]:
    return {
        "name": "rl", "type": "intro", "backend": "openrlhf", "data": {"world": "addition", "view": "sum"},
        "openrlhf": {"actors": 2, "flags": {"vllm.enforce_eager": True}}, "steps": 72, "rollouts_per_step": 32,
        "micro_batch_size": 16, "sampling": {"max_new_tokens": 34, "max_prompt_tokens": 30},
        "optim": {"lr": 3e-4, "warmup_steps": 5},
        "rewards": [{"type": "world"}], "evaluation": {"problems": 100}, "checkpoint_every": 20, **changes,
    }  # fmt: skip


def base() -> dict[str, Any]:
    """The demo's."""
    optim = {"lr": 4e-3, "betas": [0.9, 0.98], "weight_decay": 0.01, "warmup_steps": 50, "schedule": "cosine",
             "min_lr_ratio": 0.05}  # fmt: skip
    return {"name": "base", "type": "pretrain", "data": {"world": "addition"}, "steps": 1900, "optim": optim}


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory) -> Path:
    """Of runs that share their base."""
    return tmp_path_factory.mktemp("runs")


@LONG
def test_intro_learns_on_two_actors_and_goes_on_after_a_kill(output_dir):
    run = Run(output_dir, "intro", [base(), stage(intro={"posterior": {"source": "frozen"}})])
    run.kill_after(20)
    run.finish()
    rows = run.rows()
    assert [row["step"] for row in rows] == [*range(1, 73)]
    first, last = (sum(row["reward"] for row in part) / 8 for part in (rows[:8], rows[-8:]))
    assert last > first + 0.15
    assert all(row["sampler/logp_abs"] < 0.1 for row in rows), "engines have the policy's weights"
    assert all(row["factor/taken"] > 0 and row["flops"] > 0 for row in rows)
    assert (run.stage / "model" / "config.json").is_file()
    assert json.loads((run.folder / "summary.json").read_text())["stages"]
    assert "InTRO" in (run.folder / "report.html").read_text()


@LONG
def test_rlsd_trains(output_dir):
    rlsd = {"type": "rlsd", "steps": 4, "rewards": [{"type": "world"}], "checkpoint_every": None}
    run = Run(output_dir, "rlsd", [base(), stage(**rlsd)])
    run.finish()
    assert [row["step"] for row in run.rows()] == [1, 2, 3, 4]
