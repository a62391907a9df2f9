"""`ixt-rl annotate` as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ixt_rl.cli.main import main
from ixt_rl.cli.shell import BAD_INPUT
from tests.unit.annotation.helpers import corpus, judge_file, read_rows, write_lines

ROOT = Path(__file__).resolve().parents[2]

SLOW = """
import os, time

def length(fields):
    with open(os.environ["JUDGE_LOG"], "a") as log:
        log.write("x")
    time.sleep(0.05)
    return {"overall": 3}
"""


@pytest.fixture
def words(tmp_path):
    """A command that works."""
    file = write_lines(tmp_path / "corpus.jsonl", corpus(30))
    judge = f"python:{judge_file(tmp_path)}:length"
    return ["annotate", str(file), str(tmp_path / "out"), "--judge", judge, "--rubric", "web-text"]


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_it_annotates_and_says_what_came_out(words, tmp_path):
    done = run(*words, "--fraction", 0.9, "--check-sample", 3, "--shard-rows", 8, "--prefix", "late")
    assert done.exit_code == 0, done.output
    rows = read_rows(tmp_path / "out")
    judged = sum(row["late_status"] == "judged" for row in rows)
    skipped = sum(row["late_status"] == "skipped" for row in rows)
    assert f"{judged} judged, {30 - judged - skipped} undecided, {skipped} skipped" in done.stdout
    assert "annotation.html" in done.stdout
    assert judged > 0 and skipped > 0
    assert "judging" in done.stderr
    again = run(*words, "--fraction", 0.9, "--check-sample", 3, "--shard-rows", 8, "--prefix", "late")
    assert again.exit_code == 0 and "judging" not in again.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--rubric", "webtext"], "did you mean `web-text`"),
        (["--judge", "vllm:none"], "no folder with a config.json"),
        (["--field", "text:body"], "it is not NAME=VALUE"),
        (["--field", "text=a", "--field", "text=b"], "given twice"),
        (["--field", "text=body"], "no column 'body'"),
        (["--judge-option", "concurrency=3"], "judge option 'concurrency'"),
        (["--base-url", "http://localhost/v1"], "it is no endpoint"),
        (["--fraction", "0"], "fraction=0.0"),
        (["--temperature", "-1"], "temperature=-1.0"),
    ],
)
def test_what_cannot_work_is_refused_by_name(words, change, said):
    done = run(*words, *change)
    assert done.exit_code == BAD_INPUT
    assert said in done.stderr and "remedy" in done.stderr
    assert "Traceback" not in done.output


def test_help_has_examples_of_every_judge():
    text = run("annotate", "--help").stdout
    for judge in ("--judge vllm:", "--judge openai:", "--judge python:"):
        assert judge in text


def test_ctrl_c_stops_it_and_the_same_command_goes_on(words, tmp_path, monkeypatch):
    judge_file(tmp_path, SLOW)
    calls = tmp_path / "calls"
    calls.touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "ixt_rl", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JUDGE_LOG": str(calls)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while calls.stat().st_size < 5 and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in err and "Traceback" not in err
    monkeypatch.setenv("JUDGE_LOG", str(calls))
    done = run(*words)
    assert done.exit_code == 0 and "30 judged" in done.stdout
    spent = json.loads((tmp_path / "out" / "annotation.json").read_text())["spent"]
    assert spent["sessions"] == 2 and spent["requests"] == 24  # of 30 documents, 6 are duplicates
    assert 24 <= calls.stat().st_size <= 25
