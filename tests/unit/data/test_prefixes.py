"""Prefixes of documents in files: cut in token space, disjoint splits, what is left out is named."""

from __future__ import annotations

import pytest

from ixt_rl.blocks.data import PrefixDataBlock
from ixt_rl.data.prefixes import load_prefixes
from ixt_rl.errors import DataError
from ixt_rl.models import byte_tokenizer
from tests.unit.data.files import write

TOKENIZER = byte_tokenizer()


def spec(path: str, **changes) -> PrefixDataBlock:
    return PrefixDataBlock.model_validate({"path": path, "suffix_tokens": 4, "eval_rows": 3, **changes})


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_prefix_and_suffix_are_the_documents_last_tokens(tmp_path, ending):
    texts = [f"document {i} ends" for i in range(10, 30)]
    file = write(tmp_path / f"a.{ending}", [{"words": text} for text in texts])
    train, held_out = load_prefixes(spec(file, text="words"), TOKENIZER)
    assert (len(train), len(held_out)) == (17, 3)
    assert sorted(row["question"] + row["answer"] for row in [*train, *held_out]) == texts
    assert {row["answer"] for row in train} == {"nds"}  # EOS is the fourth token
    assert load_prefixes(spec(file, text="words"), TOKENIZER) == (train, held_out)
    few, _ = load_prefixes(spec(file, text="words", max_rows=5), TOKENIZER)
    assert len(few) == 2


def test_a_long_prefix_loses_its_beginning(tmp_path):
    file = write(tmp_path / "a.jsonl", [{"text": "abcdefghij"}] * 5)
    train, _ = load_prefixes(spec(file, max_prefix_tokens=4), TOKENIZER)
    assert {(row["question"], row["answer"]) for row in train} == {("efg", "hij")}  # BOS is one of the four


def test_a_prefix_that_would_be_tokenized_otherwise_is_left_out(tmp_path):
    class Merges:
        """Writes `xy` in one token where a text is encoded as a whole, and in two where it is cut between them."""

        def __getattr__(self, name):
            return getattr(TOKENIZER, name)

        def __call__(self, text=None, *args, **kwargs):
            return TOKENIZER("q" if text == "ax" else text, *args, **kwargs)

    file = write(tmp_path / "a.jsonl", [{"text": "axyzw"}, {"text": "bxyzw"}])
    train, _ = load_prefixes(spec(file, eval_rows=0), Merges())
    assert [row["question"] for row in train] == ["bx"]


def test_nothing_left_says_what_was_skipped(tmp_path):
    file = write(tmp_path / "a.jsonl", [{"text": "abc"}, {"text": "abcdef"}, {"text": "abcd   "}])
    with pytest.raises(DataError, match=r"(?s)1 prefixes of 3 documents.*too short: 1, blank suffix: 1"):
        load_prefixes(spec(file), TOKENIZER)
