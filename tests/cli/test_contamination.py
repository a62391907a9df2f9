"""`ixt-rl contamination`: words to findings, in the terminal and in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ixt_rl.cli.main import main
from ixt_rl.files import read_json, read_rows

KNOWN = "Ann buys three pears and four apples at the market and then eats two pears. How many fruits are left?"
OTHER = "A train leaves the station at nine and drives sixty miles an hour. When has it gone ninety miles in all?"


def write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def data(tmp_path) -> Path:
    rows = [{"question": KNOWN, "answer": "so it is\n#### 5"}, {"question": OTHER, "answer": "#### 10"}]
    write(tmp_path / "data" / "gsm8k" / "test.jsonl", rows)
    return tmp_path / "data"


@pytest.fixture
def train(tmp_path) -> Path:
    return write(tmp_path / "train.jsonl", [{"text": f"Q: {KNOWN.upper()} A: 5", "n": 1}, {"text": "something else"}])


def invoke(*words) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["contamination", *map(str, words)])
    return result.exit_code, result.output


def test_what_stands_in_training_files_is_counted_and_named(train, data, tmp_path):
    status, said = invoke(train, "--suite", "gsm8k", "--data", data, "--out", tmp_path / "out")
    assert status == 0, said
    assert "gsm8k: 1 of 2 questions stands whole in the training texts, 1 shares 13 words in a row or more" in said
    assert f"gsm8k 0: 100 % of 20 words in {train}, row 1, text" in said
    figures = read_json(tmp_path / "out" / "contamination.json")["overlap"]["suites"]["gsm8k"]
    assert [figures[level] for level in ("exact", "whole", "half", "any")] == [0, 1, 1, 1]
    (row,) = read_rows(tmp_path / "out" / "overlap.jsonl")
    assert (row["index"], row["question"]) == (0, KNOWN)
    page = (tmp_path / "out" / "contamination.html").read_text()
    assert '<th class="name">gsm8k</th><td>2</td><td>0</td><td class="bad">1</td>' in page
    assert KNOWN in page
    assert "<script" not in page


def test_fields_words_and_limit(train, data, tmp_path):
    shorter = ("--suite", "gsm8k", "--data", data, "--words")
    first = " ".join(KNOWN.split()[:6])
    part = write(tmp_path / "part.jsonl", [{"text": f"{first}, she said"}])
    assert "none of 2 questions" in invoke(part, *shorter, 7)[1]
    assert "1 shares 6 words in a row or more" in invoke(part, *shorter, 6)[1]
    own = write(tmp_path / "own.jsonl", [{"q": OTHER, "a": "10"}, {"q": KNOWN, "a": "5"}])
    mapped = (train, "--suite", own, "--field", "question=q", "--field", "answer=a")
    assert "1 of 2 questions" in invoke(*mapped)[1]
    assert "none of 1 questions" in invoke(*mapped, "--limit", 1)[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "without a training file"),
        (("train.jsonl",), "train.jsonl: no such file"),
        (("{train}",), "without a suite"),
        (("{train}", "--suite", "gsm8k,gsm8k", "--data", "{data}"), "gsm8k is asked for twice"),
        (("{train}", "--suite", "gsm9k", "--data", "{data}"), "did you mean `gsm8k`"),
        (("{train}", "--suite", "gsm8k", "--data", "{data}", "--text", "txt"), "did you mean `text`"),
    ],
)
def test_what_cannot_be_done_is_said(train, data, words, said):
    status, output = invoke(*(word.format(train=train, data=data) for word in words))
    assert status == 2
    assert said in output


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A tiny model of bytes, as a folder."""
    from ixt_rl.blocks.model import NewModelBlock
    from ixt_rl.models import byte_tokenizer, new_model

    folder, tokenizer = tmp_path_factory.mktemp("models") / "tiny", byte_tokenizer()
    spec = NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, max_positions=256)
    new_model(spec, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_is_shown_parts_of_questions(tiny, train, data, tmp_path):
    out = tmp_path / "out"
    probe = ("--probe", tiny, "--suite", "gsm8k", "--data", data, "--out", out, "--answer-tokens", 8)
    status, said = invoke(*probe)
    assert status == 0, said
    figures = read_json(out / "contamination.json")["probe"]
    shares = figures["suites"]["gsm8k"]["shares"]
    assert list(shares) == ["0.4", "0.6", "0.8"]
    assert [(found["questions"], found["verbatim"]["value"]) for found in shares.values()] == [(2, 0.0)] * 3
    assert figures["said"].startswith("transformers ")
    assert len(read_rows(out / "probe.jsonl")) == 6
    assert invoke(train, "--suite", "gsm8k", "--data", data, "--out", out)[0] == 0
    assert set(read_json(out / "contamination.json")) == {"overlap", "probe"}
    page = (out / "contamination.html").read_text()
    assert "What tiny completes" in page
    assert "Overlap with training texts" in page
    status, said = invoke(*probe[:-1], 4)
    assert status == 2
    assert "answer_tokens: 8 there, 4 now" in said


def test_a_probe_for_which_there_is_no_room_is_refused(tiny, data):
    status, said = invoke("--probe", tiny, "--suite", "gsm8k", "--data", data, "--answer-tokens", 500)
    assert status == 2
    assert "the model has 256 positions" in said
    room = int(said.split("give --answer-tokens ")[1].split()[0])
    assert invoke("--probe", tiny, "--suite", "gsm8k", "--data", data, "--answer-tokens", room)[0] == 0
    assert invoke("--probe", tiny, "--suite", "gsm8k", "--data", data, "--answer-tokens", room + 1)[0] == 2
