"""Rows for judges and rewriters: both orders, right labels, and nothing spoiled that counts as good."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from ixt_rl.cli.examples import run
from ixt_rl.corpus.examples.examples import make_examples
from ixt_rl.corpus.examples.excerpts import ExamplesJob
from ixt_rl.corpus.examples.spoil import SPOILERS, same_text
from ixt_rl.corpus.examples.training_rows import Excerpt, judge_labels, judge_pairs, read_label, rewriter_rows
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging.opening import parse_judge
from ixt_rl.judging.rubric import load_rubric
from ixt_rl.models import byte_tokenizer
from ixt_rl.rewriting.prompt import load_rewrite
from tests.unit.data.files import write

TOKENIZER = byte_tokenizer()
PAIRS, SAFETY, QUALITY = load_rubric("pairwise-quality"), load_rubric("safety"), load_rewrite("quality")
STORY = "The {n} boats left at dawn. Their nets were new and dry. By noon number {n} was full of fish, and turned home."


def corpus(path: Path, count: int = 30, **columns) -> str:
    return write(
        path, [{"text": STORY.format(n=n), **{k: v[n % len(v)] for k, v in columns.items()}} for n in range(count)]
    )


def job(path: Path, kind="judge", asks: str = "", **changes) -> ExamplesJob:
    asks = asks or {"judge": "pairwise-quality", "rewriter": "quality"}[kind]
    return ExamplesJob(kind, str(path), TOKENIZER, asks, **{"suffix_tokens": 60, **changes})


def made(job: ExamplesJob, out: Path) -> list[dict]:
    make_examples(job, out)
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


# -------------------------------------------------------------------------------------------- rows


def test_a_pair_is_asked_in_both_orders_as_a_judge_is_asked():
    one = Excerpt("Once", " upon a time.", "d7", "cut", " upon a ti")
    first, second = judge_pairs([one], PAIRS)
    assert (first["label"], first["a"], first["b"]) == ("A", " upon a time.", " upon a ti")
    assert (second["label"], second["a"], second["b"]) == ("B", " upon a ti", " upon a time.")
    for row in (first, second):
        (message,) = PAIRS.messages({"prefix": "Once", "a": row["a"], "b": row["b"]})
        assert row["prompt"] == message["content"]
        assert (row["prefix"], row["spoiler"], row["document"]) == ("Once", "cut", "d7")


def test_a_labelled_suffix_is_one_row():
    (row,) = judge_labels([Excerpt("Once", " more.", "d", label="no")], SAFETY)
    (message,) = SAFETY.messages({"prefix": "Once", "continuation": " more."})
    assert row == {
        "prompt": message["content"], "label": "no", "prefix": "Once", "continuation": " more.", "document": "d",
    }  # fmt: skip


def test_a_rewriter_copies_the_original_and_rewrites_what_was_spoiled():
    good, bad = rewriter_rows([Excerpt("Once", " upon a time.", "d", "cut", " upon a ti")], QUALITY)
    assert (good["suffix"], good["good"], good["target"], good["spoiler"]) == (" upon a time.", True, "COPY", "")
    assert (bad["suffix"], bad["good"], bad["spoiler"]) == (" upon a ti", False, "cut")
    assert bad["target"] == "<rewrite>upon a time.</rewrite>"
    assert good["original"] == bad["original"] == " upon a time."
    (message,) = QUALITY.messages({"prefix": "Once", "suffix": " upon a ti"})
    assert bad["prompt"] == message["content"]
    labelled = [Excerpt("Once", " x", "d", label=label) for label in ("yes", "no")]
    safe, unsafe = rewriter_rows(labelled, load_rewrite("safety"), "yes")
    assert (safe["good"], unsafe["good"], unsafe["original"]) == (True, False, " x")
    assert unsafe["target"]  # what no row is without: its answer


@pytest.mark.parametrize(
    ("value", "label"),
    [("yes", "yes"), (" Safe ", "yes"), ("NO", "no"), (True, "yes"), (0, "no"), (0.0, "no"), (None, ""), (" ", "")],
)
def test_labels_are_read_by_name_alias_and_score(value, label):
    assert read_label(value, SAFETY, "row 1") == label


@pytest.mark.parametrize("value", ["perhaps", 0.5, 2, ["yes"]])
def test_a_value_that_is_no_label_is_refused(value):
    with pytest.raises(DataError, match=r"row 1: label .*\n.*none of rubric safety: yes, no, safe"):
        read_label(value, SAFETY, "row 1")


# ------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["corpus.jsonl", "corpus.json", "corpus.parquet"])
def test_judge_pairs_of_a_corpus(tmp_path, kind):
    path = corpus(tmp_path / kind)
    rows = made(job(path), tmp_path / "pairs.jsonl")
    assert len(rows) == 60 and Counter(row["label"] for row in rows) == {"A": 30, "B": 30}
    by_document: dict[str, list[dict]] = {}
    for row in rows:
        by_document.setdefault(row["document"], []).append(row)
    assert len(by_document) == 30
    whole = {STORY.format(n=n) for n in range(30)}
    for first, second in by_document.values():
        assert (first["label"], second["label"]) == ("A", "B")
        assert first["prefix"] + first["a"] in whole  # the original wins, and is the document's own
        assert (first["a"], first["b"]) == (second["b"], second["a"])
        assert not same_text(first["a"], first["b"])
    assert {row["spoiler"] for row in rows} == set(SPOILERS)
    assert len(rows[0]["a"].encode()) == 59  # 60 tokens, EOS among them


def test_equal_seeds_give_equal_files_and_others_do_not(tmp_path):
    path = corpus(tmp_path / "corpus.jsonl")
    texts = []
    for number, seed in enumerate((1, 1, 2)):
        make_examples(job(path, seed=seed), tmp_path / f"{number}.jsonl")
        texts.append((tmp_path / f"{number}.jsonl").read_bytes())
    assert texts[0] == texts[1] != texts[2]
    assert not list(tmp_path.glob("*.part"))


def test_nothing_spoiled_counts_as_good(tmp_path):
    rows = made(job(corpus(tmp_path / "corpus.jsonl"), "rewriter"), tmp_path / "rows.jsonl")
    assert Counter(row["good"] for row in rows) == {True: 30, False: 30}
    for row in rows:
        assert row["good"] == same_text(row["suffix"], row["original"]) == (row["target"] == "COPY")
        assert bool(row["spoiler"]) != row["good"]


def test_labels_of_a_column(tmp_path):
    path = corpus(tmp_path / "corpus.jsonl", 30, is_safe=[True, False, None])
    rows = made(job(path, asks="safety", label="is_safe"), tmp_path / "safety.jsonl")
    assert Counter(row["label"] for row in rows) == {"yes": 10, "no": 10}
    done = make_examples(job(path, "rewriter", "safety", label="is_safe"), tmp_path / "rows.jsonl")
    assert (done.rows, done.labels, done.skipped) == (20, {"yes": 10, "no": 10}, {"no label": 10})
    assert str(done) == "20 rows of 20 documents; labels: no 10, yes 10; skipped: no label 10"


def test_the_suffix_of_a_reply_is_the_reply(tmp_path):
    rows = [{"q": "How do boats leave?", "a": "At dawn.", "safe": "yes"}]
    path = write(tmp_path / "replies.jsonl", rows)
    (row,) = made(job(path, asks="safety", prompt="q", text="a", label="safe"), tmp_path / "out.jsonl")
    assert (row["continuation"], "How do boats leave?" in row["prefix"]) == ("At dawn.", True)


def test_some_documents_and_some_spoilers(tmp_path):
    path = corpus(tmp_path / "corpus.jsonl")
    done = make_examples(job(path, documents=7, spoilers=("cut", "junk")), tmp_path / "some.jsonl")
    assert (done.documents, done.rows, sum(done.spoilers.values())) == (7, 14, 7)
    assert set(done.spoilers) <= {"cut", "junk"}


def test_a_model_spoils_and_code_steps_in_where_it_does_not(tmp_path):
    judge = tmp_path / "spoiler.py"
    judge.write_text(
        "def worse(fields):\n"
        "    assert fields['prefix'].startswith('The')\n"
        "    if 'number 3' in fields['suffix']:\n        return fields['suffix']\n"  # the same: not spoiled
        "    if 'number 4' in fields['suffix']:\n        return None\n"
        "    return 'and sank. ' + fields['suffix'][:9]\n"
    )
    path = corpus(tmp_path / "corpus.jsonl", 10)
    model = parse_judge(f"python:{judge}:worse", {})
    only = job(path, spoilers=("model",), model=model, cache=tmp_path / "cache.sqlite")
    done = make_examples(only, tmp_path / "only.jsonl")
    assert (done.documents, done.spoilers, done.skipped) == (8, {"model": 8}, {"not spoiled": 2})
    rows = [json.loads(line) for line in (tmp_path / "only.jsonl").read_text().splitlines()]
    assert all(row["b"].strip().startswith("and sank.") for row in rows if row["label"] == "A")
    mixed = make_examples(job(path, spoilers=("model", "junk"), model=model, seed=3), tmp_path / "mixed.jsonl")
    assert mixed.documents == 10 and set(mixed.spoilers) == {"model", "junk"}


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"asks": "safety"}, "rubric safety without a column of labels"),
        ({"asks": "safety", "label": "text"}, "none of rubric safety"),
        ({"label": "text"}, "leave --label out"),
        ({"asks": "web-text", "label": "text"}, "use safety, or a rubric with the axis"),
        ({"asks": "factuality", "label": "text"}, "a row has a prefix and one continuation"),
        ({"asks": "pairwise"}, "did you mean `pairwise-quality`"),
        ({"text": "body"}, "no column 'body'"),
        ({"spoilers": ("verbs",)}, "there is no verbs"),
        ({"spoilers": ("model",)}, "give --model and the spoiler"),
        ({"suffix_tokens": 500}, "too short 30"),
        ({"suffix_tokens": 0}, "suffix_tokens >= 1"),
    ],
)
def test_what_cannot_work_is_refused_and_leaves_no_file(tmp_path, changes, said):
    path = corpus(tmp_path / "corpus.jsonl")
    with pytest.raises((ConfigError, DataError), match=said):
        make_examples(job(path, **changes), tmp_path / "out.jsonl")
    assert not list(tmp_path.glob("out*"))


def test_files_that_cannot_be_used_are_refused(tmp_path):
    path = corpus(tmp_path / "corpus.jsonl")
    for out, said in ((tmp_path / "out.csv", "ends in .jsonl"), (tmp_path / "no" / "out.jsonl", "no such folder")):
        with pytest.raises(ConfigError, match=said):
            make_examples(job(path), out)
    with pytest.raises(DataError, match=r"corpus.jsonl is there"):
        make_examples(job(path), Path(path))
    with pytest.raises(DataError, match="no such file"):
        make_examples(job(tmp_path / "nothing"), tmp_path / "out.jsonl")
    bad = write(tmp_path / "bad.jsonl", [{"text": STORY}, {"text": 3}])
    with pytest.raises(DataError, match=r"bad.jsonl:2: column 'text'\n.*it holds int, not text"):
        make_examples(job(Path(bad)), tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_the_command_says_what_it_made(tmp_path):
    from click.testing import CliRunner

    from ixt_rl.cli.main import main

    path, out = corpus(tmp_path / "corpus.jsonl", 12), tmp_path / "pairs.jsonl"
    words = ["--tokenizer", "bytes", "--suffix-tokens", "60"]
    done = CliRunner().invoke(main, ["examples", "judge", path, str(out), *words, "--spoiler", "cut"])
    assert done.exit_code == 0 and "24 rows of 12 documents; spoiled: cut 12" in done.output
    again = CliRunner().invoke(main, ["examples", "judge", path, str(out), *words])
    assert again.exit_code == 2 and "nothing is written over" in again.output
    rewrites = ["examples", "rewriter", path, str(tmp_path / "rewrites.jsonl"), *words, "--rewrite", "reasoning"]
    assert "24 rows" in CliRunner().invoke(main, rewrites).output
    both = CliRunner().invoke(main, [*rewrites[:3], str(tmp_path / "x.jsonl"), *words, "--model", "qwen"])
    assert both.exit_code == 2 and "its kind is not known" in both.output
    assert callable(run)
