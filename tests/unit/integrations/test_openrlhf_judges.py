"""Judges of rewards in OpenRLHF's engines: models are served, and keys reach other nodes by no file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ixt_rl.blocks.rewards import MathRewardBlock, judges_asked
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.errors import RewardError
from ixt_rl.files import append_rows, read_rows
from ixt_rl.integrations.openrlhf.driver import _start_ray
from ixt_rl.integrations.openrlhf.job import HOLDER
from ixt_rl.judging.opening import parse_judge
from ixt_rl.run.stages import openrlhf, openrlhf_rewards
from tests.integration.run_helpers import config
from tests.unit.integrations.test_openrlhf_stage import NEW, stage
from tests.unit.rollout.ray_standin import Ray

KEY = "sk-for-tests-alone-0123456789"


def with_judge(tmp_path: Path, judge: str, options: dict[str, Any] | None = None) -> Any:
    rewards = [{"type": "world"}, {"type": "judge", "judge": judge, "options": options or {}, "weight": 0.5}]
    (found,) = config(tmp_path, [{**stage(), "rewards": rewards}], model={"new": NEW, "dtype": "bfloat16"}).stages
    return found


@pytest.fixture
def ray(monkeypatch) -> Ray:
    found = Ray()
    monkeypatch.setitem(sys.modules, "ray", found)
    return found


@pytest.mark.parametrize("kind", ["hf", "vllm"])
def test_a_judge_that_each_engine_would_load_is_refused(kind, tmp_path):
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "config.json").write_text('{"max_position_embeddings": 4096}')
    with pytest.raises(InvalidConfig, match=rf"the judge {kind}:.*/judge with backend: openrlhf(.|\n)*vllm serve"):
        with_judge(tmp_path, f"{kind}:{tmp_path}/judge")


def test_who_is_asked_about_what_a_reward_leaves_undecided_is_a_judge_too():
    math = MathRewardBlock.model_validate({"type": "math", "judge": {"judge": "openai:m", "rubric": "verifier"}})
    assert [one.judge for one in judges_asked([MathRewardBlock(type="math"), math])] == ["openai:m"]


def test_by_which_variables_a_judge_is_asked():
    assert parse_judge("openai:m", {}).variables[:2] == ("OPENAI_API_KEY", "OPENAI_BASE_URL")
    assert parse_judge("openai:m", {"api_key_env": "MINE"}).variables[0] == "MINE"
    assert parse_judge("python:x.py:f", {}).variables == ()


def test_a_job_names_variables_where_a_cluster_is_joined(tmp_path, monkeypatch):
    for name in ("RAY_ADDRESS", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MINE", KEY)
    asked = with_judge(tmp_path, "openai:m", {"api_key_env": "MINE", "base_url": "http://127.0.0.1:9/v1"})
    assert openrlhf._variables(asked, str(tmp_path)) == [], (
        "processes of a Ray that is started here have this environment"
    )
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert openrlhf._variables(asked, str(tmp_path)) == ["MINE"]
    assert openrlhf._variables(with_judge(tmp_path, "python:ixt_rl.judging.programs:sound"), str(tmp_path)) == []


def test_the_token_of_a_model_of_the_hub_is_among_them(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("HF_TOKEN", KEY)
    asked = with_judge(tmp_path, "python:ixt_rl.judging.programs:sound")
    assert openrlhf._variables(asked, "owner/model") == ["HF_TOKEN"]
    assert openrlhf._variables(asked, str(tmp_path)) == []
    monkeypatch.delenv("RAY_ADDRESS")
    assert openrlhf._variables(asked, "owner/model") == []


def test_what_judges_in_engines_have_to_say_reaches_the_result(tmp_path):
    file = tmp_path / "judge_notes.jsonl"
    assert openrlhf_rewards.notes_of_engines(file) == []
    judge: Any = SimpleNamespace(refused=[], tally=SimpleNamespace(looped=0))
    fails: list[bool] = []

    def reward(prompts, completions):
        if fails:
            raise RewardError("the budget is spent", reason="r", remedy="r")
        return [1.0 for _ in completions]

    reward.__name__ = "judge_reward"
    assert openrlhf_rewards.telling(reward, [], file) is reward
    first, second = (openrlhf_rewards.telling(reward, [judge], file) for _ in range(2))
    assert first(["p"], completions=["a"]) == [1.0]
    assert not file.exists(), "there is nothing to say"
    judge.refused.append("judge: the server knows no response_format")
    judge.tally.looped = 2
    for _ in range(3):
        first(["p"], ["a"])
    assert len(read_rows(file)) == 1, "it is said once"
    judge.tally.looped = 3
    fails.append(True)
    with pytest.raises(RewardError):
        second(["p"], ["a"])
    refused, looped = openrlhf_rewards.notes_of_engines(file)
    assert refused == "in OpenRLHF's engines: judge: the server knows no response_format"
    assert "judge: 3 replies looped" in looped, "one process: the last it said"
    other = {**read_rows(file)[-1], "engine": "another", "looped": 4}
    append_rows(file, [other])
    assert "judge: 7 replies looped" in openrlhf_rewards.notes_of_engines(file)[1]


def test_engines_on_other_nodes_get_the_values_by_no_file(ray, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("MINE", KEY)
    held = _start_ray(ray, {"variables": ["MINE"]})
    assert held is not None
    shown = json.dumps([ray.joined, ray.options])
    assert KEY not in shown, "Ray logs what a runtime environment holds"
    monkeypatch.delenv("MINE")  # as on another node
    found: list[str | None] = []
    monkeypatch.setattr(openrlhf_rewards, "read_json", lambda path: {"variables": ["MINE"], "stage": None})

    def started(job: Any) -> Any:
        found.append(os.environ.get("MINE"))
        raise StopIteration

    monkeypatch.setattr(openrlhf_rewards, "TypeAdapter", lambda kind: SimpleNamespace(validate_python=started))
    with pytest.raises(StopIteration):
        openrlhf_rewards.rewards_of_job("job.json")
    assert found == [KEY], "before a judge is started"
    assert [*ray.actors] == [HOLDER]


@pytest.mark.parametrize(("endpoint", "passed"), [("http://hub.example", True), ("http://me:word@hub.example", False)])
def test_the_hubs_address_is_passed_on_by_ray_if_it_holds_no_password(ray, monkeypatch, endpoint, passed):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    _start_ray(ray, {"variables": []})
    assert ("HF_ENDPOINT" in ray.joined["runtime_env"]["env_vars"]) == passed


def test_nothing_is_held_where_nothing_is_asked_for(ray, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert _start_ray(ray, {"variables": []}) is None
    monkeypatch.delenv("RAY_ADDRESS")
    assert _start_ray(ray, {"variables": ["MINE"]}) is None
    assert ray.actors == {}
