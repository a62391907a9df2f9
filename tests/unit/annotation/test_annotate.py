"""A whole annotation with a function as its judge: columns, order, duplicates, samples, going on, refusals."""

from __future__ import annotations

import fcntl
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ixt_rl.corpus.annotate.annotate import annotate
from ixt_rl.corpus.annotate.job import content_share
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.corpus.terminal import remarks
from ixt_rl.data.feedback_columns import read_feedback
from ixt_rl.errors import BackendFailed, ConfigError, DataError
from ixt_rl.judging import load_rubric
from ixt_rl.judging.opening import parse_judge
from ixt_rl.types import Feedback, SamplingParams
from tests.unit.annotation.helpers import corpus, judge_file, make_job, read_rows, shards, write_lines
from tests.unit.judging.server import completion, serve


@pytest.fixture
def calls(tmp_path, monkeypatch):
    log = tmp_path / "calls"
    log.touch()
    monkeypatch.setenv("JUDGE_LOG", str(log))
    return lambda: log.read_text().splitlines()


def source(tmp_path, rows):
    return SourceSpec(str(write_lines(tmp_path / "corpus.jsonl", rows)))


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_rows_come_out_in_order_with_their_feedback(tmp_path, calls, format):
    rows = [*corpus(43), {"id": 43, "text": "raise", "more": {"deep": [1, None]}}, {"id": 44, "text": None}]
    summary = annotate(make_job(tmp_path, format=format), source(tmp_path, rows), tmp_path / "out")
    found = read_rows(tmp_path / "out")
    assert [row["id"] for row in found] == list(range(45))
    for row in found[:43]:
        length = len(row["text"])
        feedback = read_feedback(row)
        assert row["feedback_judge"].startswith("judge.py:length ")
        if length % 7 == 0:
            assert row["feedback_status"] == "undecided" and row["feedback_level"] is None
            assert row["feedback_reason"] == "not a number: None"
            assert feedback == Feedback(None, {"writing_style": 2.0}, "", row["feedback_judge"])
            continue
        score = 1 + length % 5
        assert row["feedback_status"] == "judged" and row["feedback_reason"] == ""
        scores = {"writing_style": score, "expertise": 6 - score, "educational_value": 3}
        assert feedback == Feedback(score, scores, f"of length {length}", row["feedback_judge"])
        assert row["feedback_scores"]["efficiency"] is None  # never a silent 0
    assert found[43]["more"] == {"deep": [1, None]}
    assert found[43]["feedback_reason"].startswith("failed: judge.py:length ")
    assert (found[44]["feedback_status"], found[44]["feedback_reason"]) == ("skipped", "no text")
    assert found[44]["feedback_scores"] is None and read_feedback(found[44]) is None
    assert sorted(calls()) == sorted({row["text"] for row in rows if row["text"]})  # equal documents are asked once
    assert [file.name for file in sorted((tmp_path / "out").glob("part-*"))] == [
        f"part-{n:06d}.{format}" for n in range(5)
    ]
    undecided = sum(len(row["text"]) % 7 == 0 for row in rows[:43]) + 1
    assert (summary["rows"], summary["undecided"], summary["skipped"]) == (45, undecided, 1)
    assert summary["spent"]["cached"] == 43 - len({row["text"] for row in rows[:43]})


def test_a_fraction_is_chosen_by_content(tmp_path, calls):
    rows = corpus(300)
    job = make_job(tmp_path, fraction=0.3)
    summary = annotate(job, source(tmp_path, rows), tmp_path / "out")
    chosen = {row["text"] for row in rows if content_share({"text": row["text"]}) < 0.3}
    assert 0.2 < len(chosen) / len({row["text"] for row in rows}) < 0.4
    assert set(calls()) == chosen
    for row in read_rows(tmp_path / "out"):
        assert (row["feedback_status"] == "skipped") == (row["text"] not in chosen)
    assert summary["skipped_reasons"] == {"outside the fraction": summary["skipped"]}
    more = make_job(tmp_path, fraction=0.6, cache=tmp_path / "out" / "job" / "cache.sqlite")
    before = len(calls())
    annotate(more, source(tmp_path, rows), tmp_path / "out 2")
    assert not chosen & set(calls()[before:])  # a larger share has the smaller one in it, and finds its replies


def test_finished_work_is_kept_and_missing_shards_are_made_again(tmp_path, calls):
    spec, out = source(tmp_path, corpus(50)), tmp_path / "out"
    job = make_job(tmp_path, format="parquet")
    annotate(job, spec, out)
    whole, asked = shards(out), len(calls())
    (out / "part-000002.parquet").unlink()
    (out / ".part-000002.parquet.1.tmp").write_text("half")
    annotate(job, spec, out)
    assert shards(out) == whole and len(calls()) == asked  # the cache knew
    assert not list(out.glob(".part*"))
    (out / "job" / "cache.sqlite").unlink()
    (out / "part-000004.parquet").unlink()
    annotate(job, spec, out)
    assert shards(out) == whole and asked < len(calls()) <= asked + 10


