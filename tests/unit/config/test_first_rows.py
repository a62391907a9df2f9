"""Names of fields are compared with the first row of the files before anything loads."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ixt_rl.config.load import dump_yaml, load_run
from ixt_rl.config.problems import InvalidConfig

KEPT = {"task": "keep", "question": "1+1", "answer": {"final": 2}, "rate": 0.5}
ROWS = [{"task": "skip", "n": 1}] * 3 + [KEPT] * 2
DATA = {"path": "rows.jsonl", "answer": "answer.final", "where": {"task": ["keep"]}, "eval_rows": 1}


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pq.write_table(pa.table({"question": ["1+1"], "gold": ["2"]}), "rows.parquet")


def load(data, **more):
    stage = {
        "name": "rl", "type": "grpo", "data": data, "steps": 2, "rollouts_per_step": 8, "optim": {"lr": 1e-3},
        "sampling": {"max_new_tokens": 8}, "rewards": [{"type": "math"}], **more,
    }  # fmt: skip
    stage = {key: value for key, value in stage.items() if value is not None}
    measure = {"name": "m", "type": "evaluate", "data": {"world": "addition"}, "sampling": {"max_new_tokens": 8}}
    run = {"name": "trial", "model": {"new": {"tokenizer": "bytes"}}, "stages": [measure, stage]}
    Path("run.yaml").write_text(dump_yaml(run))
    return load_run("run.yaml")


def refused(data, **more):
    with pytest.raises(InvalidConfig) as caught:
        load(data, **more)
    (problem,) = caught.value.problems
    return problem


def test_rows_that_have_the_fields_pass_and_those_that_where_leaves_out_do_not_count():
    load(DATA, difficulty={"field": "rate", "at_least": 0.1})


@pytest.mark.parametrize(
    ("change", "more", "says"),
    [
        ({"question": "problem"}, {}, "data: rows.jsonl row 4: no field 'problem'"),
        ({"answer": "answer.fianl"}, {}, "no field 'answer.fianl'"),
        ({"columns": ["hint"]}, {}, "no field 'hint'"),
        ({"group": "pair"}, {}, "no field 'pair'"),
        ({}, {"difficulty": {"field": "rates", "at_least": 0.1}}, "no field 'rates'"),
    ],
)
def test_a_field_that_the_first_row_lacks_is_refused_with_the_stage(change, more, says):
    problem = refused(DATA | change, **more)
    assert problem.path == "stages.rl"
    assert says in problem.value
    assert "its fields are task, question" in problem.reason


def test_sources_and_evaluation_data_are_looked_at():
    two = {"sources": [DATA, {"path": "rows.parquet", "eval_rows": 0}]}
    assert "data: rows.parquet row 1: no field 'answer'" in refused(two).value
    load({"sources": [DATA, {"path": "rows.parquet", "answer": "gold"}]})
    learning = {"type": "pretrain", "rollouts_per_step": None, "sampling": None, "rewards": None}
    answered = {"path": "rows.parquet", "question": "q", "answer": "gold"}
    problem = refused({"world": "chain", "documents": 8}, **learning, evaluation={"data": answered})
    assert "evaluation.data: rows.parquet row 1: no field 'q'" in problem.value


DOCUMENTS = [{"text": "one", "url": "a.org"}, {"text": None, "url": "b.org"}]
PAIRS = [{"prompt": "q", "chosen": "a", "rejected": "b"}]
LEARNING = {"rollouts_per_step": None, "sampling": None, "rewards": None}
OF_PREFIXES = {
    "rollouts_per_step": 8, "sampling": {"max_new_tokens": 8}, "rewards": [{"type": "continuation"}],
}  # fmt: skip
LEVELS = {"feedback": {"template": "levels"}}
TAGS = {"feedback": {"template": "tag"}}


@pytest.fixture
def documents():
    Path("texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in DOCUMENTS))
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    pq.write_table(pa.table({"text": ["one"], "body": ["two"]}), "texts.parquet")
    Path("scores.yaml").write_text("fields: [text, source]\noptional: {about: x}\n")


def of(path="texts.jsonl", **named):
    return {"sources": [{"path": path, **named}]}


@pytest.mark.parametrize(
    ("type", "data", "more", "says"),
    [
        ("pretrain", of(text="body"), {}, "data: texts.jsonl:2: no column 'body'"),
        ("ixt", of(), LEVELS, "data: texts.jsonl:2: no column 'feedback_level'"),
        ("ixt", of(tag="site"), TAGS, "data: texts.jsonl:2: no column 'site'"),
        ("sft", of(prompt="text", text="reply"), {}, "data: texts.jsonl:2: no column 'reply'"),
        ("sft", {"pairs": {"path": "pairs.jsonl", "chosen": "best"}}, {}, "data: pairs.jsonl:1: no column 'best'"),
        ("dpo", {"pairs": {"path": "pairs.jsonl", "rejected": "bad"}}, {}, "data: pairs.jsonl:1: no column 'bad'"),
        (
            "sft",
            of(prompt="url"),
            {"evaluation": {"pairs": {"path": "pairs.jsonl", "prompt": "asked"}}},
            "evaluation.pairs: pairs.jsonl:1: no column 'asked'",
        ),
        (
            "sip",
            of(text="body"),
            {"objective": "nll", "sampling": {"max_new_tokens": 8}, "evaluation": {"holdout": 1, "likelihood": "init"}},
            "data: texts.jsonl:2: no column 'body'",
        ),
        ("grpo", {"path": "texts.jsonl", "text": "body", "suffix_tokens": 4}, OF_PREFIXES, "no column 'body'"),
    ],
)
def test_columns_of_documents_and_pairs_are_looked_for(documents, type, data, more, says):
    assert says in refused(data, **LEARNING | {"type": type} | more).value


def test_columns_that_nothing_reads_may_lack_and_a_null_may_stand_first(documents):
    load(of(), type="pretrain", **LEARNING)  # no feedback is shown
    load(of(tag="url"), type="ixt", **LEARNING, **TAGS)
    Path("texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(DOCUMENTS)))
    load(of(), type="pretrain", **LEARNING)


def test_a_block_of_pairs_needs_no_more_than_its_path(documents):
    """Defaults that go together: prompt and reply fit into a row of the default capacity, with room for feedback."""
    for kind in ("sft", "dpo"):
        load({"pairs": {"path": "pairs.jsonl"}}, **LEARNING, type=kind, template="math")


@pytest.mark.parametrize("path", ["texts.jsonl", "texts.parquet"])
def test_columns_of_a_job_are_looked_for(documents, path):
    job = {"type": "annotate", "rubric": "scores.yaml", "judge": {"model": "openai:m"}, "optim": None, "steps": None}
    assert (
        f"data: {path}: no column 'source' for the field `source`" in refused({"path": path}, **LEARNING, **job).value
    )
    load({"path": path}, **LEARNING, **job, fields={"source": "text"})


def test_packed_rows_are_refused_where_a_job_cannot_read_them(documents):
    Path("texts.jsonl.gz").write_bytes(gzip.compress(Path("texts.jsonl").read_bytes()))
    job = {"type": "annotate", "rubric": "web-text", "judge": {"model": "openai:m"}, "optim": None, "steps": None}
    assert "gunzip --keep texts.jsonl.gz" in refused({"path": "texts.jsonl.gz"}, **LEARNING, **job).remedy
    load(of("texts.jsonl.gz"), type="pretrain", **LEARNING)


def test_dropping_leaves_rows_to_the_run_and_a_file_that_cannot_be_read_is_refused():
    load(DATA | {"question": "problem", "on_missing": "drop"})
    Path("rows.jsonl").write_text("{no json\n")
    assert "rows.jsonl" in refused(DATA).value


def test_check_remembers_nothing_of_machines_without_the_files():
    config = load(DATA)
    Path("rows.jsonl").unlink()
    type(config).model_validate(config.model_dump(by_alias=True))


def lines(name, rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_more_documents_held_out_than_there_are_is_refused():
    lines("twenty.jsonl", [{"text": f"text {number}"} for number in range(20)])
    lines("copies.jsonl", [{"text": f"text {number % 4}"} for number in range(20)])
    sip = {"objective": "nll", "sampling": {"max_new_tokens": 8}}
    for kind, more, measured in (("pretrain", {}, {}), ("sip", sip, {"likelihood": "init"})):
        learning = LEARNING | {"type": kind} | more

        def held(amount):
            return {"evaluation": {"holdout": amount, **measured}}  # noqa: B023

        load(of("twenty.jsonl"), **learning, **held(19))
        problem = refused(of("twenty.jsonl"), **learning, **held(50))
        assert (problem.path, problem.value) == ("stages.rl", "data: twenty.jsonl: nothing but held-out documents")
        assert "lower evaluation.holdout" in problem.remedy
        assert "nothing but held-out" in refused(of("copies.jsonl"), **learning, **held(4)).value
        load(of("copies.jsonl"), **learning, **held(3))
        assert "no document is held out" in refused(of("twenty.jsonl"), **learning, **held(0.001)).value


def test_more_problems_set_aside_than_there_are_is_refused():
    two = DATA | {"eval_rows": 2}
    assert refused(two).value == "data: rows.jsonl: 2 rows with eval_rows=2"  # of five, two are kept
    assert "no row is left to train on" in refused(two).reason
    load(DATA | {"eval_rows": 0, "where": {}, "on_missing": "drop"})
    more = {"path": "rows.parquet", "answer": "gold", "eval_rows": 2}
    assert "2" in refused(more).value
    learning = {**LEARNING, "type": "pretrain"}
    problem = refused({"world": "chain", "documents": 8}, **learning, evaluation={"data": more})
    assert problem.value == "evaluation.data: rows.parquet: 1 rows with eval_rows=2"
    load({"world": "chain", "documents": 8}, **learning, evaluation={"data": more | {"eval_rows": 1}})


@pytest.mark.parametrize(
    ("rows", "holdout", "says"),
    [
        (4, None, None),
        (20, 0.2, None),
        (1, 0.2, "1 pairs to train on, 0 held out"),
        (4, 0.999, "0 pairs to train on, 4 held out"),
        (0, None, "0 pairs to train on, 0 held out"),  # the same reply twice
    ],
)
def test_pairs_of_which_one_side_would_be_empty_are_refused(rows, holdout, says):
    found = [{"prompt": f"q{number}", "chosen": "a", "rejected": "b"} for number in range(rows)]
    lines("pairs.jsonl", [*found, {"prompt": "q", "chosen": "same", "rejected": "same"}])
    for kind in ("sft", "dpo"):
        data = {"pairs": {"path": "pairs.jsonl", "holdout": holdout}}
        if says is None:
            load(data, **LEARNING, type=kind, template="math")
        else:
            assert says in refused(data, **LEARNING, type=kind, template="math").value
