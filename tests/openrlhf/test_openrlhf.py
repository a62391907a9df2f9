"""The real OpenRLHF, Ray and vLLM on CPUs, through a run file; the shim stands in for CUDA calls alone.

IXT_RL_OPENRLHF_PYTHON=.openrlhf-env/bin/python .venv/bin/python -m pytest -n 0 -m openrlhf tests/openrlhf
"""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ixt_rl.blocks.openrlhf_flags import FREE, REFUSED, SET
from ixt_rl.config.load import dump_yaml
from ixt_rl.files import read_rows
from ixt_rl.integrations.openrlhf.environment import VARIABLE, check_environment

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get(VARIABLE)

pytestmark = [
    pytest.mark.openrlhf,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(PYTHON is None, reason=f"{VARIABLE} does not name the Python of OpenRLHF's environment"),
]


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


def start(tmp_path: Path, *stages: dict[str, Any]) -> subprocess.Popen[bytes]:
    """`ixt-rl run` with the shim on the path of what it starts, not on its own."""
    new = {"architecture": "llama", "hidden_size": 128, "layers": 2, "heads": 4, "intermediate_size": 384}
    model = {"new": new, "dtype": "bfloat16"}
    value = {"name": "run", "output_dir": str(tmp_path / "runs"), "model": model, "stages": [base(), *stages]}
    file = tmp_path / "run.yaml"
    file.write_text(dump_yaml(value))
    code = (
        f"import os, sys; os.environ['PYTHONPATH'] = {str(Path(__file__).parent / 'shim')!r}\n"
        f"from ixt_rl.cli import main; main(['run', {str(file)!r}])"
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, start_new_session=True)


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "run" / "stages" / "rl" / "seed1"


def trained(tmp_path: Path) -> list[dict[str, Any]]:
    return [row for row in read_rows(folder_of(tmp_path) / "metrics.jsonl") if row["phase"] == "train"]


def test_the_environment_is_the_locks():
    assert PYTHON is not None
    assert check_environment(PYTHON) == []


def test_the_tables_name_every_flag_of_its_parser():
    assert PYTHON is not None
    where = "import importlib.util as u; print(u.find_spec('openrlhf').submodule_search_locations[0])"
    folder = subprocess.run([PYTHON, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    names = set()
    for node in ast.walk(ast.parse((Path(folder) / "cli" / "train_ppo_ray.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            written = ast.unparse(node.args[0])
            names |= {eval(written, {"prefix": prefix})[2:] for prefix in ("actor", "critic")}
    assert names == {*SET, *FREE, *REFUSED}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory) -> Path:
    from ixt_rl.blocks.model import NewModelBlock
    from ixt_rl.models import new_model
    from ixt_rl.worlds import AdditionWorld

    folder, tokenizer = tmp_path_factory.mktemp("model"), AdditionWorld("sum").tokenizer()
    new_model(NewModelBlock(layers=2, hidden_size=64, heads=2), tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", ["intro", "rlsd"])
def test_an_update_on_two_ranks_is_the_plain_one(tmp_path, small_model, method):
    """Of DeepSpeed and OpenRLHF's own actor trainer, in bfloat16: four micro-batches on two ranks, in one pass here."""
    shared = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent / 'shim'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    script, out = Path(__file__).parent / "actor_step.py", tmp_path / "out.json"
    assert PYTHON is not None
    command = [PYTHON, str(script), str(small_model), method, str(out)]
    ranks = [
        subprocess.Popen(command, env={**shared, "RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.DEVNULL)
        for rank in ("0", "1")
    ]
    try:
        assert [rank.wait(1200) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    found = json.loads(out.read_text())
    status, plain = found["status"], found["plain"]
    assert status["factor/taken"] == pytest.approx(plain["factor"], abs=1e-4)
    assert status["policy_loss"] == pytest.approx(plain["loss"], abs=1e-4)
    assert status["actor_grad_norm"] == pytest.approx(plain["norm"], rel=5e-3)  # its gradients are bfloat16


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_intro_learns_on_two_actors_and_goes_on_after_a_kill(tmp_path):
    run = start(tmp_path, stage(intro={"posterior": {"source": "frozen"}}))
    try:
        while not (folder_of(tmp_path) / "checkpoints" / "checkpoint-20" / "complete.json").is_file():
            assert run.poll() is None, (folder_of(tmp_path) / "openrlhf" / "log.txt").read_text()[-3000:]
            time.sleep(1)
        time.sleep(2)  # its rows are read
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    deadline = time.monotonic() + 60
    while subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True).returncode == 0:
        assert time.monotonic() < deadline, "processes were left"
        time.sleep(1)
    assert start(tmp_path, stage(intro={"posterior": {"source": "frozen"}})).wait() == 0
    rows = trained(tmp_path)
    assert [row["step"] for row in rows] == [*range(1, 73)]
    first, last = (sum(row["reward"] for row in part) / 8 for part in (rows[:8], rows[-8:]))
    assert last > first + 0.15
    assert all(row["sampler/logp_abs"] < 0.1 for row in rows), "engines have the policy's weights"
    assert all(row["factor/taken"] > 0 and row["flops"] > 0 for row in rows)
    assert (folder_of(tmp_path) / "model" / "config.json").is_file()
    summary = json.loads((tmp_path / "runs" / "run" / "summary.json").read_text())
    assert summary["stages"]
    assert "InTRO" in (tmp_path / "runs" / "run" / "report.html").read_text()


def test_rlsd_trains(tmp_path):
    rlsd = {"type": "rlsd", "steps": 4, "rewards": [{"type": "world"}], "checkpoint_every": None}
    assert start(tmp_path, stage(**rlsd)).wait() == 0
    assert [row["step"] for row in trained(tmp_path)] == [1, 2, 3, 4]
