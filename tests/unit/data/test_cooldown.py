"""Rows without feedback from a given row on: exactly from there, each token once, resumed anywhere."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import pytest

from ixt_rl.blocks.cooldown import cooldown_updates
from ixt_rl.conditioning import Conditioner, Conditioning
from ixt_rl.data.stream import DocumentStream
from ixt_rl.data.token_rows import PackedRows
from ixt_rl.errors import ConfigError
from ixt_rl.models import byte_tokenizer
from tests.unit.data.test_packed import SETTINGS, make, pieces_in, pieces_of, same, sequences, sources

assert sources  # a fixture
TOKENIZER = byte_tokenizer()


def shown(rows) -> list[bool]:
    """Of each row, whether some feedback stands in it."""
    return ["Quality" in TOKENIZER.decode(row["input_ids"]) for row in rows]


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("plain_from", [0, 1, 7, 15, 10_000])
def test_rows_show_feedback_up_to_a_row_and_never_after_it(sources, pack, position, plain_from):
    settings = Conditioning(SETTINGS.template, position, dropout=0.3, fraction=0.8)
    keywords = {"capacity": 200, "epochs": 2, "settings": settings, "pack": pack, "buffer": 5}
    with_all = list(make(sources, **keywords))
    rows = make(sources, **keywords, plain_from=plain_from)
    found = list(rows)
    assert same(found[:plain_from], with_all[:plain_from])
    assert not any(shown(found[plain_from:]))
    assert any(shown(with_all[plain_from:])) or plain_from == 10_000
    early, late = ([p for row in part for p in pieces_in(row)] for part in (found[:plain_from], found[plain_from:]))
    built = [pieces_of(s, 200)[0] for s in sequences(sources, 2, settings)]  # no document is longer than a row
    bare = [pieces_of(s, 200)[0] for s in sequences(sources, 2, Conditioning())]
    left = Counter(built) - Counter(early)  # the documents of the later rows
    expected: Counter = Counter()
    for full, plain in zip(built, bare, strict=True):
        if left[full] > 0:
            left[full] -= 1
            expected[plain] += 1
    assert Counter(late) == expected
    assert len(early) + len(late) == rows.counts.pieces == len(built)
    assert rows.counts.conditioned == sum("Quality" in TOKENIZER.decode(ids) for ids, _ in early)
    assert rows.counts.tokens == sum(len(row["input_ids"]) for row in found)
    assert rows.counts.tokens - rows.counts.feedback_tokens == sum(len(ids) for ids, _ in bare)


@pytest.mark.parametrize("capacity", [2, 11, 41])
def test_documents_longer_than_a_row_keep_all_of_their_text(sources, capacity):
    rows = make(sources, capacity, buffer=9, plain_from=40)
    found = list(rows)
    bare = Counter(i for s in sequences(sources, settings=Conditioning()) for i in s.input_ids)
    given = Counter(i for row in found for i in row["input_ids"].tolist())
    assert (given - bare).total() == rows.counts.feedback_tokens > 0
    assert not bare - given
    assert all(row["input_ids"].size for row in found)
    assert sum(len(pieces_in(row)) for row in found) == rows.counts.pieces
    plain = make(sources, capacity, buffer=9, plain_from=0)
    assert Counter(i for row in plain for i in row["input_ids"].tolist()) == bare
    assert plain.counts.feedback_tokens == plain.counts.conditioned == 0


@pytest.mark.parametrize("pack", [True, False])
def test_rows_resume_bit_for_bit_on_both_sides_of_the_switch(sources, pack):
    keywords = {"capacity": 96, "epochs": 1, "pack": pack, "buffer": 6, "plain_from": 15}
    whole = list(make(sources, **keywords))
    assert len(whole) > 15
    counts = make_counts(sources, keywords)
    stopped = make(sources, **keywords)
    given = iter(stopped)
    for cut in range(len(whole) + 1):
        resumed = make(sources, **keywords)
        resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
        assert same(list(resumed), whole[cut:])
        assert resumed.counts == counts
        list(islice(given, 1))


def make_counts(sources, keywords):
    rows = make(sources, **keywords)
    list(rows)
    return rows.counts


def test_a_cursor_of_another_switch_is_refused_and_one_without_any_is_as_it_was(sources):
    assert "rows" not in make(sources, 96).state_dict()
    state = make(sources, 96, plain_from=3).state_dict()
    with pytest.raises(ConfigError, match="plain_from"):
        make(sources, 96, plain_from=4).load_state_dict(state)
    with pytest.raises(ConfigError, match="plain_from"):
        make(sources, 96).load_state_dict(state)


def test_a_chat_is_refused(sources):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    conditioner = Conditioner(tokenizer, Conditioning(SETTINGS.template, chat=True))
    with pytest.raises(ConfigError, match="system message"):
        PackedRows(DocumentStream(sources, 0, 1), conditioner, 200, plain_from=3)


@pytest.mark.parametrize(
    ("share", "steps", "updates"),
    [(0.0, 100, 0), (0.1, 100, 10), (0.1, 14, 1), (0.25, 10, 2), (0.01, 5, 1), (0, -1, 0)],
)
def test_the_share_is_of_the_updates(share, steps, updates):
    assert cooldown_updates(share, steps, shows=True, chat=False) == updates


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"share": 1.0}, "below 1"),
        ({"share": -0.1}, "below 1"),
        ({"shows": False}, "no feedback"),
        ({"chat": True}, "system message"),
        ({"steps": -1}, "give steps"),
    ],
)
def test_what_has_no_last_rows_with_feedback_is_refused(change, says):
    with pytest.raises(ConfigError, match=says):
        cooldown_updates(**{"share": 0.1, "steps": 10, "shows": True, "chat": False, **change})
