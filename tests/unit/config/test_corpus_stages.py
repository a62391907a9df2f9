"""Stages that make rows, before anything loads: what they refuse, who may read them, what model stands behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ixt_rl.blocks.rows import with_folders
from ixt_rl.config.load import dump_yaml, load_run, resolved
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.config.schema import RunConfig
from ixt_rl.methods.registry import spec_of
from ixt_rl.run.pipeline import stage_seeds


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"text": "a text", "question": "1 + 1?", "answer": "2", "gold": "2", "hint": "add"}
    rows = [{**row, "text": f"{row['text']} {number}"} for number in range(20)]
    Path("corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    Path("apart").mkdir()
    Path("apart/q.jsonl").write_text(json.dumps(row) + "\n")
    Path("judge.py").write_text("def score(fields): return 3\ndef mend(prefix, suffix): return suffix\n")


def annotate(**changes: Any) -> dict[str, Any]:
    stage = {
        "name": "annotated", "type": "annotate", "data": {"path": "corpus.jsonl"},
        "judge": {"model": "python:judge.py:score"}, "rubric": "web-text",
    }  # fmt: skip
    return {**stage, **changes}


def rewrite(**changes: Any) -> dict[str, Any]:
    stage = {
        "name": "rewritten", "type": "rewrite", "data": {"from": "annotated"},
        "rewriter": {"model": "python:judge.py:mend"}, "prompt": "quality", "suffix_tokens": 4,
    }  # fmt: skip
    return {**stage, **changes}


def train(**changes: Any) -> dict[str, Any]:
    stage = {
        "name": "ixt", "type": "ixt", "data": {"sources": [{"from": "annotated"}]},
        "feedback": {"template": "levels"}, "steps": 1, "optim": {"lr": 1e-3},
    }  # fmt: skip
    return {**stage, **changes}


def rl(**changes: Any) -> dict[str, Any]:
    stage = {
        "name": "rl", "type": "raft", "data": {"from": "annotated"}, "steps": 1, "rollouts_per_step": 4,
        "sampling": {"max_new_tokens": 8}, "optim": {"lr": 1e-3}, "rewards": [{"type": "math"}],
    }  # fmt: skip
    return {**stage, **changes}


TWO: dict[str, Any] = {
    "sources": [
        {"from": "annotated", "columns": ["gold"]},
        {"path": "corpus.jsonl", "answer": "gold", "columns": ["hint", "gold"]},
    ]
}


def continued(**evaluation: Any) -> dict[str, Any]:
    corpus = {"sources": [{"path": "corpus.jsonl"}], "suffix_tokens": 4}
    return {
        "name": "sip", "type": "sip", "objective": "nll", "data": corpus, "steps": 1, "optim": {"lr": 1e-3},
        "sampling": {"max_new_tokens": 8}, "evaluation": {"every": 1, "likelihood": "init", **evaluation},
    }  # fmt: skip


def measured(**data: Any) -> dict[str, Any]:
    return {"name": "measured", "type": "evaluate", "data": data, "sampling": {"max_new_tokens": 8}}


def load(*stages: dict[str, Any], **changes: Any) -> RunConfig:
    model = {"new": {"tokenizer": "bytes", "hidden_size": 32, "heads": 2}}
    Path("run.yaml").write_text(dump_yaml({"name": "trial", "model": model, "stages": list(stages), **changes}))
    return load_run("run.yaml")


SENTENCES = {
    "a stage that there is not": (
        [annotate(), train(data={"sources": [{"from": "anotated"}]})],
        "stage 'ixt' has data.sources.0.from: 'anotated'",
        "did you mean `annotated`?",
    ),
    "a later stage": (
        [train(), annotate()],
        "stage 'ixt' has data.sources.0.from: 'annotated'",
        "it must name an earlier annotate or rewrite stage: there is none",
    ),
    "a stage that makes a model": (
        [annotate(), train(), rewrite(data={"from": "ixt"})],
        "stage 'rewritten' has data.from: 'ixt'",
        "that is a stage of type ixt, which makes no rows",
    ),
    "no model to start from": (
        [annotate(), train(init="annotated")],
        "stage 'ixt' has init: 'annotated'",
        "that stage makes rows and no model",
    ),
    "init of rows": ([annotate(init="model")], "init='model' with type: annotate", "it reads rows"),
    "rows of no stage for RL": (
        [annotate(), rl(data={"from": "anotated"})],
        "stage 'rl' has data.from: 'anotated'",
        "did you mean `annotated`?",
    ),
    "prefixes of a stage that trains": (
        [annotate(), train(), rl(data={"from": "ixt", "suffix_tokens": 4})],
        "stage 'rl' has data.from: 'ixt'",
        "which makes no rows",
    ),
    "path and from for RL": (
        [annotate(), rl(data={"from": "annotated", "path": "corpus.jsonl"})],
        "path='corpus.jsonl' with from='annotated'",
        "give `path`, or `from`",
    ),
    "no rows for RL": ([rl(data={})], "data with neither `path` nor `from`", "give `path`, or `from`"),
    "steps and passes over documents": (
        [annotate(), train(epochs=2)],
        "steps=1 and epochs=2",
        "give steps or epochs",
    ),
    "neither steps nor passes": ([annotate(), train(steps=None)], "stages.ixt.steps", "a whole number"),
    "half a pass over documents": (
        [annotate(), train(steps=None, epochs=1.5)],
        "stages.ixt.epochs",
        "a whole number",
    ),
    "a source's stage": (
        [annotate(), rl(data={"sources": [{"path": "corpus.jsonl"}, {"from": "anotated"}]})],
        "stage 'rl' has data.sources.1.from: 'anotated'",
        "did you mean `annotated`?",
    ),
    "an evaluation where no source sets rows aside": (
        [annotate(), rl(data=TWO, evaluation={"every": 2})],
        "an evaluation with data.eval_rows=0 in every source",
        "set data.eval_rows",
    ),
    "a column that one source does not have": (
        [annotate(), rl(data=TWO, template={"prompt": "{question}", "told": "{question} {hint} {answer}"})],
        "template.told shows {hint}",
        "in every source",
    ),
    "an answer that one source's prompt would show": (
        [annotate(), rl(data=TWO, template={"prompt": "{question} {gold}", "told": "{question} {answer}"})],
        "template.prompt shows {gold}",
        "inference has no answer",
    ),
    "a source that another stage trains on": (
        [annotate(), rl(data=TWO), measured(sources=[{"path": "apart/q.jsonl"}, {"path": "corpus.jsonl"}])],
        "stage 'measured' measures all rows of corpus.jsonl",
        "stage 'rl' trains on rows of that file",
    ),
    "measured on the rows it was trained on": (
        [annotate(), rl(), measured(path="corpus.jsonl")],
        "stage 'measured' measures all rows of corpus.jsonl",
        "stage 'rl' trains on rows of that file",
    ),
    "measured on the stage that it was trained on": (
        [annotate(), rl(), measured(**{"from": "annotated"})],
        "stage 'measured' measures all rows of stage annotated",
        "stage 'rl' trains on rows of that file",
    ),
    "measured on the world's rows that it was trained on": (
        [annotate(data={"world": "chain"}), rl(), measured(**{"from": "annotated"})],
        "stage 'measured' measures all rows of stage annotated",
        "stage 'rl' trains on rows of that file",
    ),
    "documents held out that an earlier stage trained": (
        [annotate(), train(name="first"), train(evaluation={"every": 1, "holdout": 5})],
        "stage 'ixt' measures documents of annotated as unseen",
        "stage 'first' trains on them",
    ),
    "more documents held out than an earlier stage did": (
        [
            annotate(),
            train(name="first", evaluation={"every": 1, "holdout": 5}),
            train(evaluation={"every": 1, "holdout": 6}),
        ],
        "stage 'first' trains on them",
        "set evaluation.holdout: 6 in both",
    ),
    "texts continued that the stage trains": (
        [continued(data={"sources": [{"path": "./corpus.jsonl"}], "suffix_tokens": 4})],
        "stage 'sip' measures documents of corpus as unseen",
        "stage 'sip' trains on them",
    ),
    "texts held out that an earlier stage trained": (
        [annotate(), train(), continued(holdout=0.2)],
        "stage 'sip' measures documents of corpus as unseen",
        "stage 'ixt' trains on them",
    ),
    "path and from": (
        [annotate(), train(data={"sources": [{"from": "annotated", "path": "corpus.jsonl"}]})],
        "path='corpus.jsonl' with from='annotated'",
        "give `path`, or `from`",
    ),
    "neither": ([annotate(data={"split": "train"})], "data with neither `path` nor `from`", "give `path`, or `from`"),
    "no such file": ([annotate(data={"path": "corpus.json"})], "'corpus.json'", "did you mean `corpus.jsonl`?"),
    "no such rubric": ([annotate(rubric="web_text")], "'web_text'", "did you mean `web-text`?"),
    "no such field": ([annotate(fields={"txt": "text"})], "fields.txt", "did you mean `text`?"),
    "no such function": ([annotate(judge={"model": "python:judge.py:scor"})], "judge.py:scor", "did you mean `score`?"),
    "no such option": ([annotate(prefixx="a")], "prefixx", "did you mean `prefix`?"),
    "a world's judge on files": ([annotate(judge={"model": "world"})], "judge.model: world on files", "no judge of"),
    "a world's rewriter": (
        [annotate(), rewrite(rewriter={"model": "world"})],
        "model: world",
        "a world has no rewriter of whole corpora",
    ),
    "no length of suffixes": (
        [annotate(), rewrite(suffix_tokens=None)],
        "prompt: quality without suffix_tokens",
        "give the number that SIP will train with",
    ),
    "thoughts are not cut": (
        [annotate(), rewrite(prompt="thoughts")],
        "suffix_tokens with prompt: thoughts",
        "leave it out",
    ),
    "a prompt beside thoughts": (
        [annotate(), rewrite(prompt="thoughts", suffix_tokens=None, fields={"prompt": "question"})],
        "fields.prompt",
        "its fields: text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SENTENCES)
def test_what_cannot_work_is_refused_before_anything_loads(case):
    stages, *said = SENTENCES[case]
    with pytest.raises(InvalidConfig) as caught:
        load(*stages)
    assert len(caught.value.problems) == 1, str(caught.value)
    for words in said:
        assert words in str(caught.value), f"{words!r} is not in:\n{caught.value}"


def test_all_stages_that_there_are_not_come_at_once_each_at_its_key():
    with pytest.raises(InvalidConfig) as caught:
        load(annotate(), train(data={"sources": [{"from": "one"}, {"from": "annotated"}, {"from": "two"}]}))
    paths = [f"stages.ixt.data.sources.{place}.from" for place in (0, 2)]
    assert [one.path for one in caught.value.problems] == paths


def test_rows_are_made_once_and_no_model_passes_through_them():
    """The judge comes after a seeded stage in the file; it is not run for each seed, and the model goes around it."""
    plain = train(name="first", type="pretrain", feedback={}, data={"sources": [{"path": "corpus.jsonl"}]})
    config = load(plain, annotate(), train(), seeds=[1, 2])
    first, annotated, ixt = config.stages
    assert [stage_seeds(config, stage) for stage in config.stages] == [[1, 2], [None], [1, 2]]
    assert config.starts_from(first) is None
    assert config.starts_from(annotated) is None
    assert config.starts_from(ixt) is first
    assert [stage.name for stage in config.made_by(ixt)] == ["ixt", "first"]
    assert not annotated.reads_model


def test_a_rewriting_reads_the_run_s_model_for_its_tokenizer_alone():
    config = load(
        annotate(), rewrite(), rewrite(name="own", tokenizer="policy"),
        rewrite(name="thought", prompt="thoughts", suffix_tokens=None),
    )  # fmt: skip
    assert [stage.reads_model for stage in config.stages] == [False, True, False, False]


def test_the_resolved_file_loads_again_and_says_from():
    config = load(annotate(data={"world": "chain"}, judge={"model": "world"}), train())
    plain = resolved(config)
    assert plain["stages"][1]["data"]["sources"][0]["from"] == "annotated"
    Path("again.yaml").write_text(dump_yaml(plain))
    assert load_run("again.yaml") == config


def test_where_rows_lie_is_filled_in_beside_the_stage_s_name(tmp_path):
    config = load(annotate(), rewrite(), train())
    folders = {"annotated": tmp_path / "a", "rewritten": tmp_path / "b"}
    annotated, rewritten, ixt = (with_folders(stage, folders) for stage in config.stages)
    assert annotated is config.stages[0], "a stage that takes no rows is left as it is"
    assert (rewritten.data.path, rewritten.data.from_) == (str(tmp_path / "a"), "annotated")
    assert ixt.data.sources[0].paths == [str(tmp_path / "a")]
    assert spec_of(ixt) is spec_of(config.stages[2])
    assert config.stages[2].data.sources[0].paths == []


@pytest.mark.parametrize(("first", "then"), [(5, 5), (5, 3), (0.4, 0.4), (0.4, 0.2)])
def test_what_both_stages_set_aside_may_be_measured(first, then):
    load(
        annotate(),
        train(name="first", evaluation={"every": 1, "holdout": first}),
        train(evaluation={"every": 1, "holdout": then}),
    )


def test_measuring_what_was_trained_is_refused_through_the_judge_too():
    measured = {"every": 1, "data": {"path": "corpus.jsonl"}, "template": "math"}
    with pytest.raises(InvalidConfig, match="stage 'ixt' trains on rows of that file"):
        load(annotate(), train(evaluation=measured))


def test_the_schema_names_the_key():
    schema = RunConfig.model_json_schema()
    assert "from" in schema["$defs"]["SourceBlock"]["properties"]
    assert "from" in schema["$defs"]["FileRowsBlock"]["properties"]
