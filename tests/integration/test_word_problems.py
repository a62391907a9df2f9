"""Runs on the world of word problems: replies trained behind plain and told prompts, problems sampled and graded."""

from __future__ import annotations

from typing import Any

import pytest

from ixt_rl.conditioning import PromptTemplate, load_template
from ixt_rl.config.load import InvalidConfig
from ixt_rl.files import read_json
from ixt_rl.run import run_config
from ixt_rl.types import Document
from ixt_rl.worlds import WordProblemsWorld
from ixt_rl.worlds.documents import reply_documents
from tests.integration.run_helpers import config

BYTES = {"new": {"tokenizer": "bytes", "hidden_size": 16, "heads": 2, "intermediate_size": 32, "layers": 1}}
WORLD = {"world": "word-problems"}


def replies(**changes: Any) -> dict[str, Any]:
    stage = {"name": "replies", "type": "sft", "data": {**WORLD, "documents": 40}, "steps": 3, "batch_size": 2}
    return {**stage, "packing": {"capacity": 256}, "optim": {"lr": 1e-3}, **changes}


def online(name: str, **changes: Any) -> dict[str, Any]:
    stage = {"name": name, "type": "intro", "init": "replies", "data": WORLD, "steps": 1, "rollouts_per_step": 4}
    stage |= {"sampling": {"max_new_tokens": 6}, "optim": {"lr": 1e-3}, "rewards": [{"type": "world"}]}
    return {**stage, "group_size": 2, "evaluation": {"problems": 4, "at_start": False}, **changes}


def test_a_run_from_replies_to_rollouts(tmp_path):
    gap = {"name": "gap", "type": "evaluate", "data": WORLD, "sampling": {"max_new_tokens": 6}, "problems": 4}
    evaluation = {"problems": 2, "max_new_tokens": 6, "temperatures": [0.0]}
    trained = online("trained", rewards=[{"type": "world"}, {"type": "math", "weight": 0.5}])
    claim = {"says": "trained", "metric": "greedy/strict", "stage": "trained", "minus": "gap", "at_least": 0.0}
    claims = [claim, {**claim, "metric": "sampled/length"}]
    folder = run_config(config(tmp_path, [replies(evaluation=evaluation), gap, trained], model=BYTES, claims=claims))
    summary = read_json(folder / "summary.json")
    found = {stage["name"]: stage["mean"] for stage in summary["stages"]}
    assert {"greedy/strict", "greedy/checked"} <= set(found["replies"])
    modes = ("greedy", "sampled", "told", "told_form", "told_random", "told_wrong")
    assert {f"{mode}/{metric}" for mode in modes for metric in ("strict", "checked", "reasoned")} <= set(found["gap"])
    assert 0 <= found["trained"]["sampled/strict"] <= found["trained"]["sampled/checked"] <= 1
    assert "rollout/kept" in found["trained"]
    # four problems, none solved before or after: a difference of 0 whose interval is not 0 wide, as the base's own
    strict, length = summary["claims"]
    assert strict["value"] == 0
    assert -1 <= strict["low"] < 0 < strict["high"] <= 1 and strict["p"] == pytest.approx(1)
    assert not {"low", "high", "p"} & set(length)
    assert found["gap"]["told/strict_low"] == 0 < found["gap"]["told/strict_high"] < 1


def test_documents_stand_behind_the_prompts_that_samples_have():
    world, template = WordProblemsWorld(), load_template(None, "math")
    documents = reply_documents(world, 30, 7, template)
    made = world.replies(30, 7)
    assert [one.told is None for one in made].count(True) > 5
    for document, one in zip(documents, made, strict=True):
        plain, told = template.render(one.question, one.told or "")
        assert (document.prompt, document.text) == (plain if one.told is None else told, one.reply)
        assert (f"is {one.told}." in document.prompt) == (one.told is not None)


def test_of_a_chat_template_documents_are_turns():
    template = PromptTemplate("{question}", "{question} ({answer})", chat=True, system="Be brief.")
    (document,) = reply_documents(WordProblemsWorld(), 1, 0, template)
    (one,) = WordProblemsWorld().replies(1, 0)
    asked = one.question if one.told is None else f"{one.question} ({one.told})"
    turns = (("system", "Be brief."), ("user", asked))
    assert document == Document(one.reply, key="word-problems 0", turns=turns, context=2)


@pytest.mark.parametrize(
    ("stage", "model", "says"),
    [
        (replies(type="pretrain"), BYTES, "set type: sft"),
        (replies(type="ixt", feedback={"template": "levels"}), BYTES, "no judge reads"),
        (replies(data={**WORLD, "keep_levels": [5]}), BYTES, "no judge reads"),
        (replies(template="chat"), BYTES, "has no chat template"),
        (replies(), {"new": {"hidden_size": 16}}, "no vocabulary of its own"),
        (online("one", init="model"), {"new": {"hidden_size": 16}}, "no vocabulary of its own"),
        (online("one", init="model", data={**WORLD, "view": "sum"}), BYTES, "write one of full"),
        (replies(data={"world": "word-problem"}), BYTES, "did you mean"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_loads(tmp_path, stage, model, says):
    with pytest.raises(InvalidConfig, match=says):
        config(tmp_path, [stage], model=model)
