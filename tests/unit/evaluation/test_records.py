"""Records of an evaluation: what they hold, that they survive kills at any moment, and what follows from them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.records import folder as folders
from ixt_rl.evaluation.records.folder import CHUNKS, RECORDS, RESULTS, EvaluationFolder, read_records
from ixt_rl.evaluation.records.job import AskedSuite, EngineFacts, evaluate_suites
from ixt_rl.evaluation.records.questions import AskedSampling, suite_questions
from ixt_rl.evaluation.records.record import Record, question_seed
from ixt_rl.evaluation.records.regrade import regrade
from ixt_rl.evaluation.records.results import results_of, verdict_table
from ixt_rl.evaluation.suites import Graded
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.rollout import TransformersEngine
from ixt_rl.suites import load_preset, load_suite
from ixt_rl.types import SamplingParams

FACTS = EngineFacts("transformers", "5.15.0", "float32")
QUESTIONS, SAMPLES, PER_CHUNK = 7, 3, 2


def grade(rows, texts):
    """Right from as many words as the gold says; none is no answer, one is undecided."""
    found = []
    for row, text in zip(rows, texts, strict=True):
        words = len(text.split())
        verdict = "undecided" if words == 1 else "right" if words >= int(row["answer"]) else "wrong"
        found.append(
            Graded(verdict, "counted" if words != 1 else "too short: one word", text.split()[0] if words else None)
        )
    return found


def suite(name="toy", questions=QUESTIONS, grader=grade, temperature=1.0, **changes):
    prompts = [[2 + (at + step) % 9 for step in range(3 + at % 3)] for at in range(questions)]
    rows = [
        {
            "id": f"q{at}",
            "question": f"question {at}",
            "answer": str(2 + at),
            "cluster": "even" if at % 2 == 0 else None,
            "fields": {},
        }
        for at in range(questions)
    ]
    given = {
        "name": name,
        "rows": rows,
        "prompts": prompts,
        "sampling": SamplingParams(8, temperature, seed=5),
        "samples": SAMPLES if temperature else 1,
        "grade": grader,
        "per_chunk": PER_CHUNK,
    }
    return AskedSuite(**{**given, **changes})


def settings(*suites, **changes):
    asked = {
        one.name: {"questions": len(one.rows), "of": 100, "sampling": {"samples": one.samples}, "notes": ["a note"]}
        for one in suites
    }
    engine = {"type": "transformers", "version": "5.15.0", "dtype": "float32", "batch_size": 4}
    made = {
        "model": {"name": "tiny", "path": "tiny", "files": {"model.safetensors": "ab"}},
        "preset": {"name": "paper"},
    }
    return {**made, "suites": asked, "seed": 5, "limit": None, "engine": engine, "started": "now", **changes}


@pytest.fixture(scope="module")
def model(tokenizer):
    return new_model(NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, init_std=0.2), tokenizer).eval()


@pytest.fixture(scope="module")
def sampler(model, tokenizer):
    """Evaluates into a folder; `engine.calls` counts what was generated in chunks."""

    class Counting(TransformersEngine):
        calls = 0

        def generate(self, *args, **kwargs):
            type(self).calls += 1
            return super().generate(*args, **kwargs)

    def run(path, *suites, opened=None, watch=lambda state: None, **changes):
        suites = suites or (suite(), suite("other", 3))
        engine = opened or (lambda: Counting(model, (0,), 1, 4, tokenizer))
        return evaluate_suites(
            EvaluationFolder(path), settings(*suites, **changes), suites, engine, FACTS, tokenizer, watch
        )

    run.engine = Counting
    return run


@pytest.fixture(scope="module")
def undisturbed(sampler, tmp_path_factory):
    """The folder of an evaluation that nothing stopped."""
    path = tmp_path_factory.mktemp("undisturbed")
    sampler(path)
    return path


@pytest.fixture
def straight(sampler, undisturbed, tmp_path):
    """The bytes of its records; `tmp_path / "straight"` is a copy of the folder."""
    shutil.copytree(undisturbed, tmp_path / "straight")
    sampler.engine.calls = 0
    return (undisturbed / RECORDS).read_bytes()


def test_records_are_all_samples_in_order_of_suite_question_and_sample(sampler, tmp_path, tokenizer):
    states = []
    found = sampler(tmp_path, watch=states.append)
    records = read_records(tmp_path)
    expected = [("toy", f"q{q}", q, k) for q in range(7) for k in range(3)]
    expected += [("other", f"q{q}", q, k) for q in range(3) for k in range(3)]
    assert [(r.suite, r.id, r.index, r.sample) for r in records] == expected
    asked = suite()
    for record in records[:21]:
        ids = asked.prompts[record.index]
        assert record.prompt_hash == hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()[:16]
        assert (record.prompt_tokens, record.length) == (len(ids), len(record.ids))
        assert record.seed == question_seed(5, "toy", record.id) + record.sample
        assert record.text == tokenizer.decode(record.ids, skip_special_tokens=True)
        assert record.truncated == (record.finish_reason == "length") == (0 not in record.ids)
        row, [again] = asked.rows[record.index], grade([asked.rows[record.index]], [record.text])
        assert (record.verdict, record.why, record.extracted) == (again.verdict, again.why, again.extracted)
        assert (record.gold, record.question, record.cluster) == (row["answer"], row["question"], row["cluster"])
        assert (record.engine, record.engine_version, record.dtype) == ("transformers", "5.15.0", "float32")
    assert found["complete"] and found == json.loads((tmp_path / RESULTS).read_text())
    assert (states[0].done, states[-1].done, states[-1].total) == (0, 30, 30)
    chunks = [json.loads(line) for line in (tmp_path / CHUNKS).read_text().splitlines()]
    assert [chunk["questions"] for chunk in chunks] == [2, 2, 2, 1, 2, 1]
    assert sum(chunk["completion_tokens"] for chunk in chunks) == sum(record.length for record in records)


def test_what_a_question_gets_depends_on_neither_chunks_nor_other_questions(sampler, tmp_path):
    sampler(tmp_path / "a", suite())
    sampler(tmp_path / "b", suite(per_chunk=100))
    few = suite(questions=4)
    sampler(tmp_path / "c", few)
    whole = read_records(tmp_path / "a")
    assert read_records(tmp_path / "b") == whole
    assert read_records(tmp_path / "c") == whole[:12]
    assert len({record.ids for record in whole}) > 15, "samples differ"


def test_greedy_answers_have_no_seed(sampler, tmp_path):
    sampler(tmp_path, suite(temperature=0.0))
    assert [(r.seed, r.sample) for r in read_records(tmp_path)] == [(None, 0)] * QUESTIONS


class Killed(BaseException):
    """What takes the process away: nothing that the job runs after it counts."""


def killed_in_engine(path, sampler, monkeypatch):
    real = sampler.engine.generate

    def generate(self, *args, **kwargs):
        if type(self).calls == 2:
            raise Killed
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(sampler.engine, "generate", generate)
        with pytest.raises(Killed):
            sampler(path)
    assert len(read_records(path)) == 12


def killed_in_grading(path, sampler, monkeypatch):
    def falls(rows, texts):
        if rows[0]["id"] == "q4":
            raise Killed
        return grade(rows, texts)

    with pytest.raises(Killed):
        sampler(path, suite(grader=falls), suite("other", 3))
    assert len(read_records(path)) == 12


def killed_between_records_and_counts(path, sampler, monkeypatch):
    real = folders.append_rows

    def append(file, rows, **kwargs):
        if file.name == CHUNKS and sampler.engine.calls == 2:
            raise Killed
        real(file, rows, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "append_rows", append)
        with pytest.raises(Killed):
            sampler(path)
    assert len(read_records(path)) == 12


def killed_while_writing(path, sampler, monkeypatch):
    """As the system leaves it: whole records of a chunk, and half a line."""
    sampler(path)
    lines = (path / RECORDS).read_bytes().splitlines(keepends=True)
    (path / RECORDS).write_bytes(b"".join(lines[:14]) + lines[14][:77])
    (path / RESULTS).unlink()


def killed_before_anything_was_sampled(path, sampler, monkeypatch):
    with pytest.raises(Killed):
        sampler(path, opened=lambda: (_ for _ in ()).throw(Killed))
    assert not (path / RECORDS).exists()


def killed_before_results(path, sampler, monkeypatch):
    sampler(path)
    (path / RESULTS).unlink()


@pytest.mark.parametrize(
    ("kill", "chunks_left"),
    [
        (killed_before_anything_was_sampled, 6),
        (killed_in_engine, 4),
        (killed_in_grading, 4),
        (killed_between_records_and_counts, 4),
        (killed_while_writing, 4),
        (killed_before_results, 0),
    ],
)
def test_an_evaluation_killed_anywhere_ends_with_the_same_records(
    kill, chunks_left, sampler, straight, tmp_path, monkeypatch
):
    path = tmp_path / "killed"
    kill(path, sampler, monkeypatch)
    sampler.engine.calls = 0
    results = sampler(path)
    assert (path / RECORDS).read_bytes() == straight
    assert sampler.engine.calls == chunks_left
    same = results_of(EvaluationFolder(tmp_path / "straight"))
    assert [results["suites"][name]["metrics"] for name in results["suites"]] == [
        same["suites"][name]["metrics"] for name in same["suites"]
    ]


def test_a_finished_evaluation_opens_no_engine(sampler, straight, tmp_path):
    sampler(tmp_path / "straight", opened=lambda: pytest.fail("opened"))
    assert (tmp_path / "straight" / RECORDS).read_bytes() == straight


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 6}, "seed: 5 there, 6 now"),
        ({"preset": {"name": "cot"}}, 'preset.name: "paper" there, "cot" now'),
        (
            {"model": {"name": "tiny", "path": "tiny", "files": {"model.safetensors": "cd"}}},
            "model.files.model.safetensors",
        ),
    ],
)
def test_another_evaluation_in_the_folder_is_refused_by_its_key(change, named, sampler, straight, tmp_path):
    with pytest.raises(ConfigError, match="another evaluation") as refused:
        sampler(tmp_path / "straight", **change)
    assert named in refused.value.reason
    assert (tmp_path / "straight" / RECORDS).read_bytes() == straight


def test_settings_of_an_evaluation_without_a_record_give_way(sampler, tmp_path):
    with pytest.raises(Killed):
        sampler(tmp_path, opened=lambda: (_ for _ in ()).throw(Killed), seed=6)
    sampler(tmp_path, seed=5)
    assert json.loads((tmp_path / "evaluation.json").read_text())["seed"] == 5


def test_a_moved_model_and_a_newer_engine_go_on(sampler, straight, tmp_path):
    engine = {"type": "transformers", "version": "6", "dtype": "float32", "batch_size": 4}
    model = {"name": "moved", "path": "/elsewhere", "files": {"model.safetensors": "ab"}}
    sampler(tmp_path / "straight", engine=engine, model=model, started="later")


def test_records_of_other_questions_are_refused(sampler, tmp_path):
    sampler(tmp_path, suite())
    changed = suite()
    changed.prompts[1].append(3)
    with pytest.raises(DataError, match="line 4: sample 0 of q1"):
        sampler(tmp_path, suite(prompts=changed.prompts))


def test_a_damaged_line_before_others_is_refused(sampler, straight, tmp_path):
    file = tmp_path / "straight" / RECORDS
    lines = straight.splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:3], lines[3][:40] + b"\n", *lines[4:]]))
    with pytest.raises(DataError, match="line 4"):
        sampler(tmp_path / "straight")
    with pytest.raises(DataError, match="line 4"):
        read_records(tmp_path / "straight")


def test_one_process_at_a_time(sampler, tmp_path):
    with (
        EvaluationFolder(tmp_path).locked("evaluating into it"),
        pytest.raises(ConfigError, match=f"pid {os.getpid()}"),
    ):
        sampler(tmp_path)


def test_questions_with_one_id_are_refused():
    with pytest.raises(DataError, match="'q0'"):
        suite(rows=[{**row, "id": "q0"} for row in suite().rows])


def record(**changes):
    given = {
        "suite": "s", "id": "q", "index": 0, "cluster": None, "sample": 0, "prompt_hash": "00", "prompt_tokens": 1,
        "seed": 1, "ids": (1, 2), "text": "a", "length": 2, "truncated": False, "finish_reason": "eos",
        "extracted": "a", "verdict": "right", "why": "equal", "engine": "e", "engine_version": "1", "dtype": "float32",
        "gold": "a", "question": "?",
    }  # fmt: skip
    return Record(**{**given, **changes})


def test_a_verdict_table_has_a_row_a_question():
    of_a = [record(id="a", cluster="c"), record(id="a", cluster="c", sample=1, verdict="undecided", truncated=True)]
    of_b = [record(id="b", verdict="wrong", extracted=None), record(id="b", sample=1)]
    stopped = [record(id="d", sample=0)]
    table = verdict_table([*of_a, *of_b, *stopped, record(suite="t")])["s"]
    np.testing.assert_array_equal(table.scores, [[1, np.nan], [0, 1]])
    np.testing.assert_array_equal(table.truncated, [[False, True], [False, False]])
    assert (list(table.ids), table.extracted) == (["a", "b"], [["a", "a"], [None, "a"]])
    assert table.clusters == ["c", "question b"]
    assert verdict_table(of_b)["s"].clusters is None


def test_results_show_every_metric_beside_what_it_leaves_out(tmp_path):
    folder = EvaluationFolder(tmp_path)
    asked = suite(questions=2, samples=2)
    folder.begin(settings(asked))
    right = record(suite="toy", id="q0")
    records = [
        right,
        replace(right, sample=1, verdict="wrong", truncated=True, extracted=None, length=4),
        replace(right, id="q1", index=1, verdict="undecided", why="timeout: 1/x"),
        replace(right, id="q1", index=1, sample=1, verdict="undecided", why="bad gold: empty"),
    ]
    folder.append(records, {"suite": "toy", "seconds": 2.0, "prompt_tokens": 4, "completion_tokens": 10})
    found = results_of(folder)
    toy = found["suites"]["toy"]
    assert toy["metrics"]["avg@2"]["left_out"]["value"] == 0.5
    assert toy["metrics"]["avg@2"]["as_wrong"]["value"] == 0.25
    assert next(iter(toy["metrics"])) == "avg@2"
    assert toy["shares"] == {"undecided": 0.5, "truncated": 0.25, "unextracted": 0.25}
    assert toy["undecided_by_reason"] == {"timeout": 1, "bad gold": 1}
    assert toy["tokens"] == {"mean": 2.5, "most": 4}
    assert toy["spent"] == {"seconds": 2.0, "prompt_tokens": 4, "completion_tokens": 10}
    assert (toy["of"], toy["notes"], found["complete"]) == (100, ["a note"], True)


def test_verdicts_are_made_anew_from_texts_alone(sampler, straight, tmp_path):
    folder = EvaluationFolder(tmp_path / "straight")
    before = read_records(folder.path)
    same = regrade(folder, lambda name: grade)
    assert (folder.path / RECORDS).read_bytes() == straight
    assert sum(count for counts in same.values() for (was, now), count in counts.items() if was != now) == 0

    changes = regrade(folder, lambda name: lambda rows, texts: [Graded("wrong", "strict", None) for _ in rows])
    after = read_records(folder.path)
    assert {(one.verdict, one.why, one.extracted) for one in after} == {("wrong", "strict", None)}
    kept = [replace(one, verdict="wrong", why="", extracted=None) for one in before]
    assert [replace(one, why="") for one in after] == kept
    right = sum(one.verdict == "right" for one in before if one.suite == "toy")
    assert changes["toy"][("right", "wrong")] == right > 0


def test_a_preset_of_chats_needs_a_chat_template(tmp_path):
    file = tmp_path / "sums.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": "2"}\n')
    for preset, refused in (("qwen-boxed", True), ("paper", False)):
        (one,) = suite_questions([load_suite(file)], load_preset(preset), None, None, AskedSampling())
        if refused:
            with pytest.raises(ConfigError, match=r"preset qwen-boxed with a model without a chat template"):
                one.asked(byte_tokenizer(), 1)
        else:
            assert one.asked(byte_tokenizer(), 1).prompts
