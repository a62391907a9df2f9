"""Runs over two ranks: as one process, one writer, killed and gone on with; ranks that `ixt-rl run` starts, also with a
pool of engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.elastic.utils.distributed import get_free_port

from ixt_rl.backends import is_installed
from ixt_rl.config.load import dump_yaml
from tests.integration.run_helpers import base, config, gap, online, rows, sip, weights
from tests.listening import watched
from tests.unit.distributed import NEXT, log_of

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

REWARD = '''
def reward(prompts, completions, completion_ids, **columns):
    """Half of all completions."""
    return [float(sum(ids) % 2) for ids in completion_ids]
'''
pytestmark = pytest.mark.timeout(1200)
LOSS = "ixt_rl.trainers.intro:InTROTrainer._compute_loss"
PASSING = ("seconds", "step_time", "rss_gib")  # of a row


def forked(folder: Path, stages: list[dict[str, Any]], jobs: list[dict[str, Any]]) -> list[list[int | None]]:
    """The exit statuses of the ranks of runs of these stages, see `tests.integration.forked_ranks`."""
    file = folder / "run.yaml"
    model = {"new": {"layers": 1, "hidden_size": 32, "heads": 2, "intermediate_size": 64}}
    launch = {"deadline": 600.0}
    value = {"name": "run", "output_dir": str(folder / "runs"), "model": model, "launch": launch, "stages": stages}
    file.write_text(dump_yaml(value), encoding="utf-8")
    command = [sys.executable, "-m", "tests.integration.forked_ranks", str(file), json.dumps(jobs)]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # DeepSpeed says before which device it has found


def log(folder: Path, rank: int) -> str:
    return log_of(folder, rank).read_text(encoding="utf-8")


def train_rows(folder: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in PASSING} for row in rows(folder)]


def named(name: str, ranks: int = 2, **job: Any) -> dict[str, Any]:
    return {"ranks": ranks, "set": [f"name={name}"], **job}


@pytest.fixture(scope="module")
def online_runs(tmp_path_factory):
    """In one process, on two ranks, and on two ranks of which one is killed three times."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    rl = online(
        "rl", rewards=[{"type": "python", "path": f"{folder}/reward.py:reward"}], intro={"candidates": "exact"},
        checkpoint_every=2, sampling={"max_new_tokens": 12}, evaluation={"every": 2, "problems": 5},
    )  # fmt: skip
    gap = {"name": "gap", "type": "evaluate", "data": {"world": "addition"}, "sampling": {"max_new_tokens": 8},
           "problems": 5}  # fmt: skip
    struck = [named("struck", kill=[rank, LOSS, update]) for rank, update in ((1, 2), (0, 4), (1, 1))]
    jobs = [named("one", 1), named("two"), *struck, named("struck")]
    return folder, forked(folder, [base(4), rl, gap], jobs)


@pytest.mark.slow
def test_two_ranks_train_what_one_process_trains(online_runs):
    folder, statuses = online_runs
    assert statuses[:2] == [[0], [0, 0]], log(folder, 0) + log(folder, 1)
    one, two = folder / "runs" / "one", folder / "runs" / "two"
    learnt = weights(one / "stages" / "rl" / "seed1")
    started = weights(next((folder / "runs" / ".cache").iterdir()))
    assert any(not torch.equal(value, started[name]) for name, value in learnt.items())
    for name, value in weights(two / "stages" / "rl" / "seed1").items():
        torch.testing.assert_close(value, learnt[name], rtol=0, atol=1e-5, msg=name)
    for expected, row in zip(train_rows(one), train_rows(two), strict=True):
        assert row.keys() == expected.keys()
        for name in row.keys() & {"loss", "rollout/kept", "entropy", "grad_norm", "greedy/strict", "sampled/length"}:
            assert row[name] == pytest.approx(expected[name], abs=1e-4), (row["stage"], row["step"], name)
        assert row["flops"] == expected["flops"]


@pytest.mark.slow
def test_one_rank_writes(online_runs):
    folder, _ = online_runs
    one, two = ({p.relative_to(root) for p in root.rglob("*")} for root in (folder / "runs/one", folder / "runs/two"))
    assert two == one
    assert len(rows(folder / "runs" / "two", "samples.jsonl")) == len(rows(folder / "runs" / "one", "samples.jsonl"))


