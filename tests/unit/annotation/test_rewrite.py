"""A whole rewriting with a function as its rewriter: columns, ids, reasons, going on, refusals, reading it again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ixt_rl.corpus.annotate.annotate import annotate
from ixt_rl.corpus.rewrite.rewrite import rewrite
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.data.document_source import DocumentSource
from ixt_rl.data.stream import DocumentStream
from ixt_rl.data.suffixes import PrefixSuffix, SuffixStream
from ixt_rl.errors import BackendFailed, ConfigError, DataError
from ixt_rl.judging import FunctionBackend
from ixt_rl.judging.opening import parse_judge
from ixt_rl.rewriting import Rewriter, load_rewrite
from ixt_rl.rewriting.stored import StoredRewrites
from ixt_rl.types import SamplingParams
from tests.unit.annotation.helpers import make_job, read_rows, shards, write_lines
from tests.unit.annotation.rewriting import (
    POLICY,
    SUFFIX,
    make_rewriting,
    passages,
    rewriter_file,
)
from tests.unit.judging.server import serve

BOS, EOS = POLICY.bos_token_id, POLICY.eos_token_id


@pytest.fixture
def calls(tmp_path, monkeypatch):
    log = tmp_path / "calls"
    log.touch()
    monkeypatch.setenv("REWRITER_LOG", str(log))
    return lambda: log.read_text().splitlines()


def source(tmp_path, rows):
    return SourceSpec(str(write_lines(tmp_path / "corpus.jsonl", rows)))


def ids(text: str) -> list[int]:
    return POLICY(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_rows_come_out_in_order_with_both_sides_and_their_rewrite(tmp_path, calls, format):
    rows = [*passages(42), {"id": 42, "text": "this one is to raise"}, {"id": 43, "text": "short"},
            {"id": 44, "text": None}, {"id": 45, "text": "ends blank" + " " * 20}]  # fmt: skip
    summary = rewrite(make_rewriting(tmp_path, format=format), source(tmp_path, rows), tmp_path / "out")
    found = read_rows(tmp_path / "out")
    assert [row["id"] for row in found] == list(range(46))
    for row in found[:42]:
        assert row["prefix_ids"] + row["suffix_ids"] == [BOS, *ids(row["text"]), EOS]
        assert len(row["suffix_ids"]) == SUFFIX
        number = int(row["text"].split()[-1])
        suffix = f" bad {number:06d}"
        assert row["rewrite_by"].startswith("rewriter.py:mend ")
        if number % 5 == 0:  # None
            assert (row["rewrite_status"], row["rewrite_reason"]) == ("undecided", "empty")
            assert row["rewrite"] is row["rewrite_ids"] is row["rewrite_copied"] is None  # not a False
        elif number % 4 == 0:  # COPY, or the same text
            assert (row["rewrite_status"], row["rewrite_reason"]) == ("copied", "")
            assert row["rewrite_copied"] is True and row["rewrite_ids"] == row["suffix_ids"]
            assert row["rewrite"] == suffix
        else:
            assert (row["rewrite_status"], row["rewrite_copied"]) == ("rewritten", False)
            assert row["rewrite"] == suffix.replace("bad", "ok")
            assert row["rewrite_ids"] == [*ids(row["rewrite"]), EOS]
    assert found[42]["rewrite_reason"].startswith("failed: rewriter.py:mend ")
    assert "RuntimeError: as asked" in found[42]["rewrite_reason"] and found[42]["suffix_ids"] is not None
    reasons = [(row["rewrite_status"], row["rewrite_reason"]) for row in found[43:]]
    assert reasons == [("skipped", "too short"), ("skipped", "no text"), ("skipped", "blank suffix")]
    assert all(row["prefix_ids"] is row["suffix_ids"] is row["rewrite_copied"] is None for row in found[43:])
    assert len(calls()) == len({row["text"] for row in rows[:43]})  # equal documents are asked once
    for name in ("copied", "rewritten", "undecided", "skipped"):
        assert summary[name] == sum(row["rewrite_status"] == name for row in found)
    assert summary["skipped_reasons"] == {"too short": 1, "no text": 1, "blank suffix": 1}
    assert summary["undecided_reasons"] == {"empty": summary["undecided"] - 1, "failed": 1}
    assert summary["shares"]["copied"] == summary["copied"] / 43


def test_copies_keep_ids_that_no_tokenizer_would_give(tmp_path):
    """A policy with a merge that the cut goes through: the text of the suffix alone has other ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from ixt_rl.models import with_special_tokens

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: index for index, token in enumerate([*alphabet, "aa", "<bos>", "<eos>", "<pad>"])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[("a", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    policy = with_special_tokens(tokenizer)
    policy.save_pretrained(tmp_path / "merging")
    text = "begin aaaaab"  # b | aa aa a b: the cut after one a less gives other pairs
    job = make_rewriting(tmp_path, tokenizer=tmp_path / "merging", suffix_tokens=4)
    rewriter_file(tmp_path, "def mend(prefix, suffix):\n    return suffix\n")
    rewrite(job, source(tmp_path, [{"text": text}]), tmp_path / "out")
    (row,) = read_rows(tmp_path / "out")
    whole = [policy.bos_token_id, *policy(text, add_special_tokens=False)["input_ids"], policy.eos_token_id]
    assert row["prefix_ids"] + row["suffix_ids"] == whole
    assert row["rewrite_copied"] is True and row["rewrite_ids"] == row["suffix_ids"] == whole[-4:]


def test_a_rewrite_is_cut_at_the_suffix_and_counted(tmp_path):
    rewriter_file(tmp_path, "def mend(prefix, suffix):\n    return suffix.replace('bad', 'far better')\n")
    rewriter = parse_judge(f"python:{tmp_path / 'rewriter.py'}:mend", {}, role="rewriter")
    summary = rewrite(make_rewriting(tmp_path, rewriter=rewriter), source(tmp_path, passages(5)), tmp_path / "out")
    assert summary["shortened"] == summary["rewritten"] == 5
    assert all(
        len(row["rewrite_ids"]) == SUFFIX and row["rewrite_ids"][-1] != EOS for row in read_rows(tmp_path / "out")
    )


def test_of_a_prompt_nothing_is_rewritten(tmp_path):
    rows = [{"q": "1 + 1 = ", "a": {"text": "2"}}, {"q": None, "a": {"text": "3"}}]
    rewriter_file(tmp_path, "def mend(prefix, suffix):\n    return prefix[-2:] + suffix\n")
    rewriter = parse_judge(f"python:{tmp_path / 'rewriter.py'}:mend", {}, role="rewriter")
    job = make_rewriting(tmp_path, rewriter=rewriter, fields={"text": "a.text", "prompt": "q"})
    rewrite(job, source(tmp_path, rows), tmp_path / "out")
    first, second = read_rows(tmp_path / "out")
    assert first["suffix_ids"] == [*ids("2"), EOS] and first["prefix_ids"] == [BOS, *ids("1 + 1 = ")]
    assert first["rewrite"] == "= 2" and first["rewrite_ids"] == [*ids("= 2"), EOS]
    assert second["rewrite_reason"] == "no prompt"


def test_a_second_run_asks_nothing_and_lost_shards_come_from_the_cache(tmp_path, calls):
    spec, out, job = source(tmp_path, passages(50)), tmp_path / "out", make_rewriting(tmp_path, format="parquet")
    first = rewrite(job, spec, out)
    whole, asked, page = shards(out), len(calls()), (out / "rewriting.html").read_text()
    assert rewrite(job, spec, out) == first and (out / "rewriting.html").read_text() == page
    (out / "part-000002.parquet").unlink()
    rewrite(job, spec, out)
    assert shards(out) == whole and len(calls()) == asked
    rewrite(replace(job, cache=out / "job" / "cache.sqlite"), spec, tmp_path / "other")
    assert shards(tmp_path / "other") == whole and len(calls()) == asked


def test_failed_requests_are_asked_again_if_that_is_wished(tmp_path):
    switch = tmp_path / "down"
    switch.touch()
    rewriter_file(
        tmp_path,
        f"import os\n\ndef mend(prefix, suffix):\n    if os.path.exists({str(switch)!r}) and '3' in suffix:\n"
        "        raise OSError('down')\n    return suffix.replace('bad', 'ok')\n",
    )
    rewriter = parse_judge(f"python:{tmp_path / 'rewriter.py'}:mend", {}, role="rewriter")
    job, spec = make_rewriting(tmp_path, rewriter=rewriter), source(tmp_path, passages(30))
    assert rewrite(job, spec, tmp_path / "out")["undecided_reasons"] == {"failed": 2}
    switch.unlink()
    assert rewrite(job, spec, tmp_path / "out")["undecided"] == 2
    assert rewrite(job, spec, tmp_path / "out", retry_failed=True)["undecided"] == 0


def test_what_is_stored_is_what_an_online_rewriter_gives(tmp_path):
    """SIP's stream over the same documents, from IN or from the rewritten files, in another order."""
    job, spec = make_rewriting(tmp_path, format="parquet"), source(tmp_path, [*passages(40), {"text": "short"}])
    rewrite(job, spec, tmp_path / "out")
    namespace: dict = {}
    exec((tmp_path / "rewriter.py").read_text(), namespace)
    function = FunctionBackend(lambda fields: namespace["mend"](fields["prefix"], fields["suffix"]), "test")
    online = Rewriter(function, SamplingParams(64), POLICY, load_rewrite("quality"), suffix_tokens=SUFFIX)
    for path, files in (
        ("out", (str(tmp_path / "corpus.jsonl"),)),
        ("out/part-*", tuple(sorted(str(file) for file in (tmp_path / "out").glob("part-*")))),
    ):
        stored = StoredRewrites(tmp_path / path)
        documents = DocumentStream([DocumentSource(files, feedback=None)], seed=0, epochs=1)
        items = list(SuffixStream(documents, POLICY, suffix_tokens=SUFFIX))[::-1]
        assert len(items) == 40 and len(stored) == len({item.suffix_ids for item in items})
        found = stored(items)
        assert found == online(items)
        assert sum(one is None for one in found) > 0
    stranger = PrefixSuffix((BOS, 1), (2, EOS), "corpus.jsonl:7")
    with pytest.raises(DataError, match=r"corpus\.jsonl:7[\s\S]*not in [\s\S]*--suffix-tokens"):
        stored([stranger])


def test_files_without_rewrites_are_refused(tmp_path):
    for path in ("none", "none.jsonl", "none*"):
        with pytest.raises(DataError, match="no rewrites"):
            StoredRewrites(tmp_path / path)
    with pytest.raises(DataError, match="no column 'prefix_ids'"):
        StoredRewrites(write_lines(tmp_path / "plain.jsonl", [{"text": "a"}]))
    rewriter_file(tmp_path, "def mend(prefix, suffix):\n    return None\n")
    rewriter = parse_judge(f"python:{tmp_path / 'rewriter.py'}:mend", {}, role="rewriter")
    rewrite(make_rewriting(tmp_path, rewriter=rewriter), source(tmp_path, passages(5)), tmp_path / "out")
    with pytest.raises(DataError, match="5 suffixes are there, and none has one"):
        StoredRewrites(tmp_path / "out")


def test_another_job_in_the_same_folder_is_refused(tmp_path):
    spec, out, job = source(tmp_path, passages(20)), tmp_path / "out", make_rewriting(tmp_path)
    rewrite(job, spec, out)
    before = shards(out)
    for changed, said in (
        (replace(job, suffix_tokens=6), "suffix_tokens: 12 there, 6 now"),
        (replace(job, max_prefix_tokens=9), "max_prefix_tokens: 1920 there, 9 now"),
        (replace(job, prompt=load_rewrite("safety")), 'prompt.name: "quality" there, "safety" now'),
        (replace(job, sampling=SamplingParams(65, temperature=0.0)), "sampling.max_new_tokens: 64 there, 65 now"),
    ):
        with pytest.raises(ConfigError, match="holds another job") as refused:
            rewrite(changed, spec, out)
        assert said in str(refused.value)
    POLICY.save_pretrained(tmp_path / "added")
    config = json.loads((tmp_path / "added" / "tokenizer_config.json").read_text())
    (tmp_path / "added" / "tokenizer_config.json").write_text(json.dumps(config | {"new": 1}))
    with pytest.raises(ConfigError, match=r"tokenizer: "):
        rewrite(replace(job, tokenizer=tmp_path / "added"), spec, out)
    with pytest.raises(ConfigError, match="holds another job"):
        annotate(make_job(tmp_path), spec, out)
    annotate(make_job(tmp_path), spec, tmp_path / "annotated")
    with pytest.raises(ConfigError, match=r"job: null there, \"rewriting: rewrite\" now"):
        rewrite(job, spec, tmp_path / "annotated")
    assert rewrite(job, spec, out)["spent"]["sessions"] == 1 and shards(out) == before


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"tokenizer": Path("none")}, ConfigError, r"tokenizer 'none'[\s\S]*no folder with a tokenizer"),
        ({"suffix_tokens": 0}, ConfigError, "suffix_tokens=0"),
        ({"suffix_tokens": 5000}, DataError, r"none of the first 5 documents can be cut[\s\S]*too short: 5"),
        ({"max_prefix_tokens": 1}, ConfigError, "max_prefix_tokens=1"),
        ({"sampling": SamplingParams(8, temperature=3.0)}, ConfigError, "temperature=3"),
        ({"fields": {"text": "body"}}, DataError, "no column 'body'"),
        ({"fields": {"promt": "text"}}, DataError, "did you mean `prompt`"),
        ({"rewriter": "python:{folder}/rewriter.py:mnd"}, ConfigError, r"rewriter file [\s\S]*did you mean `mend`"),
        (
            {"rewriter": "python:{folder}/rewriter.py:one"},
            ConfigError,
            r"one\(\) cannot be called with \(prefix, suffix\)",
        ),
        ({"rewriter": "vllm:{folder}/none"}, ConfigError, r"rewriter vllm:[\s\S]*no folder with a config.json"),
        ({"rewriter": "openai:m", "suffix_tokens": 65}, ConfigError, r"room for 64 tokens[\s\S]*--max-tokens"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(tmp_path, monkeypatch, calls, changes, error, said):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    rewriter_file(tmp_path)
    with (tmp_path / "rewriter.py").open("a") as more:
        more.write("\n\ndef one():\n    return None\n")
    if "rewriter" in changes:
        named = changes["rewriter"].format(folder=tmp_path)
        changes = changes | {"rewriter": parse_judge(named, {}, role="rewriter")}
    with pytest.raises(error, match=said):
        rewrite(make_rewriting(tmp_path, **changes), source(tmp_path, passages(5)), tmp_path / "out")
    assert not shards(tmp_path / "out") and calls() == []


def test_columns_that_are_there_already_are_not_written_over(tmp_path):
    rows = [{"text": "a long enough document", "suffix_ids": [1]}]
    with pytest.raises(DataError, match=r"have a column 'suffix_ids' already[\s\S]*rename it"):
        rewrite(make_rewriting(tmp_path), source(tmp_path, rows), tmp_path / "out")


def test_an_endpoint_is_asked_and_paid_and_garbage_is_undecided(tmp_path):
    answers = ['{"rewrite": "better"}', '{"rewrite": "COPY"}', "what?", '{"rewrite": "unfini']
    with serve(lambda body, number: answers[number % 4]) as served:
        rewriter = parse_judge("openai:writer", {"concurrency": 4}, served.base_url, 1000, "rewriter")
        job = make_rewriting(tmp_path, rewriter=rewriter, prices=(10.0, 50.0))
        summary = rewrite(job, source(tmp_path, passages(24)), tmp_path / "out")
    spent = summary["spent"]
    assert spent["requests"] == 20 and spent["cached"] == 4  # every sixth document was there before
    assert {"unreadable", "unfinished"} == set(summary["undecided_reasons"])
    assert summary["copied"] + summary["rewritten"] + summary["undecided"] == 24 and summary["undecided"] >= 10
    assert spent["flops"] == 2 * 1000 * spent["tokens"] and spent["cost"] > 0
    assert all(row["rewrite_tokens"] >= 120 for row in read_rows(tmp_path / "out"))


def test_a_rewriter_that_is_down_stops_the_job(tmp_path):
    rewriter_file(tmp_path, "def mend(prefix, suffix):\n    raise OSError('down')\n")
    rewriter = parse_judge(f"python:{tmp_path / 'rewriter.py'}:mend", {}, role="rewriter")
    with pytest.raises(BackendFailed, match="100 requests failed in a row"):
        rewrite(make_rewriting(tmp_path, rewriter=rewriter), source(tmp_path, passages(150)), tmp_path / "out")


def test_the_page_shows_shares_lengths_and_samples_side_by_side(tmp_path):
    summary = rewrite(make_rewriting(tmp_path), source(tmp_path, passages(42)), tmp_path / "out")
    page = (tmp_path / "out" / "rewriting.html").read_text()
    rows = read_rows(tmp_path / "out")
    assert f"{summary['copied']} copied ({summary['shares']['copied']:.1%}" in page
    assert "https://" not in page and "src=" not in page and "<svg" in page
    lengths = [len(row["rewrite_ids"]) for row in rows if row["rewrite_status"] == "rewritten"]
    assert summary["lengths"]["after"]["mean"] == pytest.approx(sum(lengths) / len(lengths))
    assert summary["lengths"]["before"] == {"mean": SUFFIX, "counts": {str(SUFFIX): len(lengths)}}
    changed = [row for row in rows if row["rewrite_status"] == "rewritten"]
    before, after = ([i for row in changed for i in row[name]] for name in ("suffix_ids", "rewrite_ids"))
    new = sum(i not in row["prefix_ids"] + row["suffix_ids"] for row in changed for i in row["rewrite_ids"])
    assert summary["corpus"] == {
        "refused_share": 0.0,
        "length_ratio": len(after) / len(before),
        "vocabulary_ratio": len({*after}) / len({*before}),
        "new_token_share": new / len(after),
    }
    assert new > 0 and "stand neither in prefix nor in suffix" in page
    saved = json.loads((tmp_path / "out" / "rewriting.json").read_text())
    assert set(saved["examples"]) == {"copied", "rewritten", "undecided"}
    for status, shown in saved["examples"].items():
        for item in shown:
            row = rows[item["row"]]
            assert row["rewrite_status"] == status and row["text"] == item["prefix"] + item["original"]
            assert item["written"] == row["rewrite"]


def test_arrow_types_and_columns_survive(tmp_path):
    from pyarrow import Table

    table = Table.from_pylist(passages(7))
    pq.write_table(table, tmp_path / "t.parquet")
    rewrite(make_rewriting(tmp_path, format="parquet"), SourceSpec(str(tmp_path / "t.parquet")), tmp_path / "out")
    written = pq.read_table(tmp_path / "out" / "part-000000.parquet")
    assert written.select(table.column_names).equals(table)
    assert str(written.schema.field("rewrite_ids").type).startswith("list<")
    assert str(written.schema.field("rewrite_copied").type) == "bool"


def test_undecided_rows_are_shown_with_what_the_rewriter_wrote(tmp_path):
    function = (
        "def mend(prefix, suffix):\n    return None if '3' in suffix else {'rewrite': 3} if '4' in suffix else 'ok'\n"
    )
    rewriter = parse_judge(f"python:{rewriter_file(tmp_path, function)}:mend", {}, role="rewriter")
    rewrite(make_rewriting(tmp_path, rewriter=rewriter), source(tmp_path, passages(5)), tmp_path / "out")
    examples = json.loads((tmp_path / "out" / "rewriting.json").read_text())["examples"]
    assert [item["replies"] for item in examples["undecided"]] == [['{"rewrite": null}'], ['{"rewrite": 3}']]
    assert all(item["replies"] == [] for item in examples["rewritten"])
    assert "{&#34;rewrite&#34;: 3}" in (tmp_path / "out" / "rewriting.html").read_text()
