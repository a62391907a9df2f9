"""What a run file asks for that its judges, data or model cannot give is refused before anything loads."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ixt_rl.blocks.checks import feedback_template_names
from ixt_rl.blocks.data import WorldDataBlock
from ixt_rl.blocks.judge_options import OPTIONS, check_options
from ixt_rl.conditioning import Conditioner, Conditioning, load_feedback_template
from ixt_rl.config.load import dump_yaml, load_run, notes, resolved
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.tasks import make_task
from ixt_rl.judging.endpoint import Endpoint
from ixt_rl.models import byte_tokenizer
from ixt_rl.run.stages.wishes import wished
from ixt_rl.worlds import WORLDS

MODEL = {"new": {"tokenizer": "bytes"}}
OPTIM = {"lr": 1e-3}
RL = {
    "name": "rl", "type": "grpo", "data": {"path": "some/problems"}, "steps": 2, "rollouts_per_step": 8,
    "sampling": {"max_new_tokens": 8}, "optim": OPTIM, "rewards": [{"type": "math"}],
}  # fmt: skip
SIP = {
    "name": "sip", "type": "sip", "data": {"world": "chain"}, "steps": 2, "sampling": {"max_new_tokens": 8},
    "optim": OPTIM, "judge": {"model": "world"}, "evaluation": None,
}  # fmt: skip
ANSWERS = {"world": "chain", "documents": 8}
SFT = {"name": "d", "type": "pretrain", "data": ANSWERS, "steps": 2, "optim": OPTIM}
MEASURE = {"name": "m", "type": "evaluate", "data": {"path": "some/problems"}, "sampling": {"max_new_tokens": 8}}


def load(tmp_path, stage, model=None):
    file = tmp_path / "run.yaml"
    file.write_text(dump_yaml({"name": "trial", "model": model or MODEL, "stages": [stage]}))
    return load_run(file)


def refused(tmp_path, stage, *says, model=None):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, stage, model)
    for words in says:
        assert words in str(caught.value)


# ------------------------------------------------------------------------------------------ names, arguments


def test_an_axis_that_is_misspelt_is_told_of_quality(tmp_path):
    refused(tmp_path, {**SIP, "judge": {"model": "world", "axes": {"qualty": 1.0}}}, "did you mean `quality`")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def reward(fields):\n    return 1", "reward(fields) does not take prompts, completions, completion_ids"),
        ("def reward(prompts, completions):\n    return 1", "does not take completion_ids"),
        ("def reward(completions, **columns):\n    return 1", None),
        ("def made(f):\n    return f\n\n\n@made\ndef reward(fields):\n    return 1", None),  # not in plain sight
        ("reward = len", None),
    ],
)
def test_a_reward_takes_what_rewards_are_called_with(source, says, tmp_path):
    (tmp_path / "rewards.py").write_text(source + "\n")
    stage = {**RL, "rewards": [{"type": "python", "path": f"{tmp_path}/rewards.py:reward"}]}
    if says is None:
        load(tmp_path, stage)
    else:
        refused(tmp_path, stage, says, "**columns")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def asked(text, reference):\n    return 1", "asked(text, reference) cannot be called with (fields)"),
        ("def asked():\n    return 1", "asked() cannot be called with (fields)"),
        ("def asked(fields, *, limit):\n    return 1", "asked(fields, *, limit) cannot be called"),
        ("def asked(fields, *, limit=3):\n    return 1", None),
        ("def asked(*texts):\n    return 1", None),
        ("asked = len", None),
    ],
)
def test_a_judge_takes_the_fields(source, says, tmp_path):
    (tmp_path / "judges.py").write_text(source + "\n")
    name = f"python:{tmp_path}/judges.py:asked"
    for stage in ({**SIP, "judge": {"model": name}}, {**RL, "rewards": [{"type": "judge", "judge": name}]}):
        if says is None:
            load(tmp_path, stage)
        else:
            refused(tmp_path, stage, says, "write def asked(fields)")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def asked(prefix, suffix):\n    return suffix", None),
        ("def asked(fields):\n    return None", None),
        ("def asked(prefix, suffix, tone):\n    return suffix", "cannot be called with (prefix, suffix) or (fields)"),
    ],
)
def test_a_rewriter_takes_two_texts_or_the_fields(source, says, tmp_path):
    (tmp_path / "rewriters.py").write_text(source + "\n")
    stage = {**SIP, "sources": ["original", "rewrite"], "group_size": None, "objective": "rf-nll"}
    stage |= {"rewriter": {"model": f"python:{tmp_path}/rewriters.py:asked"}}
    if says is None:
        load(tmp_path, stage)
    else:
        refused(tmp_path, stage, says, "write def asked(prefix, suffix)")


def test_a_filter_takes_what_filters_are_called_with(tmp_path):
    (tmp_path / "filters.py").write_text(
        "def mine(text, source):\n    return True\n\n\ndef any(text, **_):\n    return True\n"
    )
    load(tmp_path, {**SIP, "filters": [f"{tmp_path}/filters.py:any"]})
    refused(tmp_path, {**SIP, "filters": [f"{tmp_path}/filters.py:mine"]}, "does not take prefix, original", "**_")


# ------------------------------------------------------------------------------------ measuring nothing


@pytest.mark.parametrize(
    "stage",
    [
        {**RL, "evaluation": {"every": 1, "problems": 100}},
        {**RL, "evaluation": {}},
    ],
    ids=["online", "online, all defaults"],
)
def test_an_evaluation_without_held_out_rows_is_refused(stage, tmp_path):
    refused(tmp_path, stage, "eval_rows=0", "nothing would be measured")


FILES = {"name": "d", "type": "pretrain", "data": {"sources": [{"path": "some/text"}]}, "steps": 2, "optim": OPTIM}
DOCUMENTS = {**FILES, "evaluation": {"data": {"path": "some/problems"}}}


@pytest.mark.parametrize("stage", [MEASURE, DOCUMENTS], ids=["evaluate", "documents"])
def test_all_rows_are_measured_where_no_stage_trains_on_the_file(stage, tmp_path):
    (found,) = load(tmp_path, stage).stages
    assert (found if stage is MEASURE else found.evaluation).problems is None
    load_stages(tmp_path, {**RL, "data": {"path": "some/problems", "where": {"split": ["train"]}}}, split("test"))
    load_stages(tmp_path, MEASURE, RL)  # the first model has seen nothing
    load_stages(tmp_path, RL, {**MEASURE, "init": "model"})
    load_stages(
        tmp_path, {**RL, "data": {"path": "some/problems", "split": "train"}}, data("some/problems", split="test")
    )
    for data_of_rl in ({"path": "some/problems"}, {"path": "some/problems", "eval_rows": 5}):
        with pytest.raises(ConfigError, match=r"eval_rows=0[\s\S]*'rl' trains on rows of that file"):
            load_stages(tmp_path, {**RL, "data": data_of_rl}, MEASURE)
    load_stages(tmp_path, {**RL, "data": {**RL["data"], "eval_rows": 5}}, data("some/problems", eval_rows=5))


def test_documents_are_not_measured_on_the_file_that_they_are_trained_on(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "one", "question": "1", "answer": "1"}\n')
    one = {"sources": [{"path": str(tmp_path)}]}
    refused(tmp_path, {**DOCUMENTS, "data": one, "evaluation": {"data": {"path": str(file)}}}, "'d' trains on rows")


def data(path, **more):
    return {**MEASURE, "data": {"path": path, **more}}


def split(name):
    return data("some/problems", where={"split": [name]})


def load_stages(tmp_path, *stages):
    file = tmp_path / "run.yaml"
    file.write_text(dump_yaml({"name": "trial", "model": MODEL, "stages": list(stages)}))
    return load_run(file)


@pytest.mark.parametrize("stage", [DOCUMENTS, {**SFT, "evaluation": {}}, {**FILES, "evaluation": {"holdout": 3}}])
def test_stages_on_documents_load_back_with_every_default_filled_in(stage, tmp_path):
    model = {"new": {"tokenizer": "world"}} if stage["name"] == "d" and "world" in stage["data"] else MODEL
    config = load(tmp_path, stage, model)
    file = tmp_path / "again.yaml"
    file.write_text(dump_yaml(resolved(config)))
    assert load_run(file) == config


def test_what_documents_held_out_do_not_read_is_noted_and_never_refused(tmp_path):
    evaluation = {"holdout": 3, "wishes": {"a": None}, "samples": 2}
    config = load(tmp_path, {**FILES, "evaluation": evaluation})
    assert notes(config) == [
        f"stages.d.evaluation.{key} is not read by evaluation.holdout without evaluation.data"
        for key in ("wishes", "samples")
    ]
    assert "wishes" not in resolved(config)["stages"][0]["evaluation"]
    short = {"new": {"tokenizer": "bytes", "max_positions": 16}}  # fewer than max_new_tokens
    assert not notes(load(tmp_path, {**FILES, "evaluation": {"holdout": 3}}, short))
    refused(tmp_path, {**DOCUMENTS}, "max_new_tokens", model=short)


def test_prefixes_are_not_measured_without_a_judge(tmp_path):
    refused(tmp_path, {**MEASURE, "data": {"path": "some/text", "suffix_tokens": 8}}, "there is none here")


def test_a_stage_that_sets_no_rows_aside_has_no_evaluation_and_loads_back(tmp_path):
    config = load(tmp_path, RL)
    assert config.stages[0].evaluation is None
    file = tmp_path / "again.yaml"
    file.write_text(dump_yaml(resolved(config)))
    assert load_run(file) == config
    held_out = {**RL, "data": {**RL["data"], "eval_rows": 5}}
    assert load(tmp_path, held_out).stages[0].evaluation.every == 20
    assert load(tmp_path, {**held_out, "evaluation": {"every": 3}}).stages[0].evaluation.every == 3


# ------------------------------------------------------------------------------------ wishes

IXT = {
    "name": "ixt", "type": "ixt", "data": {"sources": [{"path": "some/annotated"}]}, "steps": 2, "optim": OPTIM,
    "feedback": {"template": "critique"},
}  # fmt: skip
PROBLEMS = {"path": "some/problems", "eval_rows": 4}
OWN = {"levels": list("abcde"), "scores": True}


@pytest.mark.parametrize("data", [IXT["data"], {"world": "chain"}], ids=["files", "world"])
def test_a_template_of_feedback_that_nobody_has_is_refused(data, tmp_path):
    stage = {**IXT, "data": data, "evaluation": None}
    refused(
        tmp_path, {**stage, "feedback": {"template": "tga"}}, "'tga'", "did you mean `tag`", "levels, tokens, critique"
    )


def test_templates_of_worlds_bear_known_names():
    """A world's own template stands for the shipped one of that name, so that names are known before a world is."""
    own = {name for world in WORLDS.values() for name in getattr(world, "feedback_templates", {})}
    assert own and own <= set(feedback_template_names())