@pytest.mark.slow
def test_killed_ranks_end_the_others_and_the_same_command_goes_on_to_the_same_weights(online_runs):
    folder, statuses = online_runs
    assert statuses[2:] == [[1, -9], [-9, 1], [1, -9], [0, 0]]
    assert "RankFailed: no sign of life from rank 1" in log(folder, 0)
    assert "rank 0 waited for it at" in log(folder, 0)
    assert "RankFailed" in log(folder, 1)
    straight, struck = (folder / "runs" / name / "stages" / "rl" / "seed1" for name in ("two", "struck"))
    for name, value in weights(straight).items():
        assert torch.equal(weights(struck)[name], value), name
    assert train_rows(struck) == train_rows(straight)


MOMENTS = {  # in the order of a run: who is killed, at which call of what
    "start": [1, "ixt_rl.run.ranks.team:place", 1],
    "loading the model": [1, "ixt_rl.run.stages.pretrain:load_model", 1],
    "an update of the first stage": [0, "ixt_rl.trainers.pretrain:PretrainTrainer.compute_loss", 2],
    "between the stages": [1, "ixt_rl.run.stages.online:make_task", 1],
    "an update": [0, LOSS, 2],
    "writing a checkpoint": [1, "ixt_rl.trainers.resumable:ResumableTrainer.write_files", 1],
    "sealing a checkpoint": [0, "ixt_rl.trainers.resumable:seal", 1],
    "evaluation": [1, "ixt_rl.run.ranks.split_engine:SplitEngine.answer", 1],
    "writing the model": [1, "ixt_rl.run.stages.online:save_model", 1],
    "report": [0, "ixt_rl.report.build:build_report", 1],
}


@pytest.mark.long(
    "tests/integration/test_launch.py::"
    "test_killed_ranks_end_the_others_and_the_same_command_goes_on_to_the_same_weights"
)
def test_a_rank_that_is_killed_at_any_moment_is_named_and_the_same_command_goes_on(tmp_path):
    (tmp_path / "reward.py").write_text(REWARD, encoding="utf-8")
    rl = online(
        "rl", rewards=[{"type": "python", "path": f"{tmp_path}/reward.py:reward"}], intro={"candidates": "exact"},
        checkpoint_every=1, steps=3, sampling={"max_new_tokens": 12},
        evaluation={"every": 3, "problems": 5, "at_start": False},
    )  # fmt: skip
    struck = [named("run", kill=kill) for kill in MOMENTS.values()]
    struck[0]["set"].append("launch.deadline=20")  # it is waited for: nobody knows that it was started
    again = [*struck, named("run")]
    for job in again:
        job["set"].append(f"output_dir={tmp_path}/struck")  # with a base of its own
    statuses = forked(tmp_path, [base(3), rl], [named("run"), *again])
    said = [log(tmp_path, rank).split(NEXT)[2:] for rank in (0, 1)]
    for number, (moment, (killed, *_)) in enumerate(MOMENTS.items()):
        left = said[1 - killed][number]
        assert statuses[1 + number] == ([-9, 1] if killed == 0 else [1, -9]), f"{moment}: {left}"
        assert f"rank {killed}" in left.partition("RankFailed:")[2], f"{moment}: {left}"
    assert [statuses[0], statuses[-1]] == [[0, 0]] * 2, said[0][-1]
    straight, struck_at = (tmp_path / folder / "run/stages/rl/seed1" for folder in ("runs", "struck"))
    for name, value in weights(straight).items():
        assert torch.equal(weights(struck_at)[name], value), name
    assert train_rows(struck_at) == train_rows(straight)


@pytest.mark.long(
    "tests/unit/trainers/test_strategies.py::test_every_method_and_what_runs_need",
    "tests/integration/test_launch.py::test_two_ranks_train_what_one_process_trains",
)
def test_documents_and_suffixes_on_two_ranks(tmp_path):
    wishes = {"wishes": {"best": 5, "none": None}, "temperatures": [0.0, 1.0], "problems": 5, "max_new_tokens": 8}
    docs = {"name": "docs", "type": "ixt", "init": "model", "data": {"world": "chain", "documents": 100}, "steps": 4,
            "packing": {"capacity": 128}, "feedback": {"template": "levels", "dropout": 0.2}, "batch_size": 4,
            "optim": {"lr": 1e-3}, "evaluation": {"every": 2, **wishes},
            "keep_best": {"metric": "greedy/length", "mode": "min"}}  # fmt: skip
    statuses = forked(tmp_path, [docs, sip("suffixes")], [named("one", 1), named("two")])
    assert statuses == [[0], [0, 0]], log(tmp_path, 0) + log(tmp_path, 1)
    for stage in ("docs", "suffixes"):
        one, two = (tmp_path / "runs" / name / "stages" / stage / "seed1" for name in ("one", "two"))
        expected = weights(one)
        for name, value in weights(two).items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5, msg=f"{stage}: {name}")
    spent = ("step", "stage", "flops", "tokens", "tokens/annotate", "flops/train", "flops/annotate", "flops/rollout")
    one, two = ([[row.get(name) for name in spent] for row in rows(tmp_path / "runs" / run)] for run in ("one", "two"))
    assert two == one


