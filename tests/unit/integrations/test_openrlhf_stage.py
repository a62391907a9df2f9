"""A stage on rollouts that OpenRLHF trains: what its job is given, and what the run folder has when it is done.

What stands in for OpenRLHF here hands back the model that it was given, with the keys that OpenRLHF sets in its config;
tests/openrlhf has the real one.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from ixt_rl.blocks.model import ModelBlock, NewModelBlock
from ixt_rl.errors import ConfigError, RewardError, SelfCheckError
from ixt_rl.files import append_rows, read_json
from ixt_rl.integrations.openrlhf.environment import PINS, VARIABLE
from ixt_rl.integrations.openrlhf.job import JobFolder
from ixt_rl.ledger import model_size
from ixt_rl.models import byte_tokenizer, load_tokenizer, new_model
from ixt_rl.run import run_config
from ixt_rl.run.folder import StageFolder
from ixt_rl.run.stages import openrlhf, openrlhf_job
from ixt_rl.trainers.forward_checks import check_plain_head
from ixt_rl.worlds import AdditionWorld
from tests.integration.run_helpers import config, rows
from tests.unit.test_tokenizer_files import folder_of

STANDIN = """\
#!{python}
import json, os, shutil, sys
from pathlib import Path

if sys.argv[1] == "-c":
    print({pins!r})
    sys.exit()
assert sys.argv[1:3] == ["-m", "ixt_rl.integrations.openrlhf.driver"], sys.argv
of_a_rank = [name for name in os.environ if name.startswith("TORCHELASTIC_") or name in ("RANK", "GROUP_RANK")]
assert not of_a_rank, of_a_rank
job = json.loads(Path(sys.argv[3]).read_text())
flag = dict(zip(job["command"], job["command"][1:]))
out = Path(flag["--ckpt.output_dir"])
shutil.copytree(flag["--actor.model_name_or_path"], out, ignore=shutil.ignore_patterns("LICENSE*"))
config = json.loads((out / "config.json").read_text())
(out / "config.json").write_text(json.dumps({{**config, "use_cache": False, "output_router_logits": True}}))
with open(job["metrics"], "w") as file:
    for step in range(1, job["steps"] + 1):
        row = {{"step": step, "loss": 1.0, "reward": 0.5, "rollout/kept": 0.5}}
        row |= {{"tokens/rollout": 10, "tokens/train": 5, "tokens/posterior": 5}}
        file.write(json.dumps(row) + "\\n")
"""

NEW = {"hidden_size": 32, "heads": 2, "layers": 1, "intermediate_size": 64, "max_positions": 100}


def stage(**sampling: Any) -> dict[str, Any]:
    return {
        "name": "rl", "type": "intro", "backend": "openrlhf", "data": {"world": "addition", "view": "sum"},
        "steps": 3, "rollouts_per_step": 8, "sampling": {"max_new_tokens": 4, **sampling}, "optim": {"lr": 1e-3},
        "rewards": [{"type": "world"}], "evaluation": {"problems": 4},
    }  # fmt: skip


@pytest.fixture
def python(tmp_path, monkeypatch) -> None:
    """Stands in for OpenRLHF's interpreter, beside what a launcher of one process leaves in the environment."""
    file = tmp_path / "python"
    file.write_text(STANDIN.format(python=sys.executable, pins=json.dumps(PINS)))
    file.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(file))
    for name, value in {"TORCHELASTIC_USE_AGENT_STORE": "True", "RANK": "0", "GROUP_RANK": "0"}.items():
        monkeypatch.setenv(name, value)


