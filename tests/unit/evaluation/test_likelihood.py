"""A frozen model as a yardstick: the mean log-prob of a text after the true one, by the model's own logits."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.evaluation.likelihood import LikelihoodExaminer, true_text
from ixt_rl.evaluation.posterior_pass import SequenceScorer
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.worlds.passages import Passage

TOKENIZER = byte_tokenizer()
PASSAGES = [Passage("one two", " three"), Passage("four", " five six\ufffd")]


@pytest.fixture(scope="module")
def model():
    spec = NewModelBlock(hidden_size=16, heads=2, layers=1, intermediate_size=32, tokenizer="bytes", init_std=0.5)
    return new_model(spec, TOKENIZER).eval()


def examiner(model, **known) -> LikelihoodExaminer:
    return LikelihoodExaminer(SequenceScorer(model, 1.0, TOKENIZER.pad_token_id), TOKENIZER, **known)


def by_logits(model, passage: Passage, text: str) -> float:
    """1/n sum_t log p(text_t | BOS, prefix, original, blank line, prefix, text_<t), one text alone."""
    before = f"{passage.prefix}{passage.suffix}".removesuffix("\ufffd") + f"\n\n{passage.prefix}"
    context = [TOKENIZER.bos_token_id, *before.encode()]
    ids = TOKENIZER(before, add_special_tokens=False)["input_ids"]
    said = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(context) - 1
    with torch.no_grad():
        logits = model(torch.tensor([[TOKENIZER.bos_token_id, *ids, *said]])).logits[0]
    logp = torch.log_softmax(logits.double(), dim=-1)
    return sum(float(logp[len(ids) + place, token]) for place, token in enumerate(said)) / len(said)


def test_it_is_the_mean_log_prob_a_token_behind_the_true_text(model):
    assert true_text(PASSAGES[1]) == "four five six\n\nfour"  # what is left of a character is not shown
    texts = [" thirty-three and more", " f"]
    found = examiner(model).measure(PASSAGES, texts)
    for passage, text, value in zip(PASSAGES, texts, found, strict=True):
        assert value == {"likelihood": pytest.approx(by_logits(model, passage, text), abs=1e-5)}


def test_the_likelier_text_is_better_and_an_empty_one_undecided(model):
    read = examiner(model)
    twice = [PASSAGES[0]] * 4
    ours, theirs = [" a", " bb", " a", ""], [" bb", " a", " a", " a"]
    a, b = (read.measure([PASSAGES[0]], [text])[0]["likelihood"] for text in (" a", " bb"))
    assert a != b
    assert read.compare(twice, ours, theirs) == [float(a > b), float(b > a), 0.5, None]


def test_passages_that_begin_alike_are_read_each_behind_its_own_true_text(model):
    alike = [Passage("one two", " three"), Passage("one two", " or one")]
    for found, passage in zip(examiner(model).measure(alike, [" so"] * 2), alike, strict=True):
        assert found == {"likelihood": pytest.approx(by_logits(model, passage, " so"), abs=1e-5)}


def test_what_was_read_before_is_not_read_again(model):
    read = examiner(model, known={("one two", " three", " known"): -0.25})
    assert read.measure([PASSAGES[0]], [" known"]) == [{"likelihood": -0.25}]
    read.scorer = None  # nobody is asked from here on
    assert read.compare([PASSAGES[0]], [" known"], [" known"]) == [0.5]
    assert read.known == {("one two", " three", " known"): -0.25}