@pytest.mark.long(
    "tests/unit/trainers/test_strategies.py::test_every_method_and_what_runs_need",
    "tests/unit/trainers/test_sip.py::test_ranks_reach_the_weights_of_one_process",
)
def test_a_last_update_that_is_not_full_is_that_of_one_process(tmp_path):
    """Nine prefixes in updates of four: the second rank has none in the last one."""
    docs = {"name": "docs", "type": "pretrain", "init": "model", "data": {"world": "chain", "documents": 9},
            "epochs": 1, "packing": {"capacity": 64}, "batch_size": 4, "optim": {"lr": 1e-3}}  # fmt: skip
    short = {"init": "docs", "steps": None, "epochs": 1, "data": {"world": "chain", "passages": 9}, "evaluation": None}
    stages = [
        docs,
        sip("whole", **short, micro_batch_size=1),
        sip("parts", **short, judge_parts=2),
        sip("few", **short, batch_size=16),
    ]
    statuses = forked(tmp_path, stages, [named("one", 1), named("two")])
    assert statuses == [[0], [0, 0]], log(tmp_path, 0) + log(tmp_path, 1)
    one, two = (tmp_path / "runs" / name for name in ("one", "two"))
    for stage in ("docs", "whole", "few"):
        expected = weights(one / "stages" / stage / "seed1")
        for name, value in weights(two / "stages" / stage / "seed1").items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5, msg=f"{stage}: {name}")
    for row, expected in zip(rows(two), rows(one), strict=True):
        assert [row[name] for name in ("step", "rollouts")] == [expected[name] for name in ("step", "rollouts")]
        if row["stage"] != "parts":  # each part is one of every rank's prompts: other noise
            spent = {name: value for name, value in expected.items() if name.startswith("flops")}
            assert {name: row[name] for name in spent} == spent


@pytest.mark.long(
    "tests/unit/trainers/test_strategies.py::test_every_method_and_what_runs_need",
    "tests/integration/test_launch.py::test_two_ranks_train_what_one_process_trains",
)
def test_every_strategy_trains_what_one_process_trains(tmp_path):
    pytest.importorskip("deepspeed")
    (tmp_path / "reward.py").write_text(REWARD, encoding="utf-8")
    docs = {"name": "docs", "type": "ixt", "init": "model", "data": {"world": "chain", "documents": 60}, "steps": 3,
            "packing": {"capacity": 128}, "feedback": {"template": "critique"}, "batch_size": 4, "optim": {"lr": 1e-3},
            "ema": 0.9, "evaluation": {"problems": 3, "max_new_tokens": 8, "temperatures": [0.0]}}  # fmt: skip
    rl = online(
        "rl", init="docs", data={"world": "chain"}, intro={"candidates": "exact"}, lora={"r": 4},
        rewards=[{"type": "python", "path": f"{tmp_path}/reward.py:reward"}], sampling={"max_new_tokens": 12},
        evaluation={"every": 2, "problems": 5},
    )  # fmt: skip
    strategies = ("zero2", "zero3", "fsdp2")
    shared = [{"ranks": 2, "set": [f"name={name}", f"launch.strategy={name}"]} for name in strategies]
    statuses = forked(tmp_path, [docs, rl], [named("one", 1), *shared])
    assert statuses == [[0], *[[0, 0]] * 3], log(tmp_path, 0) + log(tmp_path, 1)
    for name in strategies:
        for stage in ("docs", "rl"):
            one, two = (weights(tmp_path / "runs" / run / "stages" / stage / "seed1") for run in ("one", name))
            for key, value in one.items():
                torch.testing.assert_close(two[key], value, rtol=0, atol=1e-5, msg=f"{name}, {stage}: {key}")


@pytest.mark.slow
def test_the_command_starts_the_ranks_and_leaves_none(tmp_path):
    file = tmp_path / "run.yaml"
    value = {"name": "run", "output_dir": str(tmp_path / "runs"), "model": {"new": {"layers": 1, "hidden_size": 32}},
             "launch": {"ranks": 2}, "stages": [base(2)]}  # fmt: skip
    file.write_text(dump_yaml(value), encoding="utf-8")
    command = [sys.executable, "-m", "ixt_rl", "run", str(file)]
    with watched(every=0.5) as listening:
        done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert not listening, f"open to other machines: {sorted(listening)}"
    assert done.stdout.count("run folder:") == 1
    assert done.stderr.count("base (pretrain)") == 1
    assert json.loads((tmp_path / "runs/run/summary.json").read_text())["status"] == "finished"
    left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(file).encode() in _read(p)]
    assert left == []


