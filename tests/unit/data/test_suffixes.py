"""Documents are cut in token space, whole, and the stream goes on exactly where it was stopped."""

from __future__ import annotations

import json
import random
from itertools import islice

import pytest

from ixt_rl.data.document_source import DocumentSource
from ixt_rl.data.in_memory import MemoryCorpus
from ixt_rl.data.stream import DocumentStream
from ixt_rl.data.suffixes import PrefixSuffix, SuffixCounts, SuffixStream
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.models import byte_tokenizer
from ixt_rl.types import Document
from tests.unit.data.files import documents, write

TOKENIZER = byte_tokenizer()
BOS, EOS = TOKENIZER.bos_token_id, TOKENIZER.eos_token_id


class Given:
    """Documents of a list, once, with a cursor."""

    def __init__(self, *texts: str | Document):
        self.all = [Document(text, key=text[:9]) if isinstance(text, str) else text for text in texts]
        self.index = 0

    def __iter__(self):
        while self.index < len(self.all):
            self.index += 1
            yield self.all[self.index - 1]

    def state_dict(self):
        return {"index": self.index}

    def load_state_dict(self, state):
        self.index = state["index"]


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def cut(*texts: str | Document, **settings) -> tuple[list[PrefixSuffix], SuffixCounts]:
    stream = SuffixStream(Given(*texts), TOKENIZER, **settings)
    return list(stream), stream.counts


def test_prefix_and_suffix_are_the_document():
    """Random texts of many scripts, random lengths: every one is given whole or skipped for the stated reason."""
    rng = random.Random(0)
    alphabet = "abc  \n.,éß漢字🙂\u0301"
    for _ in range(300):
        text = "x" + "".join(rng.choices(alphabet, k=rng.randint(0, 60)))
        n, least = rng.randint(1, 40), rng.randint(1, 5)
        whole = (BOS, *ids(text), EOS)
        found, counts = cut(text, suffix_tokens=n, min_prefix_tokens=least, max_prefix_tokens=1000)
        if found:
            (item,) = found
            assert item.prefix_ids + item.suffix_ids == whole
            assert len(item.suffix_ids) == n and len(item.prefix_ids) > least
            ends = TOKENIZER.decode(item.suffix_ids, skip_special_tokens=True)
            assert text.endswith(ends) and not ends.isspace() and ends
        (reason,) = counts.skipped or ["given"]
        kept = len(whole) - 1 - n
        suffix = text.encode()[kept:]
        if kept < least:
            assert reason == "too short"
        elif not suffix.strip(b" \n"):
            assert reason == "blank suffix"
        else:
            assert reason == ("split character" if suffix[0] & 0xC0 == 0x80 else "given")


def test_a_long_document_keeps_bos_and_the_end():
    (item,), counts = cut("0123456789abcdef", suffix_tokens=4, max_prefix_tokens=6)
    assert item.prefix_ids == (BOS, *ids("89abc")) and item.suffix_ids == (*ids("def"), EOS)
    assert counts == SuffixCounts(documents=1, given=1, shortened=1)
    (item,), counts = cut("0123456789abcdef", suffix_tokens=4, max_prefix_tokens=14)
    assert len(item.prefix_ids) == 14 and counts.shortened == 0


def test_the_suffix_is_never_cut_from_a_prompt():
    question = Document("4 + 4 = 8", prompt="2 * 4 = ", key="q")
    (item,), _ = cut(question, suffix_tokens=50)
    assert item == PrefixSuffix((BOS, *ids("2 * 4 = ")), (*ids("4 + 4 = 8"), EOS), "q")
    (item,), _ = cut(question, suffix_tokens=4)
    assert item == PrefixSuffix((BOS, *ids("2 * 4 = 4 + 4 ")), (*ids("= 8"), EOS), "q")


def visits(stream: SuffixStream, count: int) -> list[PrefixSuffix]:
    return [*islice(stream, count)]


def test_anywhere_is_each_place_alike_and_another_one_in_every_pass():
    text = "0123456789"
    whole = (BOS, *ids(text), EOS)
    corpus = MemoryCorpus([Document(text, key="d")], seed=0)
    stream = SuffixStream(corpus, TOKENIZER, suffix_tokens=4, min_prefix_tokens=2, max_prefix_tokens=5, cut="anywhere")
    found = visits(stream, 1200)
    places = [whole.index(item.suffix_ids[0]) for item in found]
    assert {*places} == {*range(3, len(whole) - 4 + 1)}  # behind BOS and two tokens, up to the document's end
    assert min(places.count(place) for place in {*places}) > 1200 / 6 * 0.8
    for item, place in zip(found, places, strict=True):
        assert item.suffix_ids == whole[place : place + 4]
        assert item.prefix_ids == (BOS, *whole[max(1, place - 4) : place])  # at most five, BOS among them
    other = SuffixStream(corpus, TOKENIZER, suffix_tokens=4, min_prefix_tokens=2, cut="anywhere", seed=1)
    assert [whole.index(item.suffix_ids[0]) for item in visits(other, 100)] != places[:100]