def test_two_judges_stand_side_by_side(tmp_path):
    annotate(make_job(tmp_path, format="parquet"), source(tmp_path, corpus(20)), tmp_path / "one")
    job = make_job(tmp_path, format="parquet", prefix="late")
    annotate(job, SourceSpec(str(tmp_path / "one")), tmp_path / "two")
    rows = read_rows(tmp_path / "two")
    assert len(rows) == 20
    assert all(row["late_level"] == row["feedback_level"] for row in rows)
    with pytest.raises(DataError, match="have a column 'late_level' already"):
        annotate(job, SourceSpec(str(tmp_path / "two")), tmp_path / "three")


def test_every_kind_of_input_gives_the_same_feedback(tmp_path):
    rows = corpus(25)
    (tmp_path / "data").mkdir()
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.slice(0, 12), tmp_path / "data" / "a.parquet", row_group_size=5)
    pq.write_table(table.slice(12), tmp_path / "data" / "b.parquet")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    pq.write_table(table, tmp_path / "hub" / "data" / "train-00000.parquet")
    job = make_job(tmp_path)
    annotate(job, source(tmp_path, rows), tmp_path / "lines")
    for name, path in (("folder", "data"), ("pattern", "data/*.parquet"), ("hub", "hub")):
        annotate(job, SourceSpec(str(tmp_path / path)), tmp_path / name)
        assert read_rows(tmp_path / name) == read_rows(tmp_path / "lines"), name


