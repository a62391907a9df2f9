"""Preference pairs of files: which rows are pairs, who is held out, and what levels replies have."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from ixt_rl.blocks.preferences import PairsBlock
from ixt_rl.conditioning import Conditioner, Conditioning, PromptTemplate
from ixt_rl.data.preferences import as_documents, pairs_and_notes, read_pairs, set_aside
from ixt_rl.errors import DataError
from tests.unit.conditioning.chats import CHATML, chat_tokenizer


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(contents)]


def write(path: Path, rows: list[dict]) -> PairsBlock:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return PairsBlock(path=str(path), prompt="messages")


def row(prompt, chosen="good", rejected="bad") -> dict:
    return {"messages": prompt, "chosen": chosen, "rejected": rejected}


def test_rows_are_pairs_of_replies_to_one_prompt(tmp_path):
    block = write(tmp_path / "pairs.jsonl", [row(said("a", "b", "c")), row(said("d"), chosen=None), row("text")])
    first, last = read_pairs(block)
    assert (first.chosen.text, first.rejected.text) == ("good", "bad")
    assert first.chosen.turns == first.rejected.turns == (("user", "a"), ("assistant", "b"), ("user", "c"))
    assert (last.chosen.prompt, last.rejected.prompt, last.begins) == ("text", "text", ("text",))
    assert first.begins == ("a",)


def test_a_column_that_is_not_there_is_named(tmp_path):
    block = write(tmp_path / "pairs.jsonl", [row("text")]).model_copy(update={"rejected": "rejcted"})
    with pytest.raises(DataError, match="no column 'rejcted'"):
        read_pairs(block)


def test_a_file_without_a_whole_pair_is_refused(tmp_path):
    with pytest.raises(DataError, match="no pair"):
        read_pairs(write(tmp_path / "pairs.jsonl", [row("x", chosen=""), row("y", rejected=" "), *[row("", "z")]]))


def test_conversations_that_begin_alike_stay_on_one_side(tmp_path):
    asked = [said(f"q{n}", *more) for n in range(200) for more in ((), "ab")]
    rows = [row([{"role": "system", "content": "s"}, *turns]) for turns in asked]
    pairs = read_pairs(write(tmp_path / "pairs.jsonl", rows))
    trained, held = set_aside(pairs, 0.4)
    assert len(trained) + len(held) == len(pairs)
    assert 120 <= len(held) <= 200
    assert {pair.begins for pair in trained}.isdisjoint(pair.begins for pair in held)
    assert set_aside(pairs[::-1], 0.4)[1] == held[::-1]  # whatever their order
    assert set_aside(pairs, None) == (pairs, pairs)


def test_levels_are_the_preference_and_shuffled_ones_are_not(tmp_path):
    pairs = read_pairs(write(tmp_path / "pairs.jsonl", [row(f"q{n}") for n in range(50)]))
    documents = as_documents(pairs, seed=1)
    assert all((d.feedback.level, d.text) in ((5, "good"), (1, "bad")) for d in documents)
    mixed = as_documents(pairs, seed=1, shuffle=True)
    levels = [d.feedback.level for d in mixed]
    assert [d.text for d in mixed] == [d.text for d in documents]
    assert levels.count(5) == levels.count(1) == 50  # the same levels,
    right = sum((d.feedback.level == 5) == (d.text == "good") for d in mixed)
    assert 35 <= right <= 65  # of other replies
    assert mixed == as_documents(pairs, seed=1, shuffle=True) != as_documents(pairs, seed=2, shuffle=True)


@pytest.mark.parametrize("chat", [True, False])
def test_a_reply_that_is_cut_is_not_trained_to_end(tmp_path, chat):
    tokenizer = chat_tokenizer(CHATML, "<|im_end|>")
    reply = as_documents(read_pairs(write(tmp_path / "pairs.jsonl", [row("q", "0123456789")])), 0)[0]

    def trained(most: int | None) -> list[int]:
        (shown,) = Conditioner(tokenizer, Conditioning(chat=chat, max_reply_tokens=most))([reply], first=0)
        return [token for token, loss in zip(shown.input_ids, shown.loss_mask, strict=True) if loss]

    whole = trained(None)
    assert tokenizer.decode(whole) == "0123456789<|im_end|>"
    assert trained(10) == whole
    assert trained(9) == whole[:9]


@pytest.mark.parametrize(
    "template",
    [
        PromptTemplate("Q: {question}\nA: "),
        PromptTemplate("{question}", chat=True, system="be brief", examples=[{"question": "1", "answer": "2"}]),
    ],
    ids=["plain", "few-shot"],
)
def test_what_is_held_out_is_the_same_however_prompts_are_shown(tmp_path, template):
    """Arms of one run may show prompts otherwise; few-shot turns come first in every conversation."""
    rows = [row(f"q{n}") for n in range(40)] + [row(said(f"r{n}", "b", "c")) for n in range(40)]
    block = write(tmp_path / "pairs.jsonl", rows)
    as_they_are, shown = read_pairs(block), read_pairs(block, template)
    assert [pair.begins for pair in shown] == [pair.begins for pair in as_they_are]
    places = [[pairs.index(pair) for pair in set_aside(pairs, 0.4)[1]] for pairs in (as_they_are, shown)]
    assert places[0] == places[1] and 10 < len(places[0]) < 60


def conversation(*contents: str, system: str = "") -> list[dict]:
    """Of user and assistant in turn."""
    turns = [{"role": "user" if n % 2 == 0 else "assistant", "content": c} for n, c in enumerate(contents)]
    return [*([{"role": "system", "content": system}] if system else []), *turns]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_chosen_and_rejected_may_be_whole_conversations(tmp_path, ending):
    rows = [
        {"chosen": conversation("a", "good", system="s"), "rejected": conversation("a", "bad", system="s")},
        {"chosen": conversation("a", "b", "c", "good"), "rejected": conversation("a", "b", "c", "bad")},
        {"chosen": conversation("a", "b", "c", "good"), "rejected": conversation("a", "x", "c", "bad")},
        {"chosen": conversation("a", "good"), "rejected": []},
    ]
    path = tmp_path / f"pairs.{ending}"
    if ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    (first, second), notes = pairs_and_notes(PairsBlock(path=str(path), prompt=None))
    assert first.chosen.turns == (("system", "s"), ("user", "a")) and first.begins == ("s", "a")
    assert second.rejected.turns == (("user", "a"), ("assistant", "b"), ("user", "c"))
    assert [(one.chosen.text, one.rejected.text) for one in (first, second)] == [("good", "bad")] * 2
    assert notes == [
        "1 of 4 rows have no prompt or no reply and are no pair",
        "1 of 4 rows have conversations that part before their last message and are no pair",
    ]


@pytest.mark.parametrize("prompt", ["a", conversation("a")])
@pytest.mark.parametrize("system", ["", "s"])
def test_conversations_may_repeat_the_prompt_of_their_row(tmp_path, prompt, system):
    pair = {"chosen": conversation("a", "good", system=system), "rejected": conversation("a", "bad", system=system)}
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": prompt, **pair}) + "\n")
    (found,) = read_pairs(PairsBlock(path=str(tmp_path / "pairs.jsonl")))
    assert found.chosen.turns == (*([("system", "s")] if system else []), ("user", "a"))
    assert (found.chosen.text, found.rejected.text) == ("good", "bad")


@pytest.mark.parametrize(
    ("prompt", "chosen", "says"),
    [
        ("other", conversation("a", "good"), "another prompt than the row's own"),
        ("a", conversation("a", "b", "a", "good"), "another prompt than the row's own"),
        ("a", conversation("a"), "the last one"),
        (None, "Human: a Assistant: good", "it is no conversation"),
        (None, conversation("a")[:0] + [{"role": "assistant", "content": "good"}], "the last one"),
    ],
)
def test_what_is_no_reply_to_a_prompt_is_refused(tmp_path, prompt, chosen, says):
    row = {"chosen": chosen, "rejected": chosen} | ({} if prompt is None else {"prompt": prompt})
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=says):
        read_pairs(PairsBlock(path=str(tmp_path / "pairs.jsonl"), prompt=None if prompt is None else "prompt"))
