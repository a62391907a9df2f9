"""Overlap of questions with training texts: against brute force, and through files."""

from __future__ import annotations

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.contamination import overlap as overlap_module
from ixt_rl.evaluation.contamination.counts import rows_of, sentence, summary_of
from ixt_rl.evaluation.contamination.overlap import Overlap, QuestionIndex
from ixt_rl.evaluation.contamination.training_texts import TrainingText, training_texts
from ixt_rl.evaluation.contamination.words import words_of


def text(body: str, row: int = 1, file: str = "a.jsonl", field: str = "text") -> TrainingText:
    return TrainingText(file, row, field, body)


def found(questions: list[str], bodies: list[str], n: int = 3) -> Overlap:
    index = QuestionIndex({"s": [{"question": question} for question in questions]}, n)
    return index.find(text(body, row) for row, body in enumerate(bodies, 1))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("Ann's $\\frac{1}{2}$ of 3,000", ["ann", "s", "frac", "1", "2", "of", "3", "000"]),
        ("ＦＵＬＬ\u00a0Straße x_1", ["full", "strasse", "x", "1"]),
        ("求 $x$ 的值", ["求", "x", "的", "值"]),
        (" \n$+-$ ", []),
    ],
)
def test_words(body, words):
    assert words_of(body) == words


def brute_share(question: list[str], body: list[str], n: int, phrases: set[tuple[str, ...]] = frozenset()) -> float:
    """Words of the question that stand in grams which the text has too, as a share."""
    size = min(n, len(question))
    grams = {tuple(body[i : i + size]) for i in range(len(body) - size + 1)} - phrases
    covered = [False] * len(question)
    for i in range(len(question) - size + 1):
        if tuple(question[i : i + size]) in grams:
            covered[i : i + size] = [True] * size
    return sum(covered) / len(question)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [1, 3, 5])
def test_shares_are_those_of_brute_force(seed, n, monkeypatch):
    monkeypatch.setattr(overlap_module, "PHRASE", 10**6)
    monkeypatch.setattr(overlap_module, "_BATCH", 7)  # many batches
    draw = random.Random(seed)

    def written(least: int, most: int) -> str:
        return " ".join(draw.choice("abcd") for _ in range(draw.randint(least, most)))

    questions = [written(1, 9) for _ in range(25)]
    bodies = [written(1, 20) + draw.choice(["", " zzz " + written(1, 8)]) for _ in range(30)] + questions[:3]
    seen = {one.question.index: one for one in found(questions, bodies, n).sightings}
    for index, question in enumerate(questions):
        shares = [brute_share(question.split(), body.split(), n) for body in bodies]
        if not max(shares):
            assert index not in seen
            continue
        sighting = seen[index]
        assert sighting.share == pytest.approx(max(shares))
        assert sighting.texts == sum(share > 0 for share in shares)
        assert sighting.exact == (question in bodies)
        assert [place.share for place in sighting.places] == pytest.approx(
            sorted(shares, reverse=True)[: len(sighting.places)]
        )
        for place in sighting.places:
            assert shares[place.row - 1] == pytest.approx(place.share)
        joined = " | ".join(bodies)  # a word of its own between texts: grams of all of them, none across
        assert sighting.together == pytest.approx(brute_share(question.split(), joined.split(), n))


def test_no_gram_reaches_across_texts():
    assert found(["one two three four"], ["one two", "three four"]).sightings == []
    assert found(["one two three four"], ["one two three", "four"]).sightings[0].share == 0.75


def test_the_same_words_with_more_around_them_are_whole_but_not_exact():
    (whole,) = found(["What is 2+2?"], ["Q: what IS $2 + 2$ ... A: 4"]).sightings
    (exact,) = found(["What is 2+2?"], ["what is 2 2"]).sightings
    assert (whole.share, whole.exact) == (1, False)
    assert (exact.share, exact.exact) == (1, True)


def test_a_short_question_counts_as_a_whole_or_not_at_all():
    assert found(["compute two"], ["compute three two"], n=13).sightings == []
    assert found(["compute two"], ["now compute two of them"], n=13).sightings[0].share == 1


def test_the_wording_of_a_suite_is_no_overlap():
    asked = [f"read the table and answer {word} {word}" for word in "abcdefghijkl"]  # 12 questions
    result = found([*asked, "a question of its own"], ["read the table and answer me now", "a question of its own"])
    assert [one.question.text for one in result.sightings] == ["a question of its own"]
    assert summary_of(result)["suites"]["s"]["phrases"] == 3
    (own,) = found(["read the table and answer a a"], ["read the table and answer me now"]).sightings
    assert own.share == pytest.approx(5 / 7)


