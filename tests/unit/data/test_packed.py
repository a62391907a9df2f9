"""Rows hold every token once, keep documents apart, and go on exactly where they were stopped."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.conditioning import Conditioner, Conditioning, load_feedback_template
from ixt_rl.conditioning.batching import block_causal_mask
from ixt_rl.data.best_fit import best_fit
from ixt_rl.data.document_source import DocumentSource
from ixt_rl.data.piece_buffer import IGNORED
from ixt_rl.data.stream import DocumentStream
from ixt_rl.data.token_rows import PackedRows
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.types import TokenSequence
from tests.unit.data.files import documents, write

SETTINGS = Conditioning(load_feedback_template("levels"), dropout=0.3, fraction=0.8)


@pytest.fixture
def sources(tmp_path):
    files = (write(tmp_path / "a.jsonl", documents("a", 23)), write(tmp_path / "b.parquet", documents("b", 17)))
    return [DocumentSource(files), DocumentSource((write(tmp_path / "c.jsonl", documents("c", 31)),), weight=2.0)]


def make(sources, capacity=96, epochs=1, settings=SETTINGS, **keywords) -> PackedRows:
    return PackedRows(
        DocumentStream(sources, 1, epochs), Conditioner(byte_tokenizer(), settings, 1), capacity, **keywords
    )


def sequences(sources, epochs=1, settings=SETTINGS) -> list[TokenSequence]:
    found = list(DocumentStream(sources, 1, epochs))
    return Conditioner(byte_tokenizer(), settings, 1)(found, 0)


Piece = tuple[tuple[int, ...], tuple[int, ...]]


def pieces_of(sequence: TokenSequence, capacity: int) -> list[Piece]:
    """(ids, labels) of a sequence cut into pieces."""
    labels = [i if m else IGNORED for i, m in zip(sequence.input_ids, sequence.loss_mask, strict=True)]
    cuts = range(0, len(sequence), capacity)
    return [(sequence.input_ids[c : c + capacity], (IGNORED, *labels[c + 1 : c + capacity])) for c in cuts]


def pieces_in(row: dict[str, np.ndarray]) -> list[Piece]:
    found = []
    for segment in range(1, int(row["segment_ids"].max()) + 1):
        here = row["segment_ids"] == segment
        assert (np.diff(np.flatnonzero(here)) == 1).all()
        assert row["position_ids"][here].tolist() == list(range(here.sum()))
        found.append((tuple(row["input_ids"][here].tolist()), tuple(row["labels"][here].tolist())))
    return found


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("buffer", [1, 3, 256])
@pytest.mark.parametrize("capacity", [2, 41, 96, 500])
@pytest.mark.parametrize("position", ["before", "after"])
def test_rows_hold_the_tokens_of_the_kernel_each_once(sources, pack, buffer, capacity, position):
    settings = Conditioning(SETTINGS.template, position, dropout=0.3, fraction=0.8)
    rows = list(make(sources, capacity, 2, settings, pack=pack, buffer=buffer))
    built = sequences(sources, 2, settings)
    expected = [piece for sequence in built for piece in pieces_of(sequence, capacity)]
    found = [piece for row in rows for piece in pieces_in(row)]
    assert Counter(found) == Counter(expected)
    assert sum(len(row["input_ids"]) for row in rows) == sum(map(len, built))
    assert all(len(row["input_ids"]) <= capacity for row in rows)
    assert all(array.dtype == np.int32 and len(array) == len(row["labels"]) for row in rows for array in row.values())
    if not pack:
        assert found == expected
        assert all(row["segment_ids"].max() == 1 for row in rows)
    elif capacity == 500 and buffer == 256:
        assert len(rows) < len(built) / 2


def token_logprobs(model, row) -> list[torch.Tensor]:
    """Per segment, the log-probs of its trained tokens."""
    tensors = {name: torch.tensor(array, dtype=torch.long)[None] for name, array in row.items()}
    with torch.no_grad():
        logits = model(
            input_ids=tensors["input_ids"],
            position_ids=tensors["position_ids"],
            attention_mask=block_causal_mask(tensors["segment_ids"]),
        ).logits
    targets = tensors["labels"][0, 1:]
    taken = logits[0, :-1].log_softmax(-1).gather(1, targets.clamp(min=0)[:, None])[:, 0]
    segments = tensors["segment_ids"][0, 1:]
    return [taken[(segments == s) & (targets != IGNORED)] for s in range(1, int(segments.max()) + 1)]


def test_packed_documents_have_the_logprobs_that_they_have_alone(sources):
    spec = NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, init_std=0.2)
    model = new_model(spec, byte_tokenizer()).eval()
    alone = {}
    for row in make(sources, 200, pack=False):
        alone[pieces_in(row)[0]] = token_logprobs(model, row)[0]
    packed = list(make(sources, 200))
    assert max(row["segment_ids"].max() for row in packed) > 3
    seen = 0
    for row in packed:
        for piece, logprobs in zip(pieces_in(row), token_logprobs(model, row), strict=True):
            torch.testing.assert_close(logprobs, alone[piece], rtol=1e-5, atol=1e-5)
            seen += 1
    assert seen == len(alone) == 71


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize(("epochs", "count"), [(2, 400), (None, 90)])
def test_rows_resume_bit_for_bit_after_every_row(sources, pack, epochs, count):
    keywords = {"capacity": 96, "epochs": epochs, "pack": pack, "buffer": 6}
    whole = list(islice(make(sources, **keywords), count))
    stopped = make(sources, **keywords)
    given = iter(stopped)
    step = 1 if pack else 7
    for cut in range(0, len(whole) + 1, step):
        state = json.loads(json.dumps(stopped.state_dict()))
        resumed = make(sources, **keywords)
        resumed.load_state_dict(state)
        if cut % (step * 5) == 0:  # to the end now and then, elsewhere far enough to be in the next buffer
            assert same(list(islice(resumed, len(whole) - cut)), whole[cut:])
        else:
            assert same(list(islice(resumed, min(9, len(whole) - cut))), whole[cut : cut + 9])
        list(islice(given, step))
    assert len(json.dumps(state)) < 1500
    assert stopped.counts.documents > 100


def test_counts_say_what_was_read(sources):
    rows = make(sources, 60)
    found = list(rows)
    built = sequences(sources)
    assert rows.counts.documents == len(built) == 71
    assert rows.counts.tokens == sum(map(len, built)) == sum(len(row["input_ids"]) for row in found)
    assert rows.counts.cut == sum(len(s) > 60 for s in built) > 0
    assert rows.counts.pieces == sum(int(row["segment_ids"].max()) for row in found)
    feedback = [sum(role == 1 for role in s.role_ids) for s in built]
    assert rows.counts.feedback_tokens == sum(feedback)
    assert 0 < rows.counts.conditioned == sum(map(bool, feedback)) < 71
    resumed = make(sources, 60)
    resumed.load_state_dict(rows.state_dict())
    assert list(resumed) == []
    assert resumed.counts == rows.counts


def test_a_chat_is_packed_too(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    rows = [{**row, "ask": f"q{i}"} for i, row in enumerate(documents("a", 9))]
    source = DocumentSource((write(tmp_path / "x.jsonl", rows),), prompt="ask")
    conditioner = Conditioner(tokenizer, Conditioning(SETTINGS.template, chat=True))
    packed = PackedRows(DocumentStream([source], 0, 1), conditioner, 200)
    found = Counter(piece for row in packed for piece in pieces_in(row))
    built = conditioner(list(DocumentStream([source], 0, 1)), 0)
    assert found == Counter(piece for s in built for piece in pieces_of(s, 200))
    assert packed.counts.conditioned == 7  # two of nine levels are null
    assert packed.counts.cut == 0


def test_rows_of_a_buffer_do_not_come_longest_first(sources):
    longest = [max(np.bincount(row["segment_ids"])) for row in make(sources, 128)]
    assert longest != sorted(longest, reverse=True)


@pytest.mark.parametrize("capacity", [7, 100, 2048])
def test_best_fit_takes_each_piece_once_and_fills_rows(capacity):
    generator = np.random.default_rng(capacity)
    lengths = np.minimum(generator.geometric(min(0.6, 8 / capacity), 4000), capacity).tolist()
    rows = best_fit(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(4000))
    sums = [sum(lengths[i] for i in row) for row in rows]
    assert max(sums) <= capacity
    assert sum(sums) / (len(rows) * capacity) > 0.99
    assert all(row == sorted(row) for row in rows)


def test_best_fit_by_hand():
    # 6 opens a row with room 4, 5 one with room 5; 4 goes where it fits best, 3 and 2 into what is left of the second
    assert best_fit([2, 3, 4, 5, 6], 10) == [[2, 4], [0, 1, 3]]
    assert best_fit([], 10) == []


@pytest.mark.parametrize(
    ("capacity", "buffer", "named"), [(1, 4, "capacity=1"), (0, 4, "capacity=0"), (8, 0, "buffer=0")]
)
def test_sizes_that_cannot_work_are_refused(sources, capacity, buffer, named):
    with pytest.raises(ConfigError, match=named):
        make(sources, capacity, buffer=buffer)


def test_a_cursor_of_other_rows_is_refused(sources):
    state = make(sources, 96).state_dict()
    with pytest.raises(ConfigError, match="capacity"):
        make(sources, 97).load_state_dict(state)
    with pytest.raises(DataError, match="cursor"):
        make(sources[:1], 96).load_state_dict(state)
