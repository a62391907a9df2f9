"""Trainers of one's own like each kind of stage; prompts, rewards and sources of one's own: runs of seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ixt_rl.run import run_config
from tests.integration.run_helpers import config, online, rows, sip

TRAINERS = """
from dataclasses import dataclass
from ixt_rl.trainers import GRPOConfig, GRPOTrainer, IXTConfig, IXTTrainer, RAFTConfig, RAFTTrainer, SIPTrainer
from ixt_rl.types import Candidate

@dataclass
class Scaled(GRPOConfig):
    scale: float = 1.0

class MyGRPO(GRPOTrainer):
    config_class = Scaled

    def add_signals(self, rows, batch, rewards):
        batch["advantages"] = batch["advantages"] * self.args.scale

class MyRAFT(RAFTTrainer):
    def keep(self, rewards, batch):
        return rewards >= 0  # all of them

@dataclass
class Loud(IXTConfig):
    louder: float = 1.0

class MyIXT(IXTTrainer):
    config_class = Loud

    def compute_loss(self, *given, **named):
        loss = super().compute_loss(*given, **named)
        if isinstance(loss, tuple):
            return (loss[0] * self.args.louder, *loss[1:])
        return loss * self.args.louder

def teacher(items):
    return [Candidate("teacher", item.suffix_ids[:2], "of it") for item in items]

class Taught(SIPTrainer):
    sources = {"teacher": teacher}
"""

PROMPTS = """
class Told:
    def render(self, row):
        return f"Q {row['question']} A", f"Q {row['question']} ({row['hint']}) A"

def even(completions, hint, **columns):
    assert set(hint) == {"add"}
    return [float(len(text) % 2) for text in completions]
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(TRAINERS)
    (tmp_path / "prompts.py").write_text(PROMPTS)
    lines = [{"question": f"{n}+1?", "answer": str(n + 1), "hint": "add"} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def own(name: str, trainer: str, **changes):
    return {"type": "python", "trainer": f"mine.py:{trainer}", "init": "model", "evaluation": None, **changes}


def trained(folder: Path, stage: str) -> dict:
    return [row for row in rows(folder) if row["stage"] == stage and row["phase"] == "train"][-1]


def test_own_online_trainers_with_own_prompts_and_rewards(mine):
    at = {
        "data": {"path": str(mine / "rows.jsonl"), "columns": ["hint"]}, "template": "python:prompts.py:Told",
        "rewards": [{"type": "python", "path": "prompts.py:even"}], "steps": 1, "rollouts_per_step": 8, "group_size": 4,
        "sampling": {"max_new_tokens": 5},
    }  # fmt: skip
    stages = [
        online("still", **own("still", "MyGRPO", options={"scale": 0.0}, **at)),
        online("grpo", **own("grpo", "MyGRPO", options={"scale": 1.0}, **at)),
        online("raft", **own("raft", "MyRAFT", **at)),
    ]
    folder = run_config(config(mine, stages, model={"new": {"tokenizer": "bytes", "hidden_size": 32, "heads": 2}}))
    assert trained(folder, "still")["grad_norm"] == 0 < trained(folder, "grpo")["grad_norm"]
    assert trained(folder, "raft")["rollout/kept"] == 1
    assert 0 < trained(folder, "grpo")["reward"] < 1


def test_an_own_trainer_on_documents_and_one_on_suffixes(mine):
    documents = {
        "data": {"world": "chain", "documents": 40}, "steps": 2, "batch_size": 4,
        "optim": {"lr": 1e-3, "schedule": "constant"},
    }  # fmt: skip
    stages = [
        {"name": "quiet", **own("quiet", "MyIXT", like="pretrain", options={"louder": 0.0}, **documents)},
        {"name": "loud", **own("loud", "MyIXT", like="pretrain", options={"louder": 2.0}, **documents)},
        sip("taught", **own("taught", "Taught", rewriter=None, sources=["rollout", "teacher"], steps=2)),
    ]
    folder = run_config(config(mine, stages))
    assert trained(folder, "quiet")["grad_norm"] == 0 < trained(folder, "loud")["grad_norm"]
    last = trained(folder, "taught")
    assert last["chosen/teacher"] + last["chosen/rollout"] == pytest.approx(1)
