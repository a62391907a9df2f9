"""What is held out depends on the documents alone, and never comes in training, in whatever mixture or place."""

from __future__ import annotations

import json
from itertools import islice

import pytest

from ixt_rl.data.document_source import DocumentSource
from ixt_rl.data.holdout import Holdout
from ixt_rl.data.stream import DocumentStream
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.types import Feedback
from tests.unit.data.files import documents, write


@pytest.fixture
def sources(tmp_path):
    first = write(tmp_path / "a.jsonl", [{"text": " "}, *documents("a", 40), {"text": "copy"}])
    rest = write(tmp_path / "b.parquet", documents("b", 60, annotated=False))
    copies = write(tmp_path / "c.json", [*documents("c", 9), {"text": "copy"}, *documents("a", 3)])
    return [
        DocumentSource((first,), feedback=None),
        DocumentSource((rest,), feedback=None, weight=3.0),
        DocumentSource((copies,), feedback=None, weight=0.5),
    ]


def texts(found) -> list[str]:
    return [document.text for document in found]


@pytest.mark.parametrize("amount", [1, 3, 0.2])
def test_training_gives_everything_but_what_is_held_out(sources, amount):
    held = Holdout(sources, amount)
    aside = {text for of_source in held.documents for text in texts(of_source)}
    everything = set(texts(DocumentStream(sources, 0, epochs=1)))
    trained = texts(DocumentStream(sources, 0, epochs=2, holdout=held))
    assert set(trained) == everything - aside
    assert aside <= everything
    expected = [text for text in texts(DocumentStream(sources, 0, epochs=2)) if text not in aside]
    assert sorted(trained) == sorted(expected)


def test_rows_are_the_first_that_differ_and_their_copies_go_too(sources):
    held = Holdout(sources, 2)
    assert [texts(found) for found in held.documents] == [
        [row["text"] for row in documents(letter, 2)] for letter in "abc"
    ]
    assert held.documents[0][0].text not in texts(DocumentStream(sources[2:], 0, epochs=1, holdout=held))


def test_a_share_goes_by_content_in_whichever_source(sources):
    held = Holdout(sources, 0.3)
    everything = sum(len(set(texts(DocumentStream([source], 0, epochs=1)))) for source in sources)
    assert 0.2 < sum(map(len, held.documents)) / everything < 0.4
    alone = [Holdout([source], 0.3).documents[0] for source in sources]
    assert alone == held.documents
    assert Holdout(sources[::-1], 0.3).documents == held.documents[::-1]


def test_neither_feedback_nor_weights_nor_seed_change_what_is_held_out(tmp_path):
    file = write(tmp_path / "a.jsonl", documents("a", 40))
    plain, annotated = DocumentSource((file,), feedback=None), DocumentSource((file,), weight=7.0)
    for amount in (5, 0.3):
        assert Holdout([plain], amount).documents == [
            [document.__class__(d.text, d.prompt, None, d.key) for d in found for document in [d]]
            for found in Holdout([annotated], amount).documents
        ]
    held = Holdout([annotated], 5)
    assert all(document.feedback is None for document in held.documents[0])
    assert any(isinstance(d.feedback, Feedback) for d in DocumentStream([annotated], 0, 1, held))


def test_a_mixture_keeps_its_weights_beside_a_large_holdout(sources):
    held = Holdout(sources[:2], 30)  # most of the first source
    given = texts(islice(DocumentStream(sources[:2], 0, holdout=held), 4000))
    assert sum(text[0] == "b" for text in given) / len(given) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("amount", [4, 0.2])
def test_a_stream_goes_on_where_it_stopped(sources, amount):
    straight = texts(islice(DocumentStream(sources, 5, holdout=Holdout(sources, amount)), 200))
    for stop in (1, 37, 150):
        stream = DocumentStream(sources, 5, holdout=Holdout(sources, amount))
        found = texts(islice(stream, stop))
        state = json.loads(json.dumps(stream.state_dict()))
        resumed = DocumentStream(sources, 5, holdout=Holdout(sources, amount))
        resumed.load_state_dict(state)
        assert found + texts(islice(resumed, 200 - stop)) == straight
    with pytest.raises(DataError, match="cursor"):
        DocumentStream(sources, 5, holdout=Holdout(sources, 1)).load_state_dict(state)
    with pytest.raises(DataError, match="cursor"):
        DocumentStream(sources, 5).load_state_dict(state)


def test_replies_are_told_apart_by_their_prompts(tmp_path):
    rows = [{"text": "Yes.", "prompt": str(i)} for i in range(6)]
    source = DocumentSource((write(tmp_path / "a.jsonl", rows),), prompt="prompt", feedback=None)
    held = Holdout([source], 2)
    assert [d.prompt for d in held.documents[0]] == ["0", "1"]
    assert [d.prompt for d in DocumentStream([source], 0, 1, held)] == ["2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("amount", "says"),
    [(3, "none to train on"), (99, "none to train on"), (1e-9, "took none"), (1 - 1e-12, "none to train on")],
)
def test_nothing_left_or_nothing_held_is_refused(tmp_path, amount, says):
    source = DocumentSource((write(tmp_path / "a.jsonl", documents("a", 3)),), feedback=None)
    with pytest.raises(DataError, match=says):
        Holdout([source], amount)


@pytest.mark.parametrize("amount", [0, -1, 0.0, 1.0, 1.5, True, float("nan")])
def test_what_is_no_amount_is_refused(amount):
    with pytest.raises(ConfigError, match="holdout"):
        Holdout([], amount)
