"""Runs on data as it comes: conversations, prompts in messages, missing fields, a tokenizer that errs on ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.models import new_model
from ixt_rl.run import run_config
from tests.integration.run_helpers import config, rows
from tests.unit.conditioning.chats import CHATML, chat_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kinds")


def checkpoint(folder: Path) -> str:
    """A model whose tokenizer names the token that opens turns as its EOS."""
    tokenizer = chat_tokenizer(CHATML, "<|im_start|>")
    model = new_model(NewModelBlock(hidden_size=16, heads=2, intermediate_size=16, layers=1), tokenizer)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return str(folder / "base")


def lines(file: Path, values: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def run(folder) -> Path:
    def asked(n: int) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{n}+1?"}]

    talks = [{"talk": [*asked(n), {"role": "assistant", "content": str(n + 1)}]} for n in range(8)]
    talks += [{"talk": None}]
    replies = [{"q": f"{n}+1", "a": str(n + 1)} for n in range(8)] + [{"q": None, "a": "1"}]
    problems = [{"q": asked(n), "gold": {"value": [n + 1]}, "n": 10**30 + n if n % 2 else 0.5} for n in range(8)]
    problems += [{"q": asked(9), "gold": {"value": None}, "n": 1}, {"q": [], "gold": {"value": "1"}, "n": 1}]
    documents = {"type": "sft", "steps": 2, "batch_size": 2, "packing": {"capacity": 64}, "optim": {"lr": 1e-3}}
    reward = folder / "reward.py"
    reward.write_text(
        "def seen(prompts, completions, question, answer, n, **_):\n"
        "    assert all(isinstance(p, list) for p in prompts), prompts\n"
        "    for q, a, k in zip(question, answer, n):\n"
        "        i = int(q[0])\n"
        "        assert (q, a, k) == (f'{i}+1?', str(i + 1), 10**30 + i if i % 2 else 0.5), (q, a, k)\n"
        "    return [float(len(c[0]['content']) % 2) for c in completions]\n"
    )
    data = {
        "path": lines(folder / "p.jsonl", problems),
        "question": "q",
        "answer": "gold.value",
        "columns": ["n"],
        "eval_rows": 2,
        "on_missing": "drop",
    }
    chat = {"chat": True, "prompt": "{question}", "told": "{question} ({answer})", "system": "S"}
    stages = [
        {
            **documents, "name": "talks",
            "data": {"sources": [{"path": lines(folder / "t.jsonl", talks), "messages": "talk"}]},
        },
        {
            **documents, "name": "replies", "template": "math",
            "data": {"sources": [{"path": lines(folder / "r.jsonl", replies), "text": "a", "prompt": "q"}]},
        },
        {
            "name": "rl", "type": "intro", "data": data, "steps": 2, "rollouts_per_step": 4, "group_size": 2,
            "sampling": {"max_new_tokens": 6}, "optim": {"lr": 1e-3}, "evaluation": {"every": 2},
            "template": {**chat, "chat_template_kwargs": {"enable_thinking": False}},
            "rewards": [{"type": "python", "path": f"{reward}:seen"}],
            "reward_errors": {"max_share": 0.0, "max_total": 0},
        },
    ]  # fmt: skip
    return run_config(config(folder, stages, model={"path": checkpoint(folder)}))


def test_every_stage_says_what_it_left_out(run):
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    notes = {stage["name"]: stage["notes"] for stage in summary["stages"]}
    mended = "ends: the tokenizer's EOS was set to <|im_end|>: <|im_start|>, which its files name, opens turns"
    assert notes["talks"].pop() == mended  # the later stages start from the tokenizer that this one saved
    for name in ("talks", "replies"):  # a small file is read many times
        assert re.fullmatch("[1-9][0-9]* times a row without text, or without a prompt, was passed over", *notes[name])
    assert notes["rl"] == ["2 rows of the data dropped (gold.value: null: 1, q: empty: 1)"]
    assert "2 rows of the data dropped" in (run / "report.html").read_text(encoding="utf-8")


def test_prompts_in_messages_reach_the_policy_through_the_template(run):
    sample = next(row for row in rows(run, "samples.jsonl") if row["stage"] == "rl")
    assert sample["question"].endswith("+1?") and sample["answer"] == str(int(sample["question"][0]) + 1)


def test_the_saved_tokenizer_ends_where_it_should(run):
    from transformers import AutoTokenizer

    saved = AutoTokenizer.from_pretrained(run / "stages" / "rl" / "seed1" / "model")
    assert (saved.eos_token, saved.chat_template) == ("<|im_end|>", CHATML)