@pytest.mark.parametrize(("key", "near"), [("judge", "random"), ("rewriter", "world")])
def test_who_is_asked_by_a_name_that_nobody_has(key, near, tmp_path):
    refused(tmp_path, {**SIP, key: {"model": near[:-2] + near[-1]}}, f"did you mean `{near}`?")


@pytest.mark.parametrize("template", ["critique", OWN])
@pytest.mark.parametrize("wishes", [None, {"best": "best"}, {"own": "math, best", "low": 1}, {"hard": "difficulty=5"}])
def test_a_wish_that_says_less_than_training_shows_is_refused(template, wishes, tmp_path):
    evaluation = {"data": PROBLEMS} | ({} if wishes is None else {"wishes": wishes})
    stage = {**IXT, "feedback": {"template": template}, "evaluation": evaluation}
    refused(tmp_path, stage, "no training has seen", "`math, best`")


def test_wishes_that_training_shows_pass(tmp_path):
    complete = {"best": "math, best", "worst": "worst, web", "none": None}
    load(tmp_path, {**IXT, "evaluation": {"data": PROBLEMS, "wishes": complete}})
    load(tmp_path, {**IXT, "feedback": {"template": "levels"}, "evaluation": {"data": PROBLEMS}})
    load(tmp_path, {**IXT, "evaluation": {"data": {"world": "chain"}}})  # a world knows what its judge would write


