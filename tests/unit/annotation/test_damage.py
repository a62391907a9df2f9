"""What happens to a job's folder and input between two commands: cut and foreign files, edits that hide."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ixt_rl.corpus.annotate.annotate import annotate
from ixt_rl.corpus.job_folder import Folder
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging.fingerprints import hash_model
from ixt_rl.judging.opening import parse_judge
from tests.unit.annotation.helpers import corpus, judge_file, make_job, shards, write_lines


@pytest.fixture
def source(tmp_path) -> SourceSpec:
    return SourceSpec(str(write_lines(tmp_path / "corpus.jsonl", corpus(25))))


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_cut_shard_is_made_again_from_the_replies_and_named(format, retry_failed, source, tmp_path, caplog):
    job, out = make_job(tmp_path, format=format), tmp_path / "out"
    annotate(job, source, out)
    whole = shards(out)
    damaged = {number: out / f"part-{number:06d}.{format}" for number in range(3)}
    os.truncate(damaged[0], damaged[0].stat().st_size - 20)
    damaged[1].write_bytes(b"")
    with damaged[2].open("r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"\0" * 40)
    (out / f"part-000000 (copy).{format}").write_bytes(b"of a file manager")
    summary = annotate(job, source, out, retry_failed=retry_failed)
    assert {name: data for name, data in shards(out).items() if "copy" not in name} == whole
    assert all(str(file) in caplog.text for file in damaged.values())
    assert summary["rows"] == 25 and summary["spent"]["requests"] <= 25  # none was asked for again


def test_a_shard_that_is_damaged_within_is_an_error_that_names_it(source, tmp_path):
    job, out = make_job(tmp_path, format="jsonl"), tmp_path / "out"
    annotate(job, source, out)
    shard = out / "part-000001.jsonl"
    lines = shard.read_text().splitlines(keepends=True)
    shard.write_text("".join(["{no json}\n", *lines[1:]]))
    with pytest.raises(DataError, match=r"part-000001\.jsonl is damaged") as caught:
        annotate(job, source, out)
    assert "delete it" in caught.value.remedy
    shard.unlink()
    annotate(job, source, out)
    assert shard.read_text().splitlines(keepends=True) == lines


@pytest.mark.parametrize("content", ["{", "{}", '{"unknown": 1}', "[]", '{"files": [{}]}'])
def test_a_damaged_index_of_the_input_is_made_again(content: str, source, tmp_path):
    job, out = make_job(tmp_path), tmp_path / "out"
    annotate(job, source, out)
    whole = shards(out)
    (out / "job" / "input.json").write_text(content)
    (out / "part-000001.jsonl").unlink()
    annotate(job, source, out)
    assert shards(out) == whole


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_an_input_of_other_rows_is_refused_whatever_its_size_and_time_say(ending: str, tmp_path):
    file, out = tmp_path / f"rows.{ending}", tmp_path / "out"

    def write(word: str) -> None:
        rows = [{"text": f"{word} {row}"} for row in range(25)]
        pq.write_table(pa.Table.from_pylist(rows), file) if ending == "parquet" else write_lines(file, rows)

    write("first")
    os.utime(file, ns=(10**18, 10**18))
    size, job = file.stat().st_size, make_job(tmp_path)
    annotate(job, SourceSpec(str(file)), out)
    (out / "part-000002.jsonl").unlink()
    write("other")
    os.utime(file, ns=(10**18, 10**18))
    assert file.stat().st_size == size
    with pytest.raises(ConfigError, match="sha256"):
        annotate(job, SourceSpec(str(file)), out)


def test_a_function_whose_imports_changed_is_another_judge(source, tmp_path):
    (tmp_path / "weights.py").write_text("W = 1\n")
    file = judge_file(tmp_path, "import weights\ndef length(fields):\n    return weights.W\n")
    job, out = make_job(tmp_path, judge=parse_judge(f"python:{file}:length", {})), tmp_path / "out"
    annotate(job, source, out)
    (tmp_path / "weights.py").write_text("W = 5\n")
    with pytest.raises(ConfigError, match=r"judge\.name"):
        annotate(job, source, out)
    assert annotate(job, source, tmp_path / "again")["levels"]["5"] == 25


def test_a_model_is_told_by_all_of_its_weights(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(40 << 20))
    before = hash_model(tmp_path)
    with file.open("r+b") as opened:
        opened.seek(20 << 20)
        opened.write(b"a layer in the middle")
    assert hash_model(tmp_path) != before


def test_counts_of_a_session_are_kept_when_an_older_one_was_deleted(tmp_path):
    folder = Folder(tmp_path, "jsonl")
    for _ in range(2):
        folder.write_json(folder.new_session(), {})
    (tmp_path / "job" / "sessions" / "000.json").unlink()
    assert not folder.new_session().exists()


def test_damaged_settings_have_a_remedy_that_works(source, tmp_path):
    job, out = make_job(tmp_path), tmp_path / "out"
    annotate(job, source, out)
    settings = out / "job" / "settings.json"
    kept = settings.read_text()
    settings.write_text("{")
    with pytest.raises(DataError) as caught:
        annotate(job, source, out)
    assert caught.value.remedy == "put it back, or give another OUT"
    settings.write_text(kept)
    assert json.loads(kept) and annotate(job, source, out)["rows"] == 25