@pytest.mark.long(
    "tests/unit/trainers/test_strategies.py::test_two_ranks_reach_the_weights_of_one_process",
    "tests/integration/test_pool_training.py::test_logprobs_agree_after_every_large_update",
)
@pytest.mark.skipif(not (is_installed("vllm") and is_installed("ray")), reason="needs vllm and ray")
def test_two_ranks_share_a_pool_and_train_what_one_process_trains(tmp_path):
    """By the launcher, whose variables Ray's processes must not see."""
    (tmp_path / "reward.py").write_text(REWARD, encoding="utf-8")
    model = {"new": {"layers": 1, "hidden_size": 64, "heads": 2, "intermediate_size": 64}}
    short = {"steps": 2, "sampling": {"max_new_tokens": 16}, "evaluation": {"every": 2, "problems": 4},
             "rewards": [{"type": "python", "path": f"{tmp_path}/reward.py:reward"}]}  # fmt: skip
    config(
        tmp_path,
        [base(2), gap(sampling={"max_new_tokens": 16}, problems=4),
         online("intro", **short, intro={"candidates": "exact"}), online("grpo", type="grpo", **short)],
        model=model, engine={"type": "ray-vllm", "vllm": {"eager": True, "kv_cache_gib": 0.125}},
    )  # fmt: skip
    for name, words in (("one", []), ("two", ["launch.ranks=2"])):
        done = subprocess.run(
            [sys.executable, "-m", "ixt_rl", "run", str(tmp_path / "run.yaml"), f"name={name}", *words],
            env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    one, two = (tmp_path / "runs" / name for name in ("one", "two"))
    parity = [row["parity/logp_abs_max"] for row in rows(two) if "parity/logp_abs_max" in row]
    assert len(parity) == 4
    assert max(parity) <= 1e-3
    assert all(row["grad_norm"] > 0 for row in rows(two) if row["stage"] == "intro" and row["phase"] == "train")
    assert rows(two, "samples.jsonl") == rows(one, "samples.jsonl")
    for expected, row in zip(rows(one), rows(two), strict=True):
        for name in row.keys() & {"loss", "grad_norm", "entropy", "greedy/length", "sampled/length", "rollout/kept"}:
            assert row[name] == pytest.approx(expected[name], abs=1e-4), (row["stage"], row["step"], name)
    for stage in ("intro", "grpo"):
        learnt = weights(one / "stages" / stage / "seed1")
        for name, value in weights(two / "stages" / stage / "seed1").items():
            torch.testing.assert_close(value, learnt[name], rtol=0, atol=1e-5, msg=f"{stage}: {name}")


LAUNCHERS = {
    "accelerate": ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port={port}",
                   "-m", "ixt_rl", "run"],
    "deepspeed": ["-m", "deepspeed.launcher.runner", "--num_gpus=2", "--master_port={port}",
                  "--module", "ixt_rl", "run"],
    "ray": ["examples/cluster/ray_train.py", "2"],
}  # fmt: skip


@pytest.mark.long("tests/unit/run/test_ranks.py::test_what_launchers_say", "tests/cli/test_cli.py")
@pytest.mark.parametrize("name", LAUNCHERS)
def test_what_another_launcher_starts_are_ranks_of_one_run(name, tmp_path):
    pytest.importorskip(name)
    (tmp_path / "reward.py").write_text(
        "import os, pathlib\n\ndef reward(completions, **columns):\n"
        f"    pathlib.Path({str(tmp_path)!r}, 'rank' + os.environ['RANK']).touch()\n"
        "    return [1.0] * len(completions)\n"
    )
    file = tmp_path / "run.yaml"
    rewards = [{"type": "python", "path": f"{tmp_path}/reward.py:reward"}]
    rl = online("rl", init="model", rewards=rewards, steps=2, sampling={"max_new_tokens": 8}, evaluation=None)
    model = {"new": {"layers": 1, "hidden_size": 32, "heads": 2, "intermediate_size": 64}}
    file.write_text(dump_yaml({"name": "run", "output_dir": str(tmp_path / "runs"), "model": model, "stages": [rl]}))
    command = [sys.executable, *(word.format(port=get_free_port()) for word in LAUNCHERS[name]), str(file)]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p.name for p in tmp_path.glob("rank?")} == {"rank0", "rank1"}
    assert json.loads((tmp_path / "runs/run/summary.json").read_text())["status"] == "finished"
    assert (done.stdout + done.stderr).count("run folder:") == 1


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""
