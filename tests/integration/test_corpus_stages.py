"""Annotation and rewriting as stages of a run: made once, gone on with, read by name, counted, reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ixt_rl.config.load import dump_yaml, load_run
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.errors import BackendFailed, DataError
from ixt_rl.run import run_config
from ixt_rl.run.plan import plan
from tests.integration.run_helpers import rows
from tests.unit.annotation.helpers import read_rows, shards, write_lines
from tests.unit.judging.server import completion, serve

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = ROOT / "configs" / "ixt" / "pipeline.yaml"
DOCUMENTS = 24
JUDGE = '''
import os


def length(fields):
    """A level by the text's length; every call is a byte of a file, and the one after `STOP_AFTER` a Ctrl-C."""
    calls = os.environ["JUDGE_CALLS"]
    done = os.path.getsize(calls) if os.path.exists(calls) else 0
    if done == int(os.environ.get("STOP_AFTER", -1)):
        raise KeyboardInterrupt
    with open(calls, "a") as log:
        log.write(".")
    return {"overall": 1 + len(fields["text"]) % 5, "critique": f"{len(fields['text'])} characters"}


def mend(prefix, suffix):
    return suffix.replace("bad", "fit")


def think(prefix, suffix):
    return suffix.replace("It ends", "<note> Does it? </note> It ends")