def job_of(folder: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """(flags with values, labels of its prompts)."""
    job = folder / "stages" / "rl" / "seed1" / "openrlhf"
    command = (read_json(job / "job.json") or {})["command"]
    labels = [json.loads(json.loads(line)["label"]) for line in (job / "prompts.jsonl").read_text().splitlines()]
    return dict(pairwise(command)), labels


def test_a_run_keeps_what_a_run_of_this_library_keeps(tmp_path, python):
    folder = run_config(config(tmp_path, [stage()], model={"new": NEW, "dtype": "bfloat16"}))
    flags, labels = job_of(folder)
    longest = max(len(label["prompt_ids"]) for label in labels)
    assert int(flags["--data.max_len"]) == longest + 4 <= 100, "the default of 1024 has no room in this model"
    made = folder / "stages" / "rl" / "seed1"
    assert f"chdir({os.getcwd()!r})" in (made / "openrlhf" / "agent.py").read_text(), "where files of rewards begin"
    assert (read_json(made / "model" / "config.json") or {}).get("use_cache", True) is True
    assert "output_router_logits" not in (read_json(made / "model" / "config.json") or {})
    (kept,) = (read_json(made / "answered.json") or {})["sets"]
    assert len(kept["values"]["greedy/checked"]) == 4, "what paired differences are made of"
    found = rows(folder)
    assert [(row["phase"], row["step"]) for row in found] == [
        ("eval", 0), *(("train", step) for step in (1, 2, 3)), ("eval", 3)
    ]  # fmt: skip


def test_licences_of_the_base_come_along(tmp_path, python):
    base, tokenizer = tmp_path / "base", AdditionWorld().tokenizer()
    model: Any = new_model(NewModelBlock(**NEW), tokenizer)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    (base / "LICENSE.txt").write_text("do what you like")
    folder = run_config(config(tmp_path, [stage()], model={"path": str(base), "dtype": "bfloat16"}))
    assert (folder / "model" / "LICENSE.txt").read_text() == "do what you like"


def test_long_prompts_keep_their_end_where_they_are_to_be_cut(tmp_path, python):
    asked = [stage(max_prompt_tokens=3, on_long="truncate"), stage(max_prompt_tokens=90)]
    cut, whole = (
        job_of(run_config(config(tmp_path, [one], name=name, model={"new": NEW, "dtype": "bfloat16"})))
        for one, name in zip(asked, ("cut", "whole"), strict=True)
    )
    assert int(cut[0]["--data.max_len"]) == 3 + 4
    for short, long in zip(cut[1], whole[1], strict=True):
        assert len(long["prompt_ids"]) > 3
        assert short["prompt_ids"] == long["prompt_ids"][-3:]
        assert short["told_ids"] == long["told_ids"][-3:]


def test_code_of_a_repository_is_not_run_unasked(tmp_path, monkeypatch):
    """OpenRLHF loads with `trust_remote_code=True`; so it is looked for in repositories of the hub, too."""
    monkeypatch.setattr(openrlhf_job, "check_environment", lambda python: [])
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["own.py", null]}}')
    monkeypatch.setattr(openrlhf_job, "cached_file", lambda origin, name, **options: str(tmp_path / name))
    at: Any = SimpleNamespace(origin="owner/name", model=ModelBlock(path="owner/name"))
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json of owner/name"):
        openrlhf_job.checked_python("/python", at)
    at.model = ModelBlock(path="owner/name", trust_remote_code=True)
    assert openrlhf_job.checked_python("/python", at) == ("/python", [])


def test_a_head_that_actors_would_not_know_is_refused():
    for beyond, factor in (("", 1.0), ("what the head does not say", 2.0)):
        model: Any = new_model(NewModelBlock(**NEW, init_std=0.5), byte_tokenizer())
        model.lm_head.register_forward_hook(lambda module, given, logits, factor=factor: factor * logits)
        if not beyond:
            assert check_plain_head(model, temperature=0.7) < 1e-4
            continue
        with pytest.raises(SelfCheckError, match="another model would be trained"):
            check_plain_head(model, temperature=0.7)


def test_what_choosing_prompts_took_counts_once_however_often_a_stage_goes_on(tmp_path):
    model: Any = new_model(NewModelBlock(**NEW), byte_tokenizer())
    folder = StageFolder(tmp_path / "stage", "rl", "intro", 1, "{}")
    folder.path.mkdir()
    (asked,) = config(tmp_path, [stage()], model={"new": NEW, "dtype": "bfloat16"}).stages
    at: Any = SimpleNamespace(folder=folder)
    prompts: Any = SimpleNamespace(spent={"rollout": 1000}, sampled=8)
    update = {"tokens/rollout": 10, "tokens/train": 5, "tokens/posterior": 5}
    size = model_size(model)
    straight = openrlhf._Counted(asked, at, prompts, size)
    flops = [straight(step, dict(update))[1] for step in (1, 2, 3)]
    folder.add_metrics("train", 2, 16, flops[1], 0.1, {})
    assert openrlhf._Counted(asked, at, prompts, size)(3, dict(update))[1] == pytest.approx(flops[2])


def test_failures_of_all_engines_count_against_one_budget(tmp_path):
    (asked,) = config(
        tmp_path, [{**stage(), "reward_errors": {"max_total": 3}}], model={"new": NEW, "dtype": "bfloat16"}
    ).stages
    failures = tmp_path / "failures.jsonl"
    openrlhf._within_budget(asked, failures)
    for reward in ("a", "a", "b", "b", "a"):
        append_rows(failures, [{"reward": reward}])
        openrlhf._within_budget(asked, failures)
    append_rows(failures, [{"reward": "a"}])
    with pytest.raises(RewardError, match="reward 'a' failed on 4 samples of all engines"):
        openrlhf._within_budget(asked, failures)


def test_the_trained_model_has_the_runs_tokenizer(tmp_path):
    """OpenRLHF writes what it read by the class that the base's files name; the run reads the file's own rule."""
    base, file = folder_of(tmp_path, "digits", "GPT2Tokenizer")
    tokenizer = load_tokenizer(str(base), ModelBlock(path=str(base)))
    job, folder = JobFolder(tmp_path / "job"), StageFolder(tmp_path / "stage", "rl", "grpo", 1, "")
    for place in (base, job.model):
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.json").write_text('{"model_type": "llama"}')
    folder.path.mkdir()
    AutoTokenizer.from_pretrained(base).save_pretrained(job.model)
    assert AutoTokenizer.from_pretrained(job.model)("2024").input_ids != file.encode("2024").ids
    openrlhf_job.take_model(job, folder, 3, 3, str(base), tokenizer)
    assert AutoTokenizer.from_pretrained(folder.model)("2024").input_ids == file.encode("2024").ids