def test_arrow_types_survive(tmp_path):
    table = pa.table(
        {
            "text": pa.array(["a", "bb"], pa.large_string()),
            "at": pa.array([1, 2], pa.timestamp("ns")),
            "raw": pa.array([b"\xff", None]),
            "n": pa.array([1, None], pa.int8()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    annotate(make_job(tmp_path, format="parquet"), SourceSpec(str(tmp_path / "t.parquet")), tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "part-000000.parquet").select(table.column_names).equals(table)
    with pytest.raises(DataError, match=r"'raw'[\s\S]*--format parquet"):
        annotate(make_job(tmp_path), SourceSpec(str(tmp_path / "t.parquet")), tmp_path / "lines")


def test_fields_are_mapped_and_entries_reached(tmp_path):
    judge = judge_file(tmp_path, "def same(fields):\n    return fields['solution'].strip() == fields['reference']\n")
    rows = [{"q": "1+1", "model": {"says": "2 "}, "gold": 2}, {"q": "1+2", "model": {"says": "4"}, "gold": 3}]
    job = make_job(
        tmp_path,
        rubric=load_rubric("verifier"),
        judge=parse_judge(f"python:{judge}:same", {}),
        fields={"problem": "q", "solution": "model.says", "reference": "gold"},
        format="parquet",
    )
    annotate(job, source(tmp_path, rows), tmp_path / "out")
    found = read_rows(tmp_path / "out")
    assert [row["feedback_level"] for row in found] == [5, 1]
    assert [row["feedback_scores"] for row in found] == [None, None]  # no axis but the verdict
    assert [row["model"] for row in found] == [{"says": "2 "}, {"says": "4"}]


def test_a_field_that_is_sometimes_there_is_optional(tmp_path):
    judge = judge_file(tmp_path, "def known(fields):\n    return {'overall': 5 if 'reference' in fields else 1}\n")
    rows = [{"problem": "p", "solution": "s"}, {"problem": "p", "solution": "s", "reference": "r"}]
    job = make_job(tmp_path, rubric=load_rubric("reasoning"), judge=parse_judge(f"python:{judge}:known", {}))
    annotate(job, source(tmp_path, rows), tmp_path / "out")
    assert [row["feedback_level"] for row in read_rows(tmp_path / "out")] == [1, 5]


def test_text_that_no_file_takes(tmp_path):
    file = tmp_path / "corpus.jsonl"
    file.write_bytes(b'{"text": "lone \\ud800 surrogate"}\n\n{"text": "nul \\u0000, \xc3\xa9, \\ud83d\\ude00"}\r\n')
    for format in ("jsonl", "parquet"):
        annotate(make_job(tmp_path, format=format), SourceSpec(str(file)), tmp_path / format)
        texts = [row["text"] for row in read_rows(tmp_path / format)]
        assert texts == ["lone ? surrogate", "nul \0, é, 😀"]


def test_another_job_in_the_same_folder_is_refused(tmp_path):
    spec, out = source(tmp_path, corpus(20)), tmp_path / "out"
    job = make_job(tmp_path)
    annotate(job, spec, out)
    before = shards(out)
    for changed, said in (
        (replace(job, fraction=0.5), "fraction: 1.0 there, 0.5 now"),
        (replace(job, sampling=SamplingParams(65, temperature=0.0)), "sampling.max_new_tokens: 64 there, 65 now"),
        (replace(job, rubric=load_rubric("safety"), fields={"prefix": "text"}), "rubric.name"),
        (replace(job, prefix="late"), 'prefix: "feedback" there, "late" now'),
        (replace(job, shard_rows=7), "shard_rows: 10 there, 7 now"),
        (replace(job, fields={"text": "id"}), 'fields.text: "text" there, "id" now'),
    ):
        with pytest.raises(ConfigError, match="holds another job") as refused:
            annotate(changed, spec, out)
        assert said in str(refused.value)
    (tmp_path / "judge.py").write_text("def length(fields):\n    return 3\n")
    with pytest.raises(ConfigError, match=r"judge\.name: .*judge\.py:length"):
        annotate(job, spec, out)
    judge_file(tmp_path)
    source(tmp_path, corpus(21))
    with pytest.raises(ConfigError, match=r"input\.files\.0\.rows: 20 there, 21 now"):
        annotate(job, spec, out)
    source(tmp_path, corpus(20))  # written again, with the same content
    annotate(job, spec, out)
    assert shards(out) == before


def test_one_process_at_a_time(tmp_path):
    spec, out = source(tmp_path, corpus(5)), tmp_path / "out"
    (out / "job").mkdir(parents=True)
    with (out / "job" / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process is annotating"):
            annotate(make_job(tmp_path), spec, out)
    annotate(make_job(tmp_path), spec, out)


@pytest.mark.parametrize(
    ("rows", "changes", "said"),
    [
        ([{"body": "a"}], {}, r"no column 'text'[\s\S]*columns are body[\s\S]*--field text=COLUMN"),
        ([{"text": ["a"]}], {}, r"row 0: 'text'[\s\S]*holds a list"),
        ([{"text": None}], {}, "null in all 1 rows"),
        ([{"text": "a"}], {"fields": {"txt": "text"}}, r"no field 'txt'[\s\S]*did you mean `text`"),
        ([{"text": "a"}], {"fields": {"text": "txt"}}, r"no column 'txt'[\s\S]*did you mean `text`"),
        ([{"text": "a", "x": 1}, {"text": "a", "x": "b"}], {"format": "parquet"}, r"--format jsonl"),
        ([{"text": "a", "x": {}}], {"format": "parquet"}, r"'x' holds only empty objects"),
        ([], {}, "has no rows"),
    ],
)
def test_rows_that_cannot_be_judged_are_refused(tmp_path, calls, rows, changes, said):
    with pytest.raises(DataError, match=said):
        annotate(make_job(tmp_path, **changes), source(tmp_path, rows), tmp_path / "out")
    assert calls() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"text": "a"}\n{"text": \n', r"line 2: [\s\S]*not JSON"),
        (b'["a"]\n', r"line 1: [\s\S]*list, not an object"),
        (b'{"text": "\xff"}\n', r"line 1: [\s\S]*not JSON"),
    ],
)
def test_lines_that_are_no_rows_are_named(tmp_path, content, said):
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=said):
        annotate(make_job(tmp_path), SourceSpec(str(tmp_path / "bad.jsonl")), tmp_path / "out")


def test_inputs_that_cannot_be_read_are_refused(tmp_path):
    job = make_job(tmp_path)
    (tmp_path / "no.parquet").write_text("no")
    (tmp_path / "x.txt").write_text("no")
    for path, said in (
        ("none.jsonl", "no file"), ("no.parquet", "it is not Parquet"), ("x.txt", "its kind is not known"),
        ("*.csv", "no file"), ("no/such set", "cannot load it"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=said):
            annotate(job, SourceSpec(str(tmp_path / path)), tmp_path / "out")


@pytest.mark.parametrize(
    ("judge", "options", "said"),
    [
        ("python:none.py:f", {}, "no file 'none.py'"),
        ("python:{folder}/judge.py:lenght", {}, "did you mean `length`"),
        ("python:{folder}/judge.py", {}, "python:FILE.py:FUNCTION"),
        ("python:{folder}/broken.py:f", {}, "raised ZeroDivisionError"),
        ("python:{folder}/two.py:f", {}, r"f\(text, reference\) cannot be called with \(fields\)"),
        ("python:{folder}/two.py:g", {}, "it is async"),
        ("gpt:4", {}, "openai:MODEL"),
        ("openai:m", {}, "without a key"),
        ("openai:m", {"concurency": 3}, "did you mean `concurrency`"),
        ("openai:m", {"concurrency": "many"}, "it is str, not int"),
        ("vllm:{folder}", {"max_model_len": "8k"}, "it is str, not int"),
        ("vllm:{folder}", {}, "no folder with a config.json"),
        ("hf:{folder}/none", {}, "no folder with a config.json"),
    ],
)
def test_judges_that_cannot_be_asked_are_refused(tmp_path, monkeypatch, judge, options, said):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "two.py").write_text("def f(text, reference):\n    return 1\n\n\nasync def g(fields):\n    return 1\n")
    with pytest.raises(ConfigError, match=said):
        job = make_job(tmp_path, judge=parse_judge(judge.format(folder=tmp_path), options))
        judge_file(tmp_path)
        annotate(job, source(tmp_path, corpus(3)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"fraction": 0.0}, {"fraction": 1.5}, {"repeats": 0}, {"prefix": "a b"}])
