"""A run's own test questions, looked for in what its stages trained on; the run's report says what was found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ixt_rl.config.load import load_run
from ixt_rl.config.schema import RunConfig
from ixt_rl.evaluation.contamination.overlap import QuestionIndex
from ixt_rl.files import read_json
from ixt_rl.report.build import build_report
from ixt_rl.report.overlaps import grouped, overlaps_of, said_of_lines
from ixt_rl.report.run_files import read_summary
from ixt_rl.run import overlap
from ixt_rl.run.folder import RunFolder
from ixt_rl.run.overlap import note_overlap, overlap_notes
from ixt_rl.run.pipeline import _note_overlap
from ixt_rl.run.summary import summarise
from ixt_rl.yaml_io import parse_yaml


def question(number: int) -> str:
    return f"Ann number {number} walks to the market and buys {number + 2} pears, how many pears does she have by now?"


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def problems(numbers, **more) -> list[dict]:
    return [{"question": question(number), "answer": str(number + 2), **more} for number in numbers]


def config(tmp_path: Path, stages: list[dict]) -> RunConfig:
    value = {
        "name": "run",
        "output_dir": str(tmp_path / "runs"),
        "model": {"new": {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "tokenizer": "bytes"}},
        "stages": stages,
    }
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(value))
    return load_run(path)


def rl(name: str, path: str, **more) -> dict:
    stage = {"name": name, "type": "grpo", "steps": 1, "rollouts_per_step": 8, "optim": {"lr": 1e-3}}
    data = {"path": path, "eval_rows": more.pop("eval_rows", 0)}
    return {**stage, "data": data, "rewards": [{"type": "math"}], "sampling": {"max_new_tokens": 8}, **more}


def measure(name: str, path: str, **more) -> dict:
    data = {"path": path, "eval_rows": 0}
    return {"name": name, "type": "evaluate", "data": data, "sampling": {"max_new_tokens": 8}, **more}


def folder_of(run: RunConfig) -> RunFolder:
    folder = RunFolder(Path(run.output_dir), run.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    return folder


def test_an_evaluation_stage_is_compared_with_the_stages_that_led_to_it(tmp_path):
    train, test = write(tmp_path / "a.jsonl", problems(range(20))), write(tmp_path / "b.jsonl", problems(range(18, 30)))
    other = write(tmp_path / "c.jsonl", problems(range(20, 30)))
    stages = [
        measure("before", test, init="model"),
        rl("first", train, init="model"),
        rl("apart", other, init="model"),
        measure("after", test, init="first"),
    ]
    run = config(tmp_path, stages)
    found = note_overlap(run, folder_of(run))
    (one,) = found["measured"]
    assert one["trained"] == ["first"]  # nothing led to `before`, and `apart` not to `after`
    assert one["left_out"] == []
    counts = one["overlap"]["suites"][test]
    assert (counts["questions"], counts["exact"], counts["whole"]) == (12, 2, 2)
    (note,) = overlap_notes(found)
    assert note.startswith(f"2 of 12 test questions of {test} stand whole in what first trained on")


def test_rivals_on_the_same_rows_are_counted_once_and_said_together(tmp_path, monkeypatch):
    train, test = write(tmp_path / "a.jsonl", problems(range(20))), write(tmp_path / "b.jsonl", problems(range(18, 30)))
    names = ("one", "two")
    rivals = [
        stage for name in names for stage in (rl(name, train, init="base"), measure(f"of-{name}", test, init=name))
    ]
    run, asked = config(tmp_path, [rl("base", train), *rivals]), []
    monkeypatch.setattr(overlap, "QuestionIndex", lambda sets: asked.append(sets) or QuestionIndex(sets))
    found = note_overlap(run, folder_of(run))
    assert [one["trained"] for one in found["measured"]] == [["base", "one"], ["base", "two"]]
    assert len(asked) == 1
    said = f"2 of 12 test questions of {test} stand whole in what base, then one or two trained on: see the report"
    assert overlap_notes(found) == [said]
    left_out: list[str] = []
    (table,) = grouped(overlaps_of(found["measured"], left_out))
    assert (table["trained"], left_out) == ("base, then one or two", [])


def test_stages_that_led_to_models_in_words():
    assert said_of_lines([["a"]]) == "a"
    assert said_of_lines([["a", "b"]]) == "a, b"
    assert said_of_lines([["a"], ["b"]]) == "a or b"
    assert said_of_lines([["a"], ["b", "c"]]) == "a; or b, c"
    assert said_of_lines([["a", "b"], ["a"]]) == "a, b; or a"


def test_rows_set_aside_may_stand_among_those_that_are_trained(tmp_path):
    path = write(tmp_path / "a.jsonl", [*problems(range(30)), *problems(range(30))])
    run = config(tmp_path, [rl("first", path, eval_rows=20)])
    (one,) = note_overlap(run, folder_of(run))["measured"]
    ((name, counts),) = one["overlap"]["suites"].items()
    assert name == f"{path}, set aside"
    assert counts["questions"] == 20
    assert 5 <= counts["exact"] < 20  # twins on both sides of the split; not those of which both are aside


def test_documents_are_read_from_their_files(tmp_path):
    corpus = write(tmp_path / "corpus.jsonl", [{"text": f"It is said: {question(3)} Five."}, {"text": "Nothing."}])
    test = write(tmp_path / "b.jsonl", problems(range(5)))
    stage = {
        "name": "read", "type": "pretrain", "steps": 1, "optim": {"lr": 1e-3}, "data": {"sources": [{"path": corpus}]},
        "evaluation": {"every": 1, "problems": 4, "data": {"path": test, "eval_rows": 0}},
    }  # fmt: skip
    run = config(tmp_path, [stage])
    (one,) = note_overlap(run, folder_of(run))["measured"]
    counts = one["overlap"]["suites"][test]
    assert (counts["whole"], counts["exact"]) == (1, 0)


def test_suites_that_are_measured_in_training_are_compared(tmp_path):
    path = write(tmp_path / "a.jsonl", problems(range(20)))
    suite = write(
        tmp_path / "gsm8k.jsonl", [{**row, "answer": f"#### {row['answer']}"} for row in problems(range(18, 30))]
    )
    suites = {"names": ["gsm8k"], "data": str(tmp_path), "limit": 10}
    run = config(tmp_path, [rl("first", path, evaluation={"every": 1, "suites": suites})])
    folder = folder_of(run)
    found = note_overlap(run, folder)
    counts = found["measured"][0]["overlap"]["suites"]["suite gsm8k"]
    assert (counts["questions"], counts["exact"]) == (10, 2)
    assert note_overlap(run, folder) == found
    Path(suite).unlink()
    write(tmp_path / "gsm8k.jsonl", [{"question": question(40), "answer": "#### 42"}])
    assert note_overlap(run, folder)["measured"][0]["overlap"]["suites"]["suite gsm8k"]["exact"] == 0


def test_a_run_without_questions_of_files_has_none(tmp_path):
    run = config(tmp_path, [rl("first", write(tmp_path / "a.jsonl", problems(range(20))))])
    assert note_overlap(run, folder_of(run)) is None
    assert overlap_notes(None) == []
    assert not (Path(run.output_dir) / "run" / "overlap.json").exists()


def test_it_is_done_again_only_where_something_changed(tmp_path, monkeypatch):
    path, test = write(tmp_path / "a.jsonl", problems(range(5))), write(tmp_path / "b.jsonl", problems(range(5)))
    run = config(tmp_path, [rl("first", path), measure("after", test)])
    folder = folder_of(run)
    first = note_overlap(run, folder)
    with monkeypatch.context() as patched:
        patched.setattr(overlap, "load_problems", lambda *_, **__: pytest.fail("read again"))
        assert note_overlap(run, folder) == first
    write(tmp_path / "b.jsonl", problems(range(4, 9)))
    assert note_overlap(run, folder)["measured"][0]["overlap"]["suites"][test]["whole"] == 1


def test_a_file_that_is_gone_is_said_and_stops_nothing(tmp_path):
    path, test = write(tmp_path / "a.jsonl", problems(range(5))), write(tmp_path / "b.jsonl", problems(range(5)))
    run = config(tmp_path, [rl("first", path), measure("after", test)])
    Path(path).unlink()
    said: list[str] = []

    class Console:
        note = staticmethod(said.append)

    _note_overlap(run, folder_of(run), Console())
    assert len(said) == 1
    assert said[0].startswith("test questions were not looked for")


@pytest.fixture
def reported(tmp_path) -> Path:
    path, test = write(tmp_path / "a.jsonl", problems(range(5))), write(tmp_path / "b.jsonl", problems(range(3, 6)))
    run = config(tmp_path, [rl("first", path), measure("after", test)])
    folder = folder_of(run)
    note_overlap(run, folder)
    (folder.path / "config.yaml").write_text(json.dumps(parse_yaml((tmp_path / "run.yaml").read_text(), "").value))
    summarise(run, folder, None, 1.0)
    return folder.path


def test_the_report_shows_it(reported):
    page = build_report(reported).read_text()
    assert "Test questions in the training data" in page
    assert "Trained on by first:" in page
    assert "b.jsonl</th><td>3</td><td>2</td>" in page


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: "text",
        lambda found: [*found, 3],
        lambda found: [{**found[0], "trained": None}],
        lambda found: [{**found[0], "overlap": {**found[0]["overlap"], "suites": {"x": {"questions": "many"}}}}],
        lambda found: [{**found[0], "overlap": {**found[0]["overlap"], "read": {"x": {}}}}],
    ],
)
def test_what_is_damaged_is_left_out_and_said(reported, damage):
    summary = read_json(reported / "summary.json")
    summary["overlap"] = damage(summary["overlap"])
    (reported / "summary.json").write_text(json.dumps(summary))
    unreadable: list[str] = []
    read_summary(reported / "summary.json", unreadable)
    assert unreadable == ["summary.json is damaged, left out: overlap"]
    assert "summary.json is damaged" in build_report(reported).read_text()


def test_measured_pairs_and_documents_are_looked_for_in_trained_files(tmp_path):
    pairs = [{"prompt": f"say {n}", "chosen": question(n), "rejected": f"no {n}"} for n in range(12)]
    copied = write(tmp_path / "copied.jsonl", pairs[:3] + [{**pairs[0], "prompt": "other", "chosen": question(99)}])
    measured, texts = write(tmp_path / "measured.jsonl", pairs), [{"text": question(n)} for n in range(5)]
    documents = write(tmp_path / "documents.jsonl", texts)
    other = write(tmp_path / "other.jsonl", [{"text": "So: " + question(4)}, {"text": question(50)}])
    optim = {"lr": 1e-3}
    evaluated = {"wishes": {"none": None}}
    stages = [
        {"name": "copies", "type": "sft", "init": "model", "steps": 1, "optim": optim, "template": "math",
         "data": {"pairs": {"path": copied}},
         "evaluation": {**evaluated, "pairs": {"path": measured}}},
        {"name": "apart", "type": "sft", "init": "model", "steps": 1, "optim": optim, "template": "math",
         "data": {"pairs": {"path": measured, "holdout": 0.5}},
         "evaluation": {**evaluated, "pairs": {"path": measured, "holdout": 0.5}}},
        {"name": "sip", "type": "sip", "init": "model", "steps": 1, "optim": optim, "objective": "nll",
         "sampling": {"max_new_tokens": 4}, "data": {"sources": [{"path": other}], "suffix_tokens": 8},
         "evaluation": {"data": {"sources": [{"path": documents}], "suffix_tokens": 8}, "likelihood": "init"}},
    ]  # fmt: skip
    run = config(tmp_path, stages)
    found = {one["trained"][0]: one["overlap"]["suites"] for one in note_overlap(run, folder_of(run))["measured"]}
    assert set(found) == {"copies", "sip"}  # what is set aside of a trained file stands in it
    ((name, counts),) = found["copies"].items()
    assert name.endswith("measured.jsonl, better replies")
    assert (counts["questions"], counts["exact"]) == (12, 3)
    ((name, counts),) = found["sip"].items()
    assert name.endswith("documents.jsonl, documents")
    assert (counts["questions"], counts["exact"], counts["whole"]) == (5, 0, 1)
