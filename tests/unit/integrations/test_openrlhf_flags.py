"""A stage as OpenRLHF's flags, what is refused before anything starts, and the files of a job."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from ixt_rl.blocks.openrlhf_ppo_flags import TRAIN_PPO_RAY
from ixt_rl.blocks.openrlhf_sft_flags import TRAIN_SFT
from ixt_rl.config.load import load_run
from ixt_rl.doctor.openrlhf import openrlhf_table
from ixt_rl.errors import BackendFailed, BackendMissing, ConfigError, DataError
from ixt_rl.files import append_rows
from ixt_rl.integrations.openrlhf.environment import FOLDER, PINS, VARIABLE, check_environment, openrlhf_python
from ixt_rl.integrations.openrlhf.flags import JobSettings, command_line, ppo_flags
from ixt_rl.integrations.openrlhf.job import JobFolder, label, ordered, restore, run_job
from ixt_rl.trainers.checkpoints import OPENRLHF

GOOD = """\
name: trial
model: {new: {layers: 2, hidden_size: 64, heads: 4}, dtype: bfloat16}
stages:
  - name: rl
    type: intro
    backend: openrlhf
    openrlhf: {actors: 2, engines: 2, flags: {vllm.gpu_memory_utilization: 0.5, ds.adam_offload: true}}
    data: {world: addition, view: parity}
    steps: 30
    rollouts_per_step: 16
    micro_batch_size: 4
    sampling: {max_new_tokens: 8, max_prompt_tokens: 24}
    optim: {lr: 5e-7, warmup_steps: 7}
    rewards: [{type: world}]
    checkpoint_every: 10