def test_anywhere_of_a_reply_is_never_in_its_prompt():
    question = Document("4 + 4 = 8", prompt="2 * 4 = ", key="q")
    stream = SuffixStream(MemoryCorpus([question], seed=0), TOKENIZER, suffix_tokens=4, cut="anywhere")
    found = {*visits(stream, 200)}
    prompt = (BOS, *ids("2 * 4 = "))
    assert len(found) == 7 and all(item.prefix_ids[: len(prompt)] == prompt for item in found)
    assert {item.prefix_ids for item in found} == {prompt + ids("4 + 4 = 8")[:n] for n in range(7)}


def test_anywhere_goes_on_where_it_was_stopped_and_says_how_it_cuts():
    def made(seed: int = 0, cut: str = "anywhere") -> SuffixStream:
        corpus = MemoryCorpus([Document(row["text"], key=str(i)) for i, row in enumerate(documents("m", 5))], seed=3)
        return SuffixStream(corpus, TOKENIZER, suffix_tokens=4, cut=cut, seed=seed)

    straight, begun, resumed = made(), made(), made()
    expected = visits(straight, 23)
    visits(begun, 9)
    state = json.loads(json.dumps(begun.state_dict()))
    resumed.load_state_dict(state)
    assert visits(resumed, 14) == expected[9:]
    for other in (made(seed=1), made(cut="end")):
        with pytest.raises(ConfigError, match="a cursor over suffixes"):
            other.load_state_dict(state)
    assert "cut" not in made(cut="end").state_dict()["cutting"]  # a cursor of before is one of now
    with pytest.raises(ConfigError, match="did you mean `anywhere`"):
        made(cut="anywere")


def test_skipped_documents_are_counted_by_reason():
    def skip(document: Document) -> str:
        return "an advertisement" if "buy" in document.text else ""

    found, counts = cut(
        "short", "buy this long text", "long enough to be cut", "ends in blanks         ", "漢字漢字漢字漢字漢字",
        suffix_tokens=6, skip=skip,
    )  # fmt: skip
    assert [item.key for item in found] == ["long enou"]
    reasons = {"too short": 1, "an advertisement": 1, "blank suffix": 1, "split character": 1}
    assert counts == SuffixCounts(documents=5, given=1, skipped=reasons)


def stream_of_files(tmp_path) -> SuffixStream:
    sources = [
        DocumentSource(
            (write(tmp_path / "a.jsonl", documents("a", 9)), write(tmp_path / "b.parquet", documents("b", 7)))
        ),
        DocumentSource((write(tmp_path / "c.json", documents("c", 5)),), weight=2.0),
    ]
    return SuffixStream(DocumentStream(sources, 1, epochs=2), TOKENIZER, suffix_tokens=8, max_prefix_tokens=12)


def stream_of_memory(tmp_path) -> SuffixStream:
    corpus = MemoryCorpus([Document(row["text"], key=str(i)) for i, row in enumerate(documents("m", 11))], seed=3)
    return SuffixStream(corpus, TOKENIZER, suffix_tokens=8, max_prefix_tokens=12)


@pytest.mark.parametrize("make", [stream_of_files, stream_of_memory])
def test_resuming_at_every_place_gives_the_same_items_and_counts(make, tmp_path):
    most = 30
    stream = make(tmp_path)
    states, found = [stream.state_dict()], []
    for item in islice(stream, most):
        found.append(item)
        states.append(json.loads(json.dumps(stream.state_dict())))
    assert stream.counts.skipped["too short"] > 0 and stream.counts.shortened > 0 and len(found) > 20
    for given, state in enumerate(states):
        resumed = make(tmp_path)
        resumed.load_state_dict(state)
        assert list(islice(resumed, most - given)) == found[given:]
        assert resumed.counts == stream.counts
    stream.load_state_dict(states[3])  # also one that has gone on
    assert next(iter(stream)) == found[3] and next(iter(stream)) == found[4]


def test_a_cursor_of_other_cuts_is_refused(tmp_path):
    state = stream_of_memory(tmp_path).state_dict()
    with pytest.raises(ConfigError, match="'suffix_tokens': 8"):
        SuffixStream(Given("a"), TOKENIZER, suffix_tokens=9, max_prefix_tokens=12).load_state_dict(state)


@pytest.mark.parametrize(
    "lengths", [{"suffix_tokens": 0}, {"min_prefix_tokens": 0}, {"max_prefix_tokens": 1}, {"min_prefix_tokens": 2000}]
)
def test_lengths_that_cut_nothing_are_refused(lengths):
    with pytest.raises(ConfigError, match="no document can be cut"):
        SuffixStream(Given("a"), TOKENIZER, **lengths)


def test_a_stream_without_a_usable_document_ends_in_an_error(monkeypatch):
    monkeypatch.setattr(SuffixStream, "_PATIENCE", 5)
    stream = SuffixStream(MemoryCorpus([Document("short"), Document("  ")], 0), TOKENIZER, suffix_tokens=20)
    with pytest.raises(DataError, match=r"5 documents in a row[^\n]*\n.*too short: 5"):
        next(iter(stream))
