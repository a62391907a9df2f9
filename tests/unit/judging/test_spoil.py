"""What is spoiled differs from the original, is made of what its spoiler says, and is the same for the same seed."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest

from ixt_rl.corpus.examples.spoil import JUNK, SPOILERS, same_text, spoil
from ixt_rl.corpus.examples.spoil_prompt import load_spoil_prompt
from ixt_rl.rewriting.prompt import read_rewrite
from ixt_rl.rewriting.rewriter import Reply

TEXT = " of the river. It rose in spring!  Then the farmers moved up the hill,\nand waited there for it to fall again."
OTHERS = [TEXT, "  a wholly different story about bread.", "Nobody came."]


@pytest.mark.parametrize("name", SPOILERS)
def test_every_spoiler_changes_more_than_white_space_and_is_repeatable(name):
    texts = set()
    for seed in range(50):
        found = spoil(TEXT, Random(seed), OTHERS, [name])
        assert found == spoil(TEXT, Random(seed), OTHERS, [name])
        assert found is not None and found[0] == name
        assert not same_text(found[1], TEXT)
        assert found[1][:2] == " " + found[1].lstrip()[:1]  # the one blank that the suffix begins with
        assert found[1] == found[1].rstrip()
        texts.add(found[1])
    assert len(texts) > 1  # a choice, not one text


def by(name: str, seed: int = 0) -> str:
    found = spoil(TEXT, Random(seed), OTHERS, [name])
    assert found is not None
    return found[1].strip()


def test_what_each_spoiler_keeps_and_loses():
    for seed in range(30):
        assert by("other", seed) in {text.strip() for text in OTHERS[1:]}
        sentences = ["of the river.", "It rose in spring!", "Then the farmers moved up the hill,"]
        assert all(sentence in by("sentences", seed) for sentence in sentences)
        assert Counter(by("sentences", seed).split()) == Counter(by("words", seed).split()) == Counter(TEXT.split())
        assert re.findall(r"\s+", by("words", seed)) == re.findall(r"\s+", TEXT.strip())  # blanks stay where they were
        repeated = by("repeat", seed).split()
        assert len(repeated) == len(TEXT.split())
        assert any(repeated == (repeated[:n] * len(repeated))[: len(repeated)] for n in range(1, 9))
        cut = by("cut", seed)
        assert TEXT.strip().startswith(cut)
        assert TEXT.strip()[len(cut)].isalpha() and cut[-1].isalpha()  # in the middle of a word
        spoiled = by("junk", seed)
        assert sum(line in spoiled for line in JUNK) == 2
        for line in JUNK:
            spoiled = spoiled.replace(line, " ")
        assert same_text(spoiled, TEXT)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("other", "Nobody came."), ("sentences", "One sentence only."), ("sentences", "Ha. Ha."), ("words", "a b c"),
        ("words", "na na na na na"), ("repeat", "word"), ("repeat", "ho ho ho"), ("cut", "to be or it is"),
    ],
)  # fmt: skip
def test_what_cannot_be_spoiled_is_left_to_the_next(name, suffix):
    for seed in range(20):
        assert spoil(suffix, Random(seed), ["Nobody came.", " Nobody  came. "], [name]) is None
        assert spoil(suffix, Random(seed), [], [name, "junk"])[0] == "junk"
    assert spoil(suffix, Random(0), [], []) is None


def test_a_model_that_spoils_is_not_offered_to_copy():
    prompt = load_spoil_prompt()
    for as_json in (False, True):
        (message,) = prompt.messages({"prefix": "Once", "suffix": " upon a time"}, as_json=as_json)
        assert "Once" in message["content"] and " upon a time" in message["content"]
        assert "COPY" not in message["content"]
    assert read_rewrite(Reply("<rewrite>worse</rewrite>", "stop"), as_json=False) == ("worse", "")
