"""Annotation that is killed; of real solutions; by a model that knows nothing, with and without Ray."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ixt_rl.backends import is_installed
from ixt_rl.corpus.annotate.annotate import RaySettings, annotate
from ixt_rl.corpus.rewrite.rewrite import rewrite
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.errors import ConfigError
from ixt_rl.judging import load_rubric
from ixt_rl.judging.opening import parse_judge
from ixt_rl.rollout.pool.ray_data import map_on_actors, ray_session
from ixt_rl.types import SamplingParams
from tests.unit.annotation.helpers import judge_file, make_job, read_rows, shards, write_lines
from tests.unit.annotation.rewriting import make_rewriting, passages

ROOT = Path(__file__).resolve().parents[2]

SLOW_JUDGE = """
import os

LOG = os.open(os.environ["JUDGE_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def length(fields):
    os.write(LOG, (fields["text"] + "\\n").encode())
    sum(range(10_000))  # a fifth of a millisecond; to sleep may take many where other processes compute
    return {"overall": 1 + len(fields["text"]) % 5, "critique": fields["text"][::-1]}
"""
KILLS = 10
CAPACITY = 1  # calls of a function under way


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ixt_rl", "annotate", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def finish(process: subprocess.Popen[str], timeout: float = 280) -> str:
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err[-3000:]
    return out


@pytest.mark.long(
    "tests/integration/test_rewrite.py::test_kill_9_at_ten_moments_changes_nothing_and_repeats_next_to_nothing",
    "tests/unit/annotation/test_annotate.py",
)
def test_kill_9_at_ten_moments_changes_nothing_and_repeats_next_to_nothing(tmp_path):
    """5,000 documents; every process but the last is killed, somewhere between its start and a tenth of the work."""
    documents = [{"id": row, "text": f"document {row} " + "x" * (row % 41)} for row in range(5000)]
    corpus = write_lines(tmp_path / "corpus.jsonl", documents)
    judge = judge_file(tmp_path, SLOW_JUDGE)
    words = ("--judge", f"python:{judge}:length", "--rubric", "web-text", "--shard-rows", 250, "--format", "jsonl")
    once, often = tmp_path / "once.log", tmp_path / "often.log"
    finish(start(corpus, tmp_path / "once", *words, JUDGE_LOG=str(once)))
    assert len(once.read_text().splitlines()) == 5000

    rng, killed, out = random.Random(0), 0, tmp_path / "often"
    often.touch()
    while killed < KILLS:
        asked = often.stat().st_size
        process = start(corpus, out, *words, JUDGE_LOG=str(often))
        if rng.random() < 0.8:  # the others may be killed before they ask for anything
            while often.stat().st_size == asked and process.poll() is None:
                time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was done before it was killed ten times"
        killed += 1
    between = len(often.read_text().splitlines())
    finish(start(corpus, out, *words, JUDGE_LOG=str(often)))

    calls = Counter(often.read_text().splitlines())
    assert set(calls) == {document["text"] for document in documents}
    assert calls.total() - 5000 <= KILLS * CAPACITY
    assert 0 < between < 5000
    assert shards(out) == shards(tmp_path / "once")
    assert [row["id"] for row in read_rows(out)] == list(range(5000))
    assert not [file for file in out.iterdir() if file.name.startswith(".")]
    assert json.loads((out / "annotation.json").read_text())["levels"] == dict(
        sorted(Counter(str(1 + len(document["text"]) % 5) for document in documents).items())
    )


SOLUTIONS = ROOT.parent / "shared" / "data" / "gsm8k_model_solutions.jsonl"
RUBRIC = """
name: quality
fields: [text]
comment: why
prompt: "{text}\\n{axes}\\n{answer_format}"
axes:
  style: {asks: is it clear}
  overall: {asks: is it good}
"""

needs_data = pytest.mark.skipif(not SOLUTIONS.exists(), reason="the real data are not beside the repository")
needs_vllm = pytest.mark.skipif(not is_installed("vllm"), reason="vllm is not installed")
needs_ray = pytest.mark.skipif(not is_installed("ray"), reason="ray is not installed")


@pytest.mark.slow
@needs_data
def test_levels_of_a_programmatic_judge_separate_right_from_wrong(tmp_path):
    """Real solutions of two models, 2638 of them, against the labels they came with."""
    confusion: Counter[tuple[bool, int | None]] = Counter()
    for model in ("6b_finetuning", "175b_verification"):
        words = ("--judge", "python:examples/annotate_gsm8k.py:final_answer_is_right", "--rubric", "verifier")
        fields = ("problem=question", "reference=ground_truth", f"solution={model}.solution")
        named = [word for field in fields for word in ("--field", field)]
        finish(start(SOLUTIONS, tmp_path / model, *words, *named, "--prefix", "verifier"))
        for row in read_rows(tmp_path / model):
            confusion[row[model]["is_correct"], row["verifier_level"]] += 1
    assert confusion.total() == 2 * 1319
    wrong = confusion[True, 1] + confusion[False, 5]
    undecided = confusion[True, None] + confusion[False, None]
    assert wrong == 0, confusion
    assert undecided <= 0.005 * confusion.total(), confusion
    assert confusion[True, 5] > 500 and confusion[False, 1] > 500


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    """A folder with a tiny model of bytes that knows nothing."""
    from ixt_rl.blocks.model import NewModelBlock
    from ixt_rl.models import byte_tokenizer, new_model

    folder = tmp_path_factory.mktemp("judge")
    spec = NewModelBlock(
        hidden_size=64, heads=2, intermediate_size=128, init_std=0.2, max_positions=4096, tokenizer="bytes"
    )
    tokenizer = byte_tokenizer()
    new_model(spec, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@needs_data
@needs_vllm
def test_garbage_of_a_random_model_ends_undecided_and_is_counted(tmp_path, random_model):
    """100 real solutions judged by a model with random weights in real vLLM: nothing raises, nothing gets a level."""
    rows = [json.loads(line) for line in SOLUTIONS.read_text().splitlines()[:100]]
    corpus = write_lines(
        tmp_path / "corpus.jsonl",
        [{"problem": row["question"], "solution": row["6b_finetuning"]["solution"]} for row in rows],
    )
    words = ("--judge", f"vllm:{random_model}", "--rubric", "reasoning", "--max-tokens", 24, "--check-sample", 10)
    out = finish(start(corpus, tmp_path / "out", *words, "--judge-option", "enforce_eager=true"))
    assert "0 judged, 100 undecided, 0 skipped" in out
    found = read_rows(tmp_path / "out")
    assert all(row["feedback_level"] is None and row["feedback_status"] == "undecided" for row in found)
    assert all(row["feedback_tokens"] > 1000 for row in found)  # the question and its repair
    summary = json.loads((tmp_path / "out" / "annotation.json").read_text())
    assert sum(summary["undecided_reasons"].values()) == 100
    assert summary["spent"]["requests"] == 220  # each answer is sent back once to be repaired
    parameters = summary["judge"]["parameters"]
    assert summary["spent"]["flops"] == 2 * parameters * summary["spent"]["tokens"]
    assert summary["check"]["documents"] == 10 and summary["check"]["values"]["level"]["both"] == 0
    assert "Nothing was decided" in (tmp_path / "out" / "annotation.html").read_text()


@pytest.mark.slow
def test_transformers_judge_in_the_process(tmp_path, random_model):
    """Sampled, with two votes: garbage too, and a job that is done again from the cache has the same bytes."""
    corpus, rubric = write_lines(tmp_path / "corpus.jsonl", [{"text": f"t{n}"} for n in range(5)]), tmp_path / "q.yaml"
    rubric.write_text(RUBRIC)
    job = make_job(
        tmp_path,
        rubric=load_rubric(rubric),
        judge=parse_judge(f"hf:{random_model}", {"batch_size": 4}),
        sampling=SamplingParams(8, temperature=1.0, seed=3),
        repeats=2,
        shard_rows=2,
    )
    first = annotate(job, SourceSpec(str(corpus)), tmp_path / "out")
    assert first["undecided"] == 5 and first["spent"]["requests"] == 20
    before = shards(tmp_path / "out")
    (tmp_path / "out" / "part-000001.jsonl").unlink()
    assert annotate(job, SourceSpec(str(corpus)), tmp_path / "out")["spent"]["requests"] == 20
    assert shards(tmp_path / "out") == before


@pytest.mark.long(
    "tests/integration/test_annotate.py::test_on_ray_data_errors_and_work_come_back",
    "tests/integration/test_annotate.py::test_garbage_of_a_random_model_ends_undecided_and_is_counted",
)
@needs_vllm
@needs_ray
def test_on_ray_data_the_output_is_the_same(tmp_path, random_model):
    """Greedy, in vLLM: in the command's own process, and in an actor of Ray Data."""
    documents = [{"text": f"document {row} " + "word " * (row % 7)} for row in range(24)]
    corpus, rubric = write_lines(tmp_path / "corpus.jsonl", documents), tmp_path / "quality.yaml"
    rubric.write_text(RUBRIC)
    words = ("--judge", f"vllm:{random_model}", "--rubric", rubric, "--max-tokens", 16, "--shard-rows", 6)
    words = (*words, "--judge-option", "enforce_eager=true", "--judge-option", "dtype=float32")
    finish(start(corpus, tmp_path / "local", *words))
    finish(start(corpus, tmp_path / "ray", *words, "--engine", "ray"))
    assert len(read_rows(tmp_path / "ray")) == 24
    assert shards(tmp_path / "ray") == shards(tmp_path / "local")
    assert json.loads((tmp_path / "ray" / "annotation.json").read_text())["spent"]["requests"] == 48


def _refuse(judge, sampling):
    """What an actor is built with, when that raises."""
    judge.check(sampling)


@pytest.mark.slow
@needs_ray
def test_on_ray_data_errors_and_work_come_back(tmp_path):
    """Functions in an actor; a session in this process goes on in Ray, and an error of the library stays itself."""
    documents = [{"id": row, "text": f"document {row}"} for row in range(60)]
    spec = SourceSpec(str(write_lines(tmp_path / "corpus.jsonl", documents)))
    job = make_job(tmp_path)
    annotate(job, spec, tmp_path / "local")
    for number in (1, 2, 4):
        (tmp_path / "local" / f"part-{number:06d}.jsonl").unlink()
    passages_spec = SourceSpec(str(write_lines(tmp_path / "passages.jsonl", passages(60))))
    rewriting = make_rewriting(tmp_path, format="parquet", shard_rows=25)
    with ray_session(None, 1, 1, 0):  # one Ray for all of this
        summary = annotate(job, spec, tmp_path / "local", ray=RaySettings(), check_sample=5)
        rewritings = [tmp_path / "rewritten", tmp_path / "rewritten with Ray"]
        for out, ray in zip(rewritings, (None, RaySettings()), strict=True):
            rewrite(rewriting, passages_spec, out, ray=ray)
        broken = replace(job.judge, options={"no": "such option"})
        with pytest.raises(ConfigError, match="judge option 'no'"):
            list(map_on_actors(_refuse, (broken, job.sampling), [{}]))
    assert [row["id"] for row in read_rows(tmp_path / "local")] == list(range(60))
    assert summary["check"]["documents"] == 5 and summary["check"]["values"]["level"]["same"] == 1
    assert summary["spent"]["requests"] == 65 and summary["spent"]["sessions"] == 2
    assert len(shards(rewritings[0])) == 3 and shards(rewritings[1]) == shards(rewritings[0])