def test_settings_that_cannot_work_are_refused(tmp_path, change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        make_job(tmp_path, **change)


def test_the_session_is_counted(tmp_path):
    annotate(make_job(tmp_path), source(tmp_path, corpus(20)), tmp_path / "out")
    session = json.loads((tmp_path / "out" / "job" / "sessions" / "000.json").read_text())
    assert session["documents"] == 20
    assert session["spent"]["requests"] == 16 and session["spent"]["cached"] == 4


def test_an_endpoint_is_asked_and_paid(tmp_path):
    with serve(lambda body, number: '{"critique": "fine", "overall": 4}') as served:
        judge = parse_judge("openai:judge-1", {"concurrency": 4}, served.base_url, parameters=1000)
        job = make_job(tmp_path, judge=judge, prices=(10.0, 50.0))
        spent = annotate(job, source(tmp_path, corpus(20)), tmp_path / "out")["spent"]
    rows = read_rows(tmp_path / "out")
    assert [row["feedback_level"] for row in rows] == [4] * 20
    assert all(row["feedback_judge"] == "judge-1, constrained" and row["feedback_tokens"] >= 120 for row in rows)
    assert spent["tokens"] == 120 * spent["requests"] and spent["flops"] == 2 * 1000 * spent["tokens"]
    assert spent["cost"] == pytest.approx(spent["requests"] * (10 * 100 + 50 * 20) / 1e6)


def test_a_judge_that_is_down_stops_the_job_and_its_replies_are_kept(tmp_path):
    """From request 50 on every answer is an error: the job stops; when the endpoint is back, all get their level."""
    down = [True]

    def respond(body, number):
        return (500, {"error": "down"}, {}) if down[0] and number >= 50 else '{"overall": 3}'

    with serve(respond) as served:
        judge = parse_judge("openai:judge-1", {"concurrency": 4, "retries": 0, "constrain": False}, served.base_url)
        job, spec = make_job(tmp_path, judge=judge), source(tmp_path, [{"text": f"t{n}"} for n in range(200)])
        with pytest.raises(BackendFailed, match="100 requests failed in a row"):
            annotate(job, spec, tmp_path / "out")
        assert 0 < len(shards(tmp_path / "out")) < 20
        down[0] = False
        summary = annotate(job, spec, tmp_path / "out")
        assert summary["judged"] + summary["undecided_reasons"]["failed"] == 200
        summary = annotate(job, spec, tmp_path / "out", retry_failed=True)
    assert summary["judged"] == 200
    assert [row["feedback_level"] for row in read_rows(tmp_path / "out")] == [3] * 200


def test_what_a_server_does_not_count_or_take_is_told(tmp_path):
    def respond(body, number):
        if "temperature" in body:
            return 400, {"error": {"message": "temperature is not supported", "param": "temperature"}}, {}
        reply = completion('{"overall": 3}')
        if number % 2:
            del reply["usage"]
        return 200, reply, {}

    with serve(respond) as served:
        judge = parse_judge("openai:judge-1", {"concurrency": 1}, served.base_url)
        job, spec = make_job(tmp_path, judge=judge), source(tmp_path, [{"text": f"t{n}"} for n in range(20)])
        spent = annotate(job, spec, tmp_path / "out")["spent"]
        assert annotate(job, spec, tmp_path / "out")["spent"]["notes"] == spent["notes"]  # kept, though none was asked
    assert 0 < spent["uncounted"] < spent["requests"]
    assert spent["tokens"] == 120 * (spent["requests"] - spent["uncounted"])
    assert len(spent["notes"]) == 1 and spent["notes"][0].startswith("temperature is left out")
    page = (tmp_path / "out" / "annotation.html").read_text()
    assert "temperature is left out" in page and "uncounted" in page
    assert remarks(spent).count("note: ") == 2 and "answers came without token counts" in remarks(spent)