def test_what_is_wished_for_is_never_a_prefix_that_training_has_not_seen():
    template = load_feedback_template("critique")
    conditioner = Conditioner(byte_tokenizer(), Conditioning(template=template))
    task = make_task(WorldDataBlock(world="chain"), None)
    rows = [{"prompt": "1 + 1", "question": "1 + 1"}]
    files = dataclasses.replace(task, target=None)
    for wish in (5, "best", "best, difficulty=4"):
        with pytest.raises(ConfigError, match=r"writes .*critique"):
            wished(conditioner, conditioner.tokenizer, files, rows, wish)
    (ids,) = wished(conditioner, conditioner.tokenizer, files, rows, "math, best")
    assert "critique:" in conditioner.tokenizer.decode(ids)


# ------------------------------------------------------------------------------------ judges' options


def test_the_endpoints_options_are_its_fields():
    fields = {entry.name: entry.default for entry in dataclasses.fields(Endpoint) if entry.name != "model"}
    assert OPTIONS["openai"].keys() == fields.keys()
    check_options("openai", fields)  # its own defaults are ones
    for name, default in fields.items():
        assert OPTIONS["openai"][name].null == (default is None)


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({**SIP, "judge": {"model": "openai:m", "options": {"concurency": 3}}}, "did you mean `concurrency`"),
        ({**SIP, "judge": {"model": "world", "options": {"foo": 1}}}, "its options: none"),
        ({**SIP, "judge": {"model": "openai:m", "options": {"retries": -1}}}, "it is 0 or more"),
        (
            {**RL, "rewards": [{"type": "math", "judge": {"judge": "openai:m", "options": {"concurency": 3}}}]},
            "did you mean `concurrency`",
        ),
        ({**SIP, "judge": {"model": "openai:m", "options": {"retries": True}}}, "it is bool, not int"),
        ({**SIP, "judge": {"model": "openai:m", "options": {"deadline": float("inf")}}}, "above 0"),
        (
            {**SIP, "sources": ["original", "rewrite", "rollout"], "rewriter": {"options": {"foo": 1}}},
            "rewriter option 'foo'",
        ),
        (
            {**SIP, "evaluation": {"judge": {"model": "openai:m", "options": {"foo": 1}}}},
            "judge option 'foo'",
        ),
    ],
)
def test_options_of_whoever_is_asked(stage, says, tmp_path):
    refused(tmp_path, stage, says, model={"new": {"tokenizer": "world"}})


