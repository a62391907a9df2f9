"""Margins of preference pairs: closed forms, equal lengths, the same padded and alone, and nothing scored twice."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ixt_rl.conditioning import Conditioner, Conditioning, load_feedback_template
from ixt_rl.data.preferences import PreferencePair
from ixt_rl.errors import DataError
from ixt_rl.evaluation.margins import PairMargins
from ixt_rl.evaluation.posterior_pass import SequenceScorer
from ixt_rl.evaluation.statistics.paired import sign_flip_test
from ixt_rl.types import Document, Feedback
from tests.unit.conditioning.chats import CHATML, chat_tokenizer

BEST, WORST = Feedback(5), Feedback(1)


def pair(prompt: str, chosen: str, rejected: str) -> PreferencePair:
    asked = (("user", prompt),)
    return PreferencePair(*(Document(text, turns=asked, context=1) for text in (chosen, rejected)))


@pytest.fixture(scope="module")
def conditioner() -> Conditioner:
    wanted = Conditioning(load_feedback_template("levels"), chat=True, train_turns="last")
    return Conditioner(chat_tokenizer(CHATML, "<|im_end|>"), wanted)


@pytest.fixture(scope="module")
def model(conditioner) -> LlamaForCausalLM:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(conditioner.tokenizer), **size)).eval()


def fixed(table):
    """A scorer that gives each reply what a function of (prompt, reply) says."""
    return lambda prompts, replies: np.array([table(x, z) for x, z in zip(prompts, replies, strict=True)])


def test_margins_are_what_the_definition_says(conditioner):
    """A token costs its place in the alphabet under `best`, nothing else under `none`."""
    pairs = [pair("p", "ab", "cd"), pair("q", "b", "aaaa"), pair("r", "ba", "ac")]
    shown = conditioner.tokenizer.encode("excellent", add_special_tokens=False)

    def cost(prompt, reply):
        asked_best = any(prompt[i : i + len(shown)] == tuple(shown) for i in range(len(prompt)))
        letters = conditioner.tokenizer.decode(reply)
        return -sum("abcd".index(letter) + 1.0 for letter in letters) if asked_best else -3.0 * len(letters)

    margins = PairMargins(pairs, conditioner, {"best": BEST, "none": None})
    found = margins(fixed(cost))
    best = np.array([(3 + 4) - (1 + 2), 1 - 2, (1 + 3) - (2 + 1)])  # of the second the first token alone
    assert margins.tokens.tolist() == [2, 1, 2]
    assert found["pairs/margin"] == pytest.approx(best.mean())
    assert found["pairs/margin_per_token"] == pytest.approx((best / [2, 1, 2]).mean())
    assert found["pairs/accuracy"] == pytest.approx(2 / 3)
    assert found["pairs/perplexity"] == pytest.approx(math.exp((3 + 2 + 3) / 5))
    assert (found["pairs@none/margin"], found["pairs@none/accuracy"]) == (0.0, 0.0)  # level is not ahead
    assert found["pairs@none/perplexity"] == pytest.approx(math.exp(3))
    assert found["pairs@none/drop"] == pytest.approx(best.mean())
    assert found["pairs@none/drop_p"] == sign_flip_test(best)
    of_pairs = margins.of_pairs
    assert of_pairs["pairs/margin"] == best.tolist() and of_pairs["pairs@none/margin"] == [0, 0, 0]
    assert of_pairs["pairs/accuracy"] == [1, 0, 1] and of_pairs["pairs@none/drop"] == best.tolist()
    half = 4.302653 * best.std(ddof=1) / math.sqrt(3)  # t of 2 degrees of freedom, 97.5 %
    assert found["pairs/margin_low"] == pytest.approx(best.mean() - half, rel=1e-5)
    assert found["pairs/margin_high"] == pytest.approx(best.mean() + half, rel=1e-5)
    assert [row["logp"]["best"] for row in margins.rows] == [[-3, -7], [-2, -1], [-3, -4]]


def test_neither_the_end_of_a_reply_nor_its_length_counts(conditioner):
    """The shorter reply is not charged for ending, the longer one not for going on."""
    seen = []
    margins = PairMargins([pair("p", "ab", "acdefgh")], conditioner, {"none": None})
    found = margins(lambda prompts, replies: seen.extend(replies) or np.array([-float(len(z)) for z in replies]))
    assert [conditioner.tokenizer.decode(reply) for reply in seen] == ["ab", "ac"]
    assert found["pairs/margin"] == 0


def test_a_pair_that_says_nothing_is_left_out_and_counted(conditioner):
    """Of two replies of which one goes on where the other ends neither is ahead, nor behind."""
    pairs = [pair("p", "ab", "abcd"), pair("q", "abd", "abc"), pair("r", "ab", "ab")]
    margins = PairMargins(pairs, conditioner, {"best": BEST, "none": None})
    letters = conditioner.tokenizer.decode
    found = margins(fixed(lambda x, z: -1.0 if letters(z).endswith("d") else -3.0))
    assert (margins.alike, margins.names) == (2, ["q"])
    assert (found["pairs/accuracy"], found["pairs/margin"], len(margins.rows)) == (1, 2, 1)
    with pytest.raises(DataError, match="2 preference pairs to measure, none with two replies that differ"):
        PairMargins(pairs[::2], conditioner, {"none": None})


def test_what_two_wishes_show_alike_is_scored_once(conditioner):
    plain = Conditioner(conditioner.tokenizer, Conditioning(chat=True, train_turns="last"))
    calls = []
    margins = PairMargins([pair("p", "ab", "cd")], plain, {"best": BEST, "none": None, "worst": WORST})
    found = margins(lambda prompts, replies: calls.append(len(replies)) or np.arange(float(len(replies))))
    assert calls == [2]
    assert found["pairs/margin"] == found["pairs@none/margin"] == found["pairs@worst/margin"] == -1
    assert found["pairs@worst/drop"] == 0


def test_conversations_that_begin_alike_are_one_cluster(conditioner):
    """Five copies of a pair say no more than one: its sign can be exchanged once."""
    pairs = [*[pair("p", "ab", "cd")] * 5, pair("q", "ab", "cd")]
    margins = PairMargins(pairs, conditioner, {"best": BEST, "worst": WORST})
    shown = conditioner.tokenizer.encode("excellent", add_special_tokens=False)
    found = margins(
        fixed(lambda x, z: float(any(x[i : i + len(shown)] == tuple(shown) for i in range(len(x)))) * (z[0] % 7))
    )
    assert found["pairs@worst/drop_p"] == 0.5
    assert (
        PairMargins(pairs[:5], conditioner, {"best": BEST})(fixed(lambda x, z: 0.0))
        .keys()
        .isdisjoint({"pairs/margin_low", "pairs/margin_high"})
    )


def test_padded_together_margins_are_those_of_each_pair_alone(conditioner, model):
    """And of the model's own logits: log softmax of each token of a reply, after its prompt."""
    pairs = [pair("a long prompt, longer than the others", "yes, it is so", "no"), pair("short", "one", "two three")]
    wishes = {"best": BEST, "none": None, "worst": WORST}
    scorer = SequenceScorer(model, 1.0, conditioner.tokenizer.pad_token_id)
    both = PairMargins(pairs, conditioner, wishes)
    both(scorer)
    for place, one in enumerate(pairs):
        alone = PairMargins([one], conditioner, wishes)
        alone(scorer)
        for name in wishes:
            assert both.rows[place]["logp"][name] == pytest.approx(alone.rows[0]["logp"][name], abs=1e-4)
            prompt, *replies = alone.asked[name][0]
            for reply, logp in zip(replies, alone.rows[0]["logp"][name], strict=True):
                with torch.no_grad():
                    logits = model(torch.tensor([[*prompt, *reply]])).logits[0].double()
                own = logits.log_softmax(-1)[len(prompt) - 1 : -1][range(len(reply)), list(reply)].sum()
                assert logp == pytest.approx(float(own), abs=1e-4)
    assert both.rows[0]["logp"]["best"] != both.rows[0]["logp"]["worst"]


def test_no_pair_is_refused(conditioner):
    with pytest.raises(DataError, match="0 preference pairs"):
        PairMargins([], conditioner, {"none": None})
