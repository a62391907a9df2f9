"""`ixt-rl eval` as a user calls it: exit statuses, the folder, going on after a kill, grading anew."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.cli.main import main
from ixt_rl.evaluation.records import read_records
from ixt_rl.models import byte_tokenizer, new_model

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = 6


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny model of bytes, and two suites as they are published."""
    place = tmp_path_factory.mktemp("place")
    tokenizer = byte_tokenizer()
    spec = NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, init_std=0.2, max_positions=512)
    new_model(spec, tokenizer).save_pretrained(place / "tiny")
    tokenizer.save_pretrained(place / "tiny")
    rows = [{"question": f"What is {n} + {n}?", "answer": f"It is {2 * n}.\n#### {2 * n}"} for n in range(QUESTIONS)]
    write(place / "data" / "gsm8k" / "test.jsonl", rows)
    write(
        place / "data" / "amc23" / "test.jsonl", [{"problem": "1 + 1", "answer": 2.0}, {"problem": "2", "answer": 2.0}]
    )
    return place


def write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


SMALL = ("--data", "data", "--max-tokens", "12", "--batch-size", "2")


@pytest.fixture
def ixt_rl(place, monkeypatch):
    """Runs a command in the place; returns (exit status, all that was said)."""

    def run(*words):
        monkeypatch.chdir(place)
        done = CliRunner().invoke(main, [str(word) for word in words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return run


@pytest.fixture(scope="module")
def evaluated(place):
    """An evaluation that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = CliRunner().invoke(main, ["eval", "tiny", "--suite", "gsm8k,amc23", *SMALL, "--out", "whole"])
    assert done.exit_code == 0, done.output
    return place / "whole", done.output


def test_every_sample_is_a_record_and_the_table_has_every_suite(evaluated):
    folder, said = evaluated
    records = read_records(folder)
    asked = [("gsm8k", q, 0) for q in range(QUESTIONS)] + [("amc23", q, k) for q in range(2) for k in range(32)]
    assert [(r.suite, r.index, r.sample) for r in records] == asked
    assert all(r.engine == "transformers" and r.dtype == "float32" and r.length <= 12 for r in records)
    settings = json.loads((folder / "evaluation.json").read_text())
    assert (settings["preset"]["name"], settings["seed"], settings["limit"]) == ("paper", 0, None)
    assert settings["suites"]["gsm8k"]["sampling"] == {
        "samples": 1, "temperature": 0.6, "top_p": 0.95, "max_new_tokens": 12, "stop": []
    }  # fmt: skip
    results = json.loads((folder / "results.json").read_text())
    assert list(results["suites"]) == ["gsm8k", "amc23"] and results["complete"]
    for word in ("gsm8k", "pass@1", "amc23", "avg@32", "pass@8", "maj@32", "average", "undecided", "truncated"):
        assert word in said
    assert "6 rows, where 1319 are expected" in said


def test_killed_by_kill_9_the_same_command_goes_on_to_the_same_records(place, evaluated, ixt_rl):
    folder = place / "killed"
    words = ["eval", "tiny", "--suite", "gsm8k,amc23", *SMALL, "--out", "killed"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ixt_rl", *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    records = folder / "records.jsonl"
    while process.poll() is None and (not records.exists() or records.read_bytes().count(b"\n") < 6):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    before = len(read_records(folder))
    assert 6 <= before < QUESTIONS + 64
    status, said = ixt_rl(*words)
    assert status == 0, said
    assert records.read_bytes() == (evaluated[0] / "records.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--suite", "gsm8k"), "without a model"),
        (("tiny",), "without a suite"),
        (("tiny", "--suite", "gsm8q", "--data", "data"), "did you mean `gsm8k`"),
        (("tiny", "--suite", "gsm8k", "--data", "nowhere"), "nowhere is no folder"),
        (("tiny", "--suite", "gsm8k,gsm8k", "--data", "data"), "gsm8k is there twice"),
        (("tiny", "--suite", "gsm8k", "--data", "data", "--preset", "papr"), "did you mean `paper`"),
        (("./tny", "--suite", "gsm8k", "--data", "data"), "did you mean `tiny`"),
        (("tny", "--suite", "gsm8k", "--data", "data"), "did you mean `tiny`"),
        (("data", "--suite", "gsm8k", "--data", "data"), "a folder without a model"),
        (("tiny", "--suite", "gsm8k", "--data", "data"), "give --max-tokens 4"),
        (("tiny", "--suite", "gsm8k", *SMALL, "engine.poool.engines=2"), "did you mean `engine.pool`"),
        (("tiny", "--suite", "gsm8k", *SMALL, "engine.vllm.egaer=true"), "did you mean `eager`"),
        (("tiny", "--suite", "gsm8k", *SMALL, "--temperature", "0", "--samples", "4"), "greedy answers"),
        (("tiny", "--suite", "gsm8k,amc23", *SMALL, "--out", "whole", "--seed", "1"), "seed: 0 there, 1 now"),
        (("tiny", "--suite", "gsm8k,amc23", *SMALL, "--out", "whole", "--limit", "3"), "limit: null there, 3 now"),
        (("tiny", "--suite", "gsm8k", *SMALL, "--as", "qwen25-mth"), "did you mean `qwen25-math`"),
        (("--regrade",), "nothing says which evaluation"),
        (("--regrade", "--out", "data"), "it has no evaluation.json"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_model_is_loaded(words, reason, ixt_rl, evaluated, monkeypatch):
    monkeypatch.setattr("ixt_rl.cli.sampled_model.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    status, said = ixt_rl("eval", *words)
    assert (status, reason in said) == (2, True), said


def test_limit_takes_the_first_questions_and_greedy_has_one_sample(ixt_rl, place):
    status, said = ixt_rl(
        "eval", "tiny", "--suite", "amc23", *SMALL, "--limit", "1", "--temperature", "0", "--out", "few"
    )
    assert status == 0, said
    assert [(r.id, r.sample, r.seed) for r in read_records(place / "few")] == [("0", 0, None)]
    assert "1 of 2" in said


def test_a_file_of_rows_of_ones_own(ixt_rl, place):
    write(
        place / "own.jsonl",
        [{"problem": "1 + 1", "gold": "2"}, {"problem": "3", "gold": ""}, {"problem": "4", "gold": "4"}],
    )
    fields = ("--field", "question=problem", "--field", "answer=gold")
    status, said = ixt_rl("eval", "tiny", "--suite", "own.jsonl", *fields, *SMALL, "--out", "own")
    assert status == 0, said
    assert [r.gold for r in read_records(place / "own")] == ["2", "4"]
    assert "no gold answer: 1" in said


def test_regrading_needs_neither_model_nor_data(ixt_rl, place, evaluated, tmp_path):
    shutil.copytree(evaluated[0], tmp_path / "old")
    lines = (tmp_path / "old" / "records.jsonl").read_bytes().splitlines(keepends=True)
    record = json.loads(lines[3])
    right = {**record, "text": "It is \\boxed{6}."}
    (tmp_path / "old" / "records.jsonl").write_bytes(
        b"".join([*lines[:3], json.dumps(right).encode() + b"\n", *lines[4:]])
    )
    (tmp_path / "old" / "results.json").unlink()
    hidden = [place / "tiny", place / "data"]
    for folder in hidden:
        folder.rename(folder.with_suffix(".hidden"))
    try:
        status, said = ixt_rl("eval", "--regrade", "--out", tmp_path / "old")
    finally:
        for folder in hidden:
            folder.with_suffix(".hidden").rename(folder)
    assert status == 0, said
    assert "gsm8k: 6 graded anew, changed: 1 from wrong to right" in said
    assert "amc23: 64 graded anew, none changed" in said
    now = read_records(tmp_path / "old")[3]
    assert (now.verdict, now.extracted, now.gold) == ("right", "6", "6")
    results = json.loads((tmp_path / "old" / "results.json").read_text())
    assert results["suites"]["gsm8k"]["metrics"]["pass@1"]["left_out"]["value"] == pytest.approx(1 / 6)


def test_regrading_by_another_rule_of_a_suite(ixt_rl, place, evaluated, tmp_path):
    shutil.copytree(evaluated[0], tmp_path / "old")
    file = tmp_path / "old" / "records.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    write(file, [{**row, "text": "\\boxed{6.03}"} if row["suite"] == "gsm8k" else row for row in rows])
    loose = (ROOT / "ixt_rl" / "suites" / "gsm8k.yaml").read_text() + "grading: {tolerance: 0.01}\n"
    (place / "loose.yaml").write_text(loose)
    for words, right in (((), 0), (("--suite", "loose.yaml"), 1)):
        status, said = ixt_rl("eval", "--regrade", "--out", tmp_path / "old", *words)
        assert status == 0, said
        assert sum(r.verdict == "right" for r in read_records(tmp_path / "old") if r.suite == "gsm8k") == right
    status, said = ixt_rl("eval", "--regrade", "--out", tmp_path / "old", "--suite", "math500")
    assert (status, "gsm8k, amc23" in said) == (2, True)


def test_suites_are_listed_from_a_folder_of_data_and_no_other(ixt_rl):
    status, output = ixt_rl("suites", "gsm8k", "--data", "data")
    assert status == 0 and "test.jsonl" in output and str(QUESTIONS) in output
    status, output = ixt_rl("suites", "--data", "dato")
    assert status == 2 and "--data dato" in output and "no such folder" in output and "aime24" not in output
