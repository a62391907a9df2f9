"""Text spoiled by code: what each way changes, and pairs whose unseen part has other articles."""

from __future__ import annotations

import json
import random
import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest

from ixt_rl.corpus.examples.spoiled_passages import SPOILS, names, passages, sentences

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "spoiled_pairs.py"
TEXT = "In 1912 Anna sailed from Oslo. She came home late! Was it the 3rd of May? Nobody in Bergen knew."


def test_passages_are_whole_sentences_in_order_and_drop_the_short_end():
    found = passages(TEXT, 40)
    assert found == [
        "In 1912 Anna sailed from Oslo. She came home late!",
        "Was it the 3rd of May? Nobody in Bergen knew.",
    ]
    assert passages(TEXT, 60) == ["In 1912 Anna sailed from Oslo. She came home late! Was it the 3rd of May?"]
    assert passages(TEXT, 1000) == []


@pytest.mark.parametrize("seed", range(5))
def test_each_way_to_spoil_changes_what_it_is_named_after_and_nothing_else(seed):
    said = {kind: spoil(TEXT, random.Random(seed), ["Zaire", "77"]) for kind, spoil in SPOILS.items()}
    assert said.keys() == {"order", "names", "repetition"}
    assert said["order"] != TEXT
    assert Counter(said["order"].split()) == Counter(TEXT.split())
    assert set(names(said["names"])) <= {"Zaire", "77"}
    assert len(said["names"].split()) == len(TEXT.split())
    assert "sailed from" in said["names"]
    counts = Counter(sentences(said["repetition"]))
    assert sorted(counts.values()) == [1, 1, 1, 3]
    assert list(counts) == sentences(TEXT)


def made(folder: Path, monkeypatch, *options: str, articles: int = 10) -> dict[str, list[dict]]:
    rng = random.Random(3)
    words = ["river", "house", "moved", "slowly", "over", "wide", "fields", "where", "Anna", "17", "stood", "quietly"]
    text = [" ".join(" ".join(rng.sample(words, 6)) + "." for _ in range(40)) for _ in range(articles)]
    file = folder / "articles.jsonl"
    rows = (json.dumps({"text": one + " \u2028\x85"}, ensure_ascii=False) for one in text)  # lines to Python alone
    file.write_text("".join(row + "\n" for row in rows) + "\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["spoiled_pairs.py", str(file), str(folder / "out"), *options])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    return {
        part: [json.loads(line) for line in (folder / "out" / f"spoiled_{part}.jsonl").read_text().splitlines()]
        for part in ("train", "unseen")
    }


def test_unseen_pairs_are_of_other_articles_and_every_pair_differs(tmp_path, monkeypatch):
    found = made(tmp_path, monkeypatch, "--train", "20", "--unseen", "9", "--characters", "80")
    assert len(found["train"]) == 20
    assert len(found["unseen"]) == 9
    articles = {part: {row["article"] for row in rows} for part, rows in found.items()}
    assert not articles["train"] & articles["unseen"]
    for row in found["train"] + found["unseen"]:
        assert row["chosen"] != row["rejected"]
        assert row["chosen"] not in row["prompt"]
    again = made(tmp_path, monkeypatch, "--train", "20", "--unseen", "9", "--characters", "80")
    assert again == found


def test_too_few_articles_are_said(tmp_path, monkeypatch):
    """One article is held out, and none is left to train on."""
    with pytest.raises(SystemExit, match="no pair for spoiled_train"):
        made(tmp_path, monkeypatch, articles=1)