def test_counts_by_suite_and_file():
    index = QuestionIndex(
        {"one": [{"question": "a b c d e f", "id": "x"}, {"question": "???"}], "two": [{"question": "k l m n"}]}, 3
    )
    result = index.find(
        [
            text("a b c", 1, "p.jsonl"),
            text("a b c d", 2, "p.jsonl", "m[1].content"),
            text("d e f", 1, "q.jsonl"),
            text("k l m n", 2, "q.jsonl"),
        ]
    )
    figures = summary_of(result)
    levels = {"exact": 0, "whole": 0, "half": 1, "any": 1}
    one = {"questions": 2, "compared": 1, "short": 0, **levels, "mean_share": pytest.approx(4 / 6), "phrases": 0}
    both = {"p.jsonl": levels, "q.jsonl": levels}
    assert figures["suites"]["one"] == {**one, "files": both}
    assert figures["suites"]["two"]["files"] == {"q.jsonl": {"exact": 1, "whole": 1, "half": 1, "any": 1}}
    assert figures["read"] == {"p.jsonl": {"texts": 2, "words": 7}, "q.jsonl": {"texts": 2, "words": 7}}
    first, second = rows_of(result)
    assert (first["id"], first["share_together"], first["texts"]) == ("x", 1.0, 3)
    assert first["places"][0] == {
        "file": "p.jsonl", "row": 2, "field": "m[1].content", "share": round(4 / 6, 4), "exact": False,
    }  # fmt: skip
    assert second["exact"] is True
    assert sentence("one", figures["suites"]["one"], 3) == (
        "one: 0 of 2 questions stand whole in the training texts, 1 shares 3 words in a row or more"
    )


def test_a_pass_ends_where_it_is_told_to_and_says_so(monkeypatch):
    monkeypatch.setattr(overlap_module, "_BATCH", 10)
    read = []

    def texts():
        for row in range(10_000):
            read.append(row)
            yield text("some words that are not asked about", row)

    result = QuestionIndex({"s": [{"question": "a b c"}]}).find(texts(), most_words=100)
    assert not result.whole
    assert 100 <= result.read["a.jsonl"]["words"] < 200
    assert len(read) < 50  # neither held nor read ahead


def test_an_index_serves_several_passes():
    index = QuestionIndex({"s": [{"question": "a b c d"}]}, 3)
    assert index.find([text("a b c d")]).sightings[0].together == 1
    assert index.find([text("a b c")]).sightings[0].together == 0.75


def test_questions_as_messages_are_read():
    index = QuestionIndex({"s": [{"question": [{"role": "user", "content": "a b c"}]}]}, 3)
    assert index.find([text("so a b c")]).sightings[0].share == 1


@pytest.mark.parametrize(("suites", "n"), [({"s": []}, 13), ({"s": [{"question": "a"}]}, 0)])
def test_nothing_to_look_for_is_refused(suites, n):
    with pytest.raises(ConfigError):
        QuestionIndex(suites, n)


ROWS = [
    {"text": "first", "n": 1, "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]},
    {"text": "second", "n": 2, "messages": []},
]
TEXTS = [
    (1, "text", "first"),
    (1, "messages[0].role", "user"),
    (1, "messages[0].content", "hi"),
    (1, "messages[1].role", "assistant"),
    (1, "messages[1].content", "yo"),
    (2, "text", "second"),
]


@pytest.mark.parametrize("ending", ["jsonl", "json", "jsonl.gz", "parquet"])
def test_texts_of_files_of_every_kind(tmp_path, ending):
    file = tmp_path / f"rows.{ending}"
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), file)
    elif ending == "jsonl.gz":
        file.write_bytes(gzip.compress(lines.encode()))
    else:
        file.write_text(json.dumps(ROWS) if ending == "json" else lines)
    read = list(training_texts([str(file)]))
    assert sorted((one.row, one.field, one.text) for one in read) == sorted(TEXTS)
    assert {one.file for one in read} == {str(file)}
    assert [one.text for one in training_texts([str(tmp_path)], ["text"])] == ["first", "second"]


@pytest.mark.parametrize(
    ("rows", "fields", "said"),
    [
        ([{"text": "a"}], ["txt"], "did you mean `text`"),
        ([{"input_ids": [1, 2]}], [], "no row has a text"),
        ([], [], "it has no row"),
    ],
)
def test_a_file_without_texts_is_refused(tmp_path, rows, fields, said):
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=said):
        list(training_texts([str(file)], fields))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(training_texts([str(tmp_path / "a.jsonl")]))
