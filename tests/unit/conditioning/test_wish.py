"""Wished feedback stands in a prompt exactly where training had the judge's."""

from __future__ import annotations

import pytest

from ixt_rl.conditioning import Conditioner, Conditioning, load_feedback_template, target_feedback
from ixt_rl.conditioning.wish import wished_prompts
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.models import byte_tokenizer
from ixt_rl.types import Document

TEMPLATE = load_feedback_template("critique")


@pytest.mark.parametrize("wish", ["best", "math, best", "worst", "web, best, expertise=3"])
def test_a_prompt_is_how_a_document_with_that_feedback_begins(wish):
    tokenizer = byte_tokenizer()
    conditioner = Conditioner(tokenizer, Conditioning(template=TEMPLATE))
    texts = ["Once", "", "There was a dog"]
    prompts = wished_prompts(conditioner, texts, wish)
    documents = [Document(text + " and more", feedback=target_feedback(wish)) for text in texts]
    for text, prompt, sequence in zip(texts, prompts, conditioner(documents, 0), strict=True):
        assert tuple(prompt) == sequence.input_ids[: len(prompt)]
        shown = tokenizer.decode(prompt, skip_special_tokens=True)
        assert shown == TEMPLATE.render(target_feedback(wish)) + TEMPLATE.separator + text


@pytest.mark.parametrize("conditioning", [Conditioning(), Conditioning(template=TEMPLATE, position="after")])
def test_a_wish_that_would_change_nothing_is_refused(conditioning):
    with pytest.raises(ConfigError, match="wish 'best'"):
        wished_prompts(Conditioner(byte_tokenizer(), conditioning), ["Once"])


def test_a_wish_that_cannot_be_read_is_refused():
    with pytest.raises(DataError, match="wish 'bestest'"):
        wished_prompts(Conditioner(byte_tokenizer(), Conditioning(template=TEMPLATE)), ["Once"], "bestest")