"""


def loaded(tmp_path: Path, *changes: tuple[str, str]):
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "run.yaml").write_text(text)
    return load_run(tmp_path / "run.yaml")


SETTINGS = JobSettings("m", "sdpa", 3, Path("c"), Path("o"), resume=False)


def flags(stage):
    return ppo_flags(stage, SETTINGS, Path("p"), Path("a"))


def test_keys_become_flags(tmp_path):
    found = flags(loaded(tmp_path).stages[0])
    expected = {
        "actor.num_gpus_per_node": 2, "vllm.num_engines": 2, "rollout.batch_size": 4, "rollout.n_samples_per_prompt": 4,
        "train.batch_size": 16, "train.micro_batch_size": 4, "data.max_len": 32, "rollout.max_new_tokens": 8,
        "ckpt.save_steps": 10, "ckpt.disable_ds": False, "algo.kl.init_coef": 0.0, "ds.zero_stage": 2,
        "vllm.gpu_memory_utilization": 0.5, "ds.adam_offload": True, "actor.lr_scheduler": "constant_with_warmup",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert {*found} <= {*TRAIN_PPO_RAY.set, *TRAIN_PPO_RAY.free}, "each flag is one that the tables know"
    for steps in (1, 3, 7, 10, 49, 1000):  # OpenRLHF takes ceil(steps x ratio)
        stage = loaded(tmp_path).stages[0].model_copy(update={"steps": steps})
        ratio = flags(stage)["actor.lr_warmup_ratio"]
        assert math.ceil(steps * ratio) == 7, "also where it ends within the warmup, as transformers' schedules do"


@pytest.mark.parametrize("table", [TRAIN_PPO_RAY, TRAIN_SFT], ids=lambda table: table.program)
def test_every_flag_has_one_place(table):
    assert not {*table.set} & {*table.free}
    assert not {*table.set} & {*table.refused}
    assert not {*table.free} & {*table.refused}


def test_command_line():
    line = command_line({"a.b": True, "c": False, "d": [0.9, 0.95], "e": 5e-7, "f": "x y"})
    assert line == ["--a.b", "--d", "0.9", "0.95", "--e", "5e-07", "--f", "x y"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("type: intro", "type: grpo", "intro and rlsd"),
        ("dtype: bfloat16", "dtype: float32", "model.dtype: bfloat16"),
        ("steps: 30", "steps: 30\n    num_iterations: 2\n    intro: {importance_ratio: true}", "trained on once"),
        ("max_new_tokens: 8", "max_new_tokens: 8, stop: ['x']", "no stop strings"),
        ("lr: 5e-7", "name: sgd, lr: 5e-7", "set optim.name: adamw"),
        ("steps: 30", "steps: 30\n    intro: {posterior: {source: ema, decay: 0.9}}", "live or frozen"),
        ("steps: 30", "steps: 30\n    intro: {sign: advantage}", "leave sign out"),
        ("openrlhf: {a", "intro: {importance_ratio: true}\n    openrlhf: {correction: null, a", "leave one of the two"),
        ("micro_batch_size: 4", "micro_batch_size: 16", "whole micro-batches"),
        ("ds.adam_offload", "ds.adam_ofload", "did you mean `ds.adam_offload`"),
        ("ds.adam_offload: true", "ds.adam_offload: 'on'", "write true or false"),
        ("ds.adam_offload: true", "ds.zpg: true", "write a whole number"),
        ("ds.adam_offload: true", "ds.zpg: 0", "a whole number from 1 on"),
        ("ds.adam_offload: true", "ds.zpg: 2", "only ZeRO-3"),
        ("ds.adam_offload: true", "vllm.tensor_parallel_size: -1", "a whole number from 1 on"),
        ("vllm.gpu_memory_utilization: 0.5", "vllm.gpu_memory_utilization: 1.5", "at most 1"),
        ("vllm.gpu_memory_utilization: 0.5", "vllm.gpu_memory_utilization: 0", "a number above 0"),
        ("ds.adam_offload: true", "actor.adam.eps: .inf", "a number above 0"),
        ("ds.adam_offload: true", "ds.grad_accum_dtype: float", "one of: fp32, bf16"),
        ("ds.adam_offload: true", "vllm.sync_backend: mpi", "one of: nccl, gloo"),
        ("ds.adam_offload: true", "actor.gradient_checkpointing_reentrant: true", "without gradient_checkpointing"),
        ("ds.adam_offload: true", "actor.adam.eps: '1e-8'", "write a number"),
        ("ds.adam_offload: true", "actor.adam.lr: 0.1", "optim.lr sets it"),
        ("ds.adam_offload: true", "train.async_enable: true", "every rollout is of the policy"),
        ("actors: 2", "actorz: 2", "`actors`"),
        ("    backend: openrlhf\n", "", "set backend: openrlhf"),
        ("stages:", "launch: {ranks: 2}\nstages:", "OpenRLHF starts the processes"),
        ("steps: 30", "steps: 30\n    dynamic_sampling: {max_rounds: 2}", "leave it out"),
    ],
)
def test_what_openrlhf_cannot_honour_is_refused(tmp_path, old, new, says):
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        loaded(tmp_path, (old, new))


def test_stages_without_a_backend_are_as_they_were(tmp_path):
    config = loaded(tmp_path, ("    backend: openrlhf\n", ""), (GOOD.splitlines()[6] + "\n", ""))
    assert not {"backend", "openrlhf"} & {*config.stages[0].model_dump()}


def test_prompts_go_in_order_and_passes_leave_out_what_fills_no_update():
    assert ordered(9, 3, 2, [4, 2, 0, 1], list) == [4, 2, 0]
    passes = iter([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
    assert ordered(5, 6, 2, None, lambda: next(passes)) == [0, 1, 2, 3, 4, 3]


def test_a_label_has_both_prompts_and_what_rewards_read():
    row = {"prompt": "1+1=", "question": "1+1", "answer": "2", "prompt_ids": (1, 2), "told_prompt_ids": (1, 9, 2)}
    found = json.loads(label({**row, "test_ids": [7]}))
    assert found == {
        "prompt_ids": [1, 2], "told_ids": [1, 9, 2], "prompt": "1+1=",
        "columns": {"question": "1+1", "answer": "2", "test_ids": [7]},
    }  # fmt: skip
    cut = json.loads(label(row, limit=2))
    assert (cut["prompt_ids"], cut["told_ids"]) == ([1, 2], [9, 2])


def test_a_checkpoint_becomes_what_openrlhf_loads(tmp_path):
    checkpoint = tmp_path / "checkpoint-4"
    (checkpoint / "global_step4").mkdir(parents=True)
    (checkpoint / OPENRLHF).write_text('{"folder": "global_step4"}')
    restore(tmp_path, checkpoint)
    assert (tmp_path / "_actor" / "latest").read_text() == "global_step4"
    assert (tmp_path / "_actor" / "global_step4").resolve() == checkpoint / "global_step4"
    restore(tmp_path, None)
    assert not (tmp_path / "_actor").exists()
    assert (checkpoint / "global_step4").is_dir(), "a link went, not what it leads to"


def python(tmp_path: Path, script: str) -> str:
    """A stand-in for an interpreter: a shell script."""
    file = tmp_path / "python"
    file.write_text("#!/bin/sh\n" + script)
    file.chmod(0o755)
    return str(file)


def test_rows_arrive_and_a_failure_shows_the_log(tmp_path):
    folder, rows = JobFolder(tmp_path / "job"), []
    folder.write([], "", {})
    append_rows(tmp_path / "row", [{"step": 1}])
    run_job(folder, python(tmp_path, f"cat {tmp_path / 'row'} > {folder.metrics}\n"), rows.append)
    assert rows == [{"step": 1}]
    with pytest.raises(BackendFailed, match="status 3 after 1 updates"):
        run_job(folder, python(tmp_path, "echo ValueError: no such device\nexit 3\n"), rows.append)


def test_an_environment_is_looked_at_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "/of/variable")
    assert openrlhf_python("/named") == "/named"
    assert openrlhf_python() == "/of/variable"
    monkeypatch.delenv(VARIABLE)
    (tmp_path / FOLDER / "bin").mkdir(parents=True)
    (tmp_path / FOLDER / "bin" / "python").touch()
    assert openrlhf_python() == str(tmp_path / FOLDER / "bin" / "python")
    with pytest.raises(BackendMissing, match="does not run"):
        check_environment(str(tmp_path / "nothing"))
    there = {**PINS, "vllm": "0.30.0", "torch": "2.13.0+cpu"}
    assert check_environment(python(tmp_path, f"echo '{json.dumps(there)}'")) == ["vllm 0.30.0, tried with 0.29.0"]
    with pytest.raises(BackendMissing, match=r"openrlhf 0\.12\.0 there"):
        check_environment(python(tmp_path, f"echo '{json.dumps({**PINS, 'openrlhf': '0.12.0'})}'"))


def test_engines_make_the_rewards_of_the_stage_again(tmp_path):
    from ixt_rl.run.stages.openrlhf_rewards import rewards_of_job

    stage = loaded(
        tmp_path, ("rewards: [{type: world}]", "rewards: [{type: world}, {type: math, weight: 0.5}]")
    ).stages[0]
    job = {
        "stage": stage.model_dump(mode="json", exclude=set(stage.other_blocks)),
        "failures": str(tmp_path / "failures.jsonl"), "method": {"weights": [1.0, 0.5]}, "eos_ids": [2],
        "variables": [], "judge_notes": str(tmp_path / "judge_notes.jsonl"),
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    rewards, weights, ends = rewards_of_job(str(tmp_path / "job.json"))
    assert [reward.__name__ for reward in rewards] == ["world_reward", "math_reward"]
    assert (list(weights), list(ends)) == ([1.0, 0.5], [2])
    given = {"prompts": ["?"] * 2, "completions": [r"so \boxed{7}", r"\boxed{8}"]}
    assert rewards[1](**given, answer=["7", "7"]) == [1.0, 0.0]
    with pytest.raises(DataError, match="no such file"):
        rewards_of_job(str(tmp_path / "elsewhere.json"))


def test_the_lock_has_the_versions_that_were_tried():
    lines = (Path(__file__).resolve().parents[3] / "locks" / "openrlhf.txt").read_text().splitlines()
    written = [line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")]
    locked = dict(line.split("==") for line in written)
    assert {name: locked.get(name, locked.get(f"{name}-cpu")) for name in PINS} == PINS
    assert written == sorted(written, key=lambda line: line.partition("==")[0].lower())


def test_doctor_shows_the_environment_where_there_is_one(tmp_path, monkeypatch):
    there = {**PINS, "ray": "2.60.0"}
    monkeypatch.setenv(VARIABLE, python(tmp_path, f"echo '{json.dumps(there)}'"))
    table = openrlhf_table()
    assert table is not None
    cells = [list(column.cells) for column in table.columns]
    assert cells[0][1:] == [*PINS]
    assert [cell == "[yellow]no[/]" for cell in cells[3][1:]] == [name == "ray" for name in PINS]
    monkeypatch.setenv(VARIABLE, sys.executable)
    assert openrlhf_table() is None
