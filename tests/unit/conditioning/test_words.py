"""Text tokenized in pieces has the ids that the tokenizer gives it whole."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from ixt_rl.conditioning import word_cache as words
from ixt_rl.conditioning.word_cache import PATTERNS, WordCache, cuts_are_exact

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
ByteLevel = pre_tokenizers.ByteLevel

HARD = (
    "don't won''t 'S IT'S x's' '' a'b 's'5 rock'n'roll",
    "a  b   c\t d \t e\n f\n\ng \n \n h\r\ni  \n  5  7\n8 \n9",
    "3.14,15=9e10 x2y3 $12,345.67 1234567 ##5 -- 6 <<12*5=60>>60 a.b.c 5th 2nd",
    "na\u00efve e\u0301 a\u0338 x\u0301y <\u0338 5\u0301 \u4e2d\u6587abc\u4e2d 5\u4e2d6 \u00bd\u00b25",
    "\u00a0a \u00a05 a\u00a0b\u2003c \u20ac5 \u2019s it\u2019s",
    "\x00a\x1f5\x1c \x1cb\x0b5\x0c c\x85d <eos> a<eos>b 5<eos>5 <eos>< eos>",
    "   ",
    " ",
    "",
    "\n5",
    " 5",
    "-" * 200 + "a",
)
ALPHABET = "abXY059 '-.,$(\n\t\r\x1c\u00e9\u0301\u0338\u4e2d\u00bd\u00a0\u2019\u017f" + " " * 6 + "'sst"


def tokenizer(splitter, normalizer=None, vocabulary: int = 2000) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = splitter
    if normalizer is not None:
        made.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<eos>"],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    # Every text comes twice, so that merges that span a wrong cut would be learnt.
    made.train_from_iterator([*HARD, *HARD, *noise(400), *noise(400)], trainer)
    return made


def noise(count: int) -> list[str]:
    generator = random.Random(0)
    return ["".join(generator.choices(ALPHABET, k=generator.randrange(1, 60))) for _ in range(count)]


def split(pattern: str):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


KNOWN = [ByteLevel(add_prefix_space=False), *map(split, PATTERNS)]


@pytest.mark.parametrize("normalizer", [None, normalizers.NFC()])
@pytest.mark.parametrize("number", range(len(KNOWN)))
def test_pieces_have_the_ids_of_the_whole(number, normalizer):
    made = tokenizer(KNOWN[number], normalizer)
    assert cuts_are_exact(made)
    texts = [*HARD, *noise(5_000)]
    whole = [tuple(encoding.ids) for encoding in made.encode_batch(texts, add_special_tokens=False)]
    cache = WordCache(made)
    for text, expected, found in zip(texts, whole, cache(texts), strict=True):
        assert found == expected, text
    assert cache(texts) == whole


def test_real_text_has_the_ids_of_the_whole(monkeypatch):
    if not DATA.is_dir():
        pytest.skip("no ../shared/data")
    rows = [json.loads(line) for line in (DATA / "math500.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [row["problem"] + "\n" + row["solution"] for row in rows]
    made = tokenizer(KNOWN[2])
    whole = [tuple(encoding.ids) for encoding in made.encode_batch(texts, add_special_tokens=False)]
    assert WordCache(made)(texts) == whole
    monkeypatch.setattr(words, "_MOST", 1000)  # the cache is emptied again and again
    small = WordCache(made)
    assert [small([text])[0] for text in texts] == whole
    assert len(small._ids) <= 1000


def test_pieces_are_short_and_repeat():
    assert words._PIECES.findall("It's 12 km, or (about) 7.5 miles.\nShe") == [
        *["It", "'s", " 12", " km", ",", " or", " (about", ")", " 7", ".", "5", " miles", ".\nShe"]
    ]


@pytest.mark.parametrize(
    "splitter",
    [
        ByteLevel(add_prefix_space=True),
        ByteLevel(add_prefix_space=False, use_regex=False),
        pre_tokenizers.Metaspace(),
        pre_tokenizers.Whitespace(),
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]),
        split(r"\w+ \w+|."),
    ],
)
def test_other_splitters_are_not_cut(splitter):
    assert not cuts_are_exact(tokenizer(splitter, vocabulary=300))


def test_other_models_and_normalizers_are_not_cut():
    assert not cuts_are_exact(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    assert not cuts_are_exact(tokenizer(KNOWN[0], normalizers.Lowercase(), 300))
    assert not cuts_are_exact(Tokenizer(models.BPE()))
    made = tokenizer(KNOWN[0], normalizers.NFC(), 300)
    made.add_tokens(["\u00e9"])
    assert not cuts_are_exact(made)


def test_added_tokens_are_found_whole():
    made = tokenizer(KNOWN[0])
    made.add_tokens(["x5", "a b", AddedToken("<x>", lstrip=True, rstrip=True), AddedToken("y", single_word=True)])
    assert cuts_are_exact(made)
    texts = ["x5 ax5b", "a b  a  b", "a  <x> \n b", "y ay", "x 5"]
    assert WordCache(made)(texts) == [tuple(e.ids) for e in made.encode_batch(texts, add_special_tokens=False)]