def test_options_that_there_are_pass(tmp_path):
    options = {
        "base_url": "http://localhost:8000/v1", "concurrency": 3, "requests_per_minute": 60, "deadline": 30,
        "extra_body": {"chat_template_kwargs": {"enable_thinking": True}},
    }  # fmt: skip
    stage = {**SIP, "judge": {"model": "openai:m", "options": options}}
    assert load(tmp_path, stage, {"new": {}}).stages[0].judge.options == options


# ------------------------------------------------------------------------------------ positions


@pytest.fixture(params=["max_position_embeddings", "n_positions", "text_config"])
def folder(request, tmp_path):
    """A local model of 2048 positions, as its config.json says it."""
    name = request.param
    config = {"text_config": {"max_position_embeddings": 2048}} if name == "text_config" else {name: 2048}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    return str(tmp_path / "model")


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({**RL, "sampling": {"max_new_tokens": 4000}}, "sampling.max_new_tokens=4000"),
        ({**RL, "sampling": {"max_new_tokens": 8, "max_prompt_tokens": 4000}}, "sampling.max_prompt_tokens=4000"),
        ({**MEASURE, "data": {"world": "addition"}, "sampling": {"max_new_tokens": 2048}}, "no room for a prompt"),
        ({**SFT, "evaluation": {"max_new_tokens": 4000}}, "evaluation.max_new_tokens=4000"),
        (
            {
                **RL, "rewards": [{"type": "judge", "judge": "openai:m"}],
                "data": {"path": "some/text", "suffix_tokens": 8, "max_prefix_tokens": 4000},
            },
            "data.max_prefix_tokens=4000",
        ),
        (
            {
                **SIP, "judge": {"model": "openai:m"},
                "data": {"sources": [{"path": "some/text"}], "suffix_tokens": 8, "max_prefix_tokens": 2045},
            },
            "data.max_prefix_tokens=2045",
        ),
        (
            {
                **SIP, "judge": {"model": "openai:m"},
                "data": {"sources": [{"path": "some/text"}], "suffix_tokens": 2048},
            },
            "data.suffix_tokens=2048",
        ),
    ],
)  # fmt: skip
def test_lengths_beyond_a_local_models_positions(stage, says, folder, tmp_path):
    refused(tmp_path, stage, says, "2048 positions", model={"path": folder})
    load(tmp_path, stage, {"path": "some/model"})  # a hub model's are not known yet


def test_lengths_that_fit_pass(folder, tmp_path):
    load(tmp_path, {**RL, "sampling": {"max_new_tokens": 1024, "max_prompt_tokens": 1024}}, {"path": folder})
    load(tmp_path, {**RL, "sampling": {"max_new_tokens": 2047}}, {"path": folder})


def test_a_local_judge_has_room_for_a_prompt(folder, tmp_path):
    reward = {"type": "judge", "judge": f"hf:{folder}", "max_new_tokens": 2048}
    refused(tmp_path, {**RL, "rewards": [reward]}, "its limit is 2048 tokens")
    load(tmp_path, {**RL, "rewards": [{**reward, "max_new_tokens": 512}]})


def test_all_lengths_of_a_stage_come_at_once_each_at_its_key(folder, tmp_path):
    data = {"sources": [{"path": "some/text"}], "suffix_tokens": 2048}
    stage = {**SIP, "judge": {"model": "openai:m"}, "data": data, "sampling": {"max_new_tokens": 4000}}
    with pytest.raises(InvalidConfig) as error:
        load(tmp_path, stage, {"path": folder})
    paths = ["stages.sip.sampling.max_new_tokens", "stages.sip.data.suffix_tokens"]
    assert [one.path for one in error.value.problems] == paths