'''


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a corpus and a judge, whose calls are counted."""
    texts = [f"Document {row} goes on{' and on' * (row % 7)}. It ends: bad." for row in range(DOCUMENTS)]
    write_lines(tmp_path / "corpus.jsonl", [{"id": row, "text": text} for row, text in enumerate(texts)])
    (tmp_path / "judge.py").write_text(JUDGE)
    monkeypatch.setenv("JUDGE_CALLS", str(tmp_path / "calls"))
    return tmp_path


def calls(place: Path) -> int:
    return (place / "calls").stat().st_size


def annotated(place: Path, **changes: Any) -> dict[str, Any]:
    stage = {
        "name": "annotated", "type": "annotate", "data": {"path": str(place / "corpus.jsonl")}, "shard_rows": 4,
        "judge": {"model": f"python:{place / 'judge.py'}:length"}, "rubric": "web-text", "format": "jsonl",
    }  # fmt: skip
    return {**stage, **changes}


def trained(**changes: Any) -> dict[str, Any]:
    stage = {
        "name": "ixt", "type": "ixt", "data": {"sources": [{"from": "annotated"}]},
        "feedback": {"template": "critique"}, "packing": {"capacity": 128}, "steps": 2, "batch_size": 2,
        "optim": {"lr": 1e-3}, "evaluation": {"every": 2, "holdout": 4},
    }  # fmt: skip
    return {**stage, **changes}


def run(place: Path, *stages: dict[str, Any], name: str = "run"):
    model = {"new": {"tokenizer": "bytes", "hidden_size": 32, "heads": 2, "intermediate_size": 64}}
    value = {"name": name, "output_dir": str(place / "runs"), "model": model, "stages": list(stages)}
    (place / "run.yaml").write_text(dump_yaml(value))
    return load_run(place / "run.yaml")


def of(folder: Path, stage: str) -> dict[str, Any]:
    return next(one for one in json.loads((folder / "summary.json").read_text())["stages"] if one["name"] == stage)


def test_rows_are_made_once_and_trained_on_by_name(place, capsys):
    config = run(place, annotated(place, check_sample=5), trained())
    assert plan(config) == ["annotated: run (not run before)", "ixt, seed 1: run: it reads the rows of annotated"]
    folder = run_config(config)
    assert calls(place) == DOCUMENTS + 5
    made = folder / "stages" / "annotated" / "rows"
    assert [row["id"] for row in read_rows(made)] == list(range(DOCUMENTS))
    result = json.loads((folder / "stages" / "ixt" / "seed1" / "result.json").read_text())
    assert result["documents"]["conditioned"] == result["documents"]["documents"] > 0, "beside what was said"
    assert result["heldout"].keys() == {"annotated"}, "a source is called by the stage that made it"

    told = of(folder, "annotated")
    assert told["mean"]["rows/judged"] == DOCUMENTS
    assert told["mean"]["rows/agreement"] == 1.0
    assert told["corpus"]["said"].startswith(f"{DOCUMENTS} judged, 0 undecided, 0 skipped; levels ")
    page = (folder / "report.html").read_text()
    assert '<a href="stages/annotated/rows/annotation.html">' in page
    assert (folder / "stages" / "annotated" / told["corpus"]["page"]).is_file()
    assert "same level again" in page and "100.0%" in page
    assert f"{DOCUMENTS} judged" in capsys.readouterr().err

    assert plan(config) == ["annotated: reused", "ixt, seed 1: reused"]
    run_config(config)
    assert calls(place) == DOCUMENTS + 5


def test_what_changes_is_done_again_and_no_reply_is_paid_twice(place):
    run_config(run(place, annotated(place), trained()))
    judge = place / "judge.py"

    fewer = run(place, annotated(place, fraction=0.5), trained())
    assert plan(fewer) == [
        "annotated: done again: fraction: 1.0, now 0.5",
        "ixt, seed 1: done again: it reads the rows of annotated",
    ]
    folder = run_config(fewer)
    assert calls(place) == DOCUMENTS, "the replies are kept"
    skipped = sum(row["feedback_status"] == "skipped" for row in read_rows(folder / "stages" / "annotated" / "rows"))
    assert 0 < skipped < DOCUMENTS

    judge.write_text(JUDGE.replace("1 + len", "1 + 2 * len"))
    again = run(place, annotated(place, fraction=0.5), trained())
    assert plan(again)[0] == f"annotated: done again: {judge} changed"
    run_config(again)
    assert calls(place) == DOCUMENTS + DOCUMENTS - skipped

    lines = (place / "corpus.jsonl").read_text()
    (place / "corpus.jsonl").write_text(lines.replace("Document 3 ", "Document three "))
    assert plan(again)[0] == f"annotated: done again: {place / 'corpus.jsonl'} changed"


def test_rows_that_stay_the_same_leave_what_was_trained_on_them(place):
    run_config(run(place, annotated(place), trained()))
    dearer = run(place, annotated(place, prices=[1.0, 2.0]), trained())
    assert plan(dearer)[0] == "annotated: done again: prices.0: 0.0, now 1.0; prices.1: 0.0, now 2.0"
    run_config(dearer)
    assert plan(dearer) == ["annotated: reused", "ixt, seed 1: reused"]
    assert calls(place) == DOCUMENTS


def test_a_stopped_stage_goes_on(place, monkeypatch, capsys):
    straight = run_config(run(place, annotated(place), name="straight")) / "stages" / "annotated" / "rows"
    (place / "calls").unlink()
    config = run(place, annotated(place), trained())
    monkeypatch.setenv("STOP_AFTER", "10")
    with pytest.raises(KeyboardInterrupt):
        run_config(config)
    folder = place / "runs" / "run"
    made = folder / "stages" / "annotated" / "rows"
    assert len(shards(made)) == 2, "whole files of 4 rows; 2 replies more are in the cache"
    assert json.loads((folder / "summary.json").read_text())["status"] == "stopped"
    assert (folder / "report.html").is_file()
    monkeypatch.delenv("STOP_AFTER")
    capsys.readouterr()
    assert plan(config)[0] == "annotated: goes on from the rows and replies that are there"
    run_config(config)
    assert "annotated (annotate): goes on from the rows and replies that are there" in capsys.readouterr().err
    assert calls(place) == DOCUMENTS
    assert shards(made) == shards(straight)


def test_a_file_that_is_gone_is_made_again_from_the_replies(place):
    config = run(place, annotated(place))
    made = run_config(config) / "stages" / "annotated" / "rows"
    before = shards(made)
    (made / "part-000002.jsonl").unlink()
    assert plan(config) == ["annotated: goes on from the rows and replies that are there"]
    run_config(config)
    assert (shards(made), calls(place)) == (before, DOCUMENTS)


def test_tokens_of_the_judge_are_in_the_ledger_of_what_is_trained_on_them(place):
    answer = json.dumps({"critique": "fine", "overall": 4})
    with serve(lambda body, number: completion(answer)) as server:
        judge = {"model": "openai:judge-1", "options": {"base_url": server.base_url, "concurrency": 2}}
        stages = [annotated(place, judge=judge, judge_parameters=1000, prices=[1.0, 0.0]), trained(steps=4)]
        folder = run_config(run(place, *stages))
    told = of(folder, "annotated")
    repaired = 2  # axes besides the overall one were left out, so that each answer was sent back once
    assert told["mean"]["asked/tokens"] == 120 * repaired * DOCUMENTS
    assert told["mean"]["asked/cost"] == pytest.approx(100 * repaired * DOCUMENTS / 1e6)
    assert told["mean"]["flops"] == 2 * 1000 * 120 * repaired * DOCUMENTS
    last = rows(folder / "stages" / "ixt" / "seed1")[-1]
    assert last["tokens/annotate"] > 0
    assert last["flops/annotate"] == 2 * 1000 * last["tokens/annotate"]


def test_a_judge_that_is_down_stops_the_run_and_is_asked_again(place):
    (place / "down.py").write_text("def judge(fields):\n    raise OSError('no route')\n")
    judge = {"model": f"python:{place / 'down.py'}:judge"}
    folder = run_config(run(place, annotated(place, judge=judge)))
    notes = of(folder, "annotated")["notes"]
    assert notes[0].startswith(f"{DOCUMENTS} requests failed or were refused: their rows are undecided.")
    done = folder / "stages" / "annotated" / "done.json"
    assert str(done) in notes[0]
    done.unlink()
    more = [{"text": f"text {row}"} for row in range(200)]
    write_lines(place / "more.jsonl", more)
    with pytest.raises(BackendFailed, match="100 requests failed in a row"):
        run_config(run(place, annotated(place, judge=judge, data={"path": str(place / "more.jsonl")})))


def test_what_a_job_refuses_is_said_in_keys_of_the_stage(place):
    write_lines(place / "taken.jsonl", [{"text": "a", "id_level": 1}])
    taken = annotated(place, prefix="id", data={"path": str(place / "taken.jsonl")})
    with pytest.raises(DataError) as caught:
        run_config(run(place, taken))
    assert "give the new ones another name with `prefix`" in str(caught.value)
    assert "--" not in str(caught.value)
    with pytest.raises(InvalidConfig) as invalid:  # columns are looked for before anything runs
        run(place, annotated(place, fields={"text": "body"}))
    assert "name it with `fields`: {text: COLUMN}" in str(invalid.value)
    assert "--" not in str(invalid.value)


@pytest.mark.slow
def test_rewritten_suffixes_are_candidates_of_sip(place):
    rewritten = {
        "name": "rewritten", "type": "rewrite", "data": {"from": "annotated"}, "prompt": "quality",
        "rewriter": {"model": f"python:{place / 'judge.py'}:mend"}, "suffix_tokens": 12, "format": "jsonl",
    }  # fmt: skip
    sip = {
        "name": "sip", "type": "sip", "data": {"sources": [{"from": "rewritten"}], "suffix_tokens": 12},
        "objective": "sft-rewrite", "rewriter": {"from": "rewritten"}, "steps": 2, "batch_size": 2,
        "sampling": {"max_new_tokens": 12}, "optim": {"lr": 1e-3}, "evaluation": None,
    }  # fmt: skip
    folder = run_config(run(place, annotated(place), rewritten, sip))
    made = read_rows(folder / "stages" / "rewritten" / "rows")
    assert {row["rewrite_status"] for row in made} == {"rewritten"}
    assert all(row["feedback_level"] for row in made), "the columns of the stage before stay"
    assert of(folder, "rewritten")["mean"]["rows/changed"] == DOCUMENTS
    assert len([row for row in rows(folder / "stages" / "sip" / "seed1") if row["phase"] == "train"]) == 2
    assert '<a href="stages/rewritten/rows/rewriting.html">' in (folder / "report.html").read_text()


@pytest.mark.slow
def test_thoughts_are_put_into_documents_and_trained(place):
    thought = {
        "name": "thought", "type": "rewrite", "data": {"path": str(place / "corpus.jsonl")}, "prompt": "thoughts",
        "rewriter": {"model": f"python:{place / 'judge.py'}:think"},
    }  # fmt: skip
    plain = trained(
        name="plain", type="pretrain", feedback={}, data={"sources": [{"from": "thought", "text": "thoughts"}]}
    )
    folder = run_config(run(place, thought, plain))
    texts = [row["thoughts"] for row in read_rows(folder / "stages" / "thought" / "rows")]
    assert texts[0] == "Document 0 goes on. <think> Does it? </think> It ends: bad."
    assert len([row for row in rows(folder / "stages" / "plain" / "seed1") if row["phase"] == "train"]) == 2


@pytest.mark.long(
    "tests/integration/test_corpus_stages.py::test_a_stopped_stage_goes_on",
    "tests/integration/test_rewrite.py::test_kill_9_at_ten_moments_changes_nothing_and_repeats_next_to_nothing",
)
def test_the_shipped_pipeline_is_killed_and_goes_on_to_the_same_model(place):
    """The whole of it, as a process that is killed while the judge is asked, and here."""
    small = (f"output_dir={place / 'runs'}", "stages.ixt.steps=8", "stages.annotated.shard_rows=100")
    straight = run_config(load_run(PIPELINE, [*small, "name=straight"])) / "stages"
    process = subprocess.Popen(
        [sys.executable, "-m", "ixt_rl", "run", str(PIPELINE), *small],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=place,
    )  # fmt: skip
    struck = place / "runs" / "ixt-pipeline" / "stages"
    made = struck / "annotated" / "rows"
    while len(list(made.glob("part-*"))) < 2 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert 2 <= len(list(made.glob("part-*"))) < 20, f"it was not killed in the middle:\n{said[-2000:]}"

    config = load_run(PIPELINE, small)
    assert plan(config)[0] == "annotated: goes on from the rows and replies that are there"
    folder = run_config(config)
    assert shards(made) == shards(straight / "annotated" / "rows")
    model = Path("ixt") / "seed1" / "model" / "model.safetensors"
    assert (struck / model).read_bytes() == (straight / model).read_bytes()
    assert plan(config) == ["annotated: reused", "ixt, seed 1: reused"]
    assert all(item["holds"] for item in json.loads((folder / "summary.json").read_text())["expectations"])


def test_problems_with_critiques_are_trained_on_by_name(place):
    """An RL stage reads what an annotate stage made: its critique is a column that the told prompt shows."""
    problems = [{"question": f"{n} + 1 =", "answer": str(n + 1)} for n in range(6)]
    write_lines(place / "problems.jsonl", problems)
    (place / "seen.py").write_text(
        "def right(completions, question, feedback_critique, **kwargs):\n"
        "    assert feedback_critique == [f'{len(q)} characters' for q in question]\n"
        "    return [float(len(c) % 2) for c in completions]\n"
    )
    asked = annotated(place, data={"path": str(place / "problems.jsonl")}, fields={"text": "question"})
    rl = {
        "name": "rl", "type": "raft", "data": {"from": "annotated", "columns": ["feedback_critique"], "eval_rows": 2},
        "template": {"prompt": "{question}", "told": "{question} ({feedback_critique}: {answer})"}, "steps": 2,
        "rollouts_per_step": 4, "group_size": 2, "sampling": {"max_new_tokens": 4}, "optim": {"lr": 1e-3},
        "rewards": [{"type": "python", "path": f"{place / 'seen.py'}:right"}],
    }  # fmt: skip
    config = run(place, asked, rl)
    assert plan(config) == ["annotated: run (not run before)", "rl, seed 1: run: it reads the rows of annotated"]
    folder = run_config(config)
    result = json.loads((folder / "stages" / "rl" / "seed1" / "result.json").read_text())
    assert result["prompt_lengths"]["count"] == 4 and result["reward_errors"] == 0
    assert [row["step"] for row in rows(folder) if (row["stage"], row["phase"]) == ("rl", "eval")] == [0, 2]
    assert plan(config) == ["annotated: reused", "rl, seed 1: reused"]
    fewer = run(place, {**asked, "fraction": 0.5}, rl)
    assert plan(fewer)[1] == "rl, seed 1: done again: it reads the rows of annotated"
