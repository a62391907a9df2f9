"""Filters of SIP's candidates: what each refuses, what becomes of the prompt, and what is counted."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from ixt_rl.blocks.candidate_filters import FilterBlock, check_filters, filter_name
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.ngrams import copied_share, repeated_share
from ixt_rl.trainers.sip.filters import (
    Filtered,
    candidate_filter,
    candidate_filters,
)
from tests.unit.trainers.sip_helpers import loss_and_gradient, make_trainer, prompts, update

BLOCK = TypeAdapter(FilterBlock)


def block(value):
    return BLOCK.validate_python(value)


def seen(ids=(), prefix_ids=(), text="a b", finish_reason=None, source="rollout") -> Filtered:
    return Filtered("prefix", "original", text, source, tuple(prefix_ids), tuple(ids), finish_reason)


def test_the_share_of_repeated_ngrams_is_that_of_places_with_one_that_was_there_before():
    assert repeated_share([1, 2, 3, 4], 2) == 0.0
    assert repeated_share([1, 1, 1, 1, 1], 2) == 3 / 4
    assert repeated_share([1, 2, 1, 2, 1], 2) == 2 / 4
    assert repeated_share([1, 2], 3) == 0.0
    rng = random.Random(0)
    for _ in range(200):
        ids = rng.choices(range(3), k=rng.randrange(2, 20))
        pairs = [*pairwise(ids)]
        again = sum(pair in pairs[:place] for place, pair in enumerate(pairs))
        assert repeated_share(ids, 2) == pytest.approx(again / len(pairs))


def test_the_share_that_is_copied_is_that_of_ngrams_in_the_prefix():
    assert copied_share([1, 2, 3, 4], [9, 1, 2, 3], 2) == 2 / 3
    assert copied_share([1, 2, 3], [4, 5, 6], 2) == 0.0
    assert copied_share([5], [5], 2) == 0.0
    assert copied_share([5, 5], [5], 1) == 1.0


@pytest.mark.parametrize(
    ("given", "kept", "refused"),
    [
        ("empty", seen(text=" a"), seen(text=" \n")),
        ({"type": "too_short", "min_tokens": 3}, seen([1, 2, 3]), seen([1, 2])),
        ("truncated", seen(finish_reason="stop"), seen(finish_reason="length")),
        ("truncated", seen(source="rewrite"), seen(finish_reason="length")),
        ({"type": "repetition", "ngram": 1, "max_share": 0.5}, seen([1, 1, 2, 2]), seen([1, 1, 1])),
        ("repetition", seen(range(20)), seen([1] * 20)),
        ({"type": "copied_prefix", "ngram": 2, "max_share": 0.5}, seen([1, 2, 3], [1, 2]), seen([1, 2, 3], [1, 2, 3])),
    ],
    ids=["empty", "too_short", "truncated", "not sampled", "repetition", "by default", "copied_prefix"],
)
def test_built_in_filters(given, kept, refused):
    ask = candidate_filter(block(given))
    assert ask(kept) is True
    assert ask(refused) is False


def test_a_function_of_ones_own_sees_the_candidate(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def polite(text, source, **_):\n    return source != 'rollout' or 'please' in text\n")
    made = candidate_filters([block(f"{file}:polite"), block("empty")])
    assert list(made) == ["polite", "empty"]
    assert made["polite"](seen(text="please")) is True
    assert made["polite"](seen(text="now")) is False
    assert made["polite"](seen(text="now", source="rewrite")) is True


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("repetitions", "did you mean `repetition`"),
        ({"type": "repetition", "max_share": 2.0}, "less than or equal to 1"),
        ({"type": "repetition", "ngrams": 2}, "ngrams"),
        ({"type": "empty", "min_tokens": 2}, "min_tokens"),
    ],
)
def test_what_is_no_filter_is_refused(given, says):
    with pytest.raises(ValidationError, match=says):
        block(given)


def test_filters_have_names_of_their_own_and_something_to_filter():
    blocks = [block("empty"), block({"type": "repetition"}), block("repetition")]
    assert [filter_name(one) for one in blocks] == ["empty", "repetition", "repetition"]
    with pytest.raises(ConfigError, match="repetition twice"):
        check_filters(blocks, ["original", "rollout"])
    with pytest.raises(ConfigError, match="never filtered"):
        check_filters(blocks[:1], ["original"])


# ------------------------------------------------------------------------------------------ training


def made(folder, filters, objective="dpo", **parts):
    config = {"objective": objective, "sources": ["original", "rewrite", "rollout"]}
    return make_trainer(folder, config=config, filters=filters, **parts)


OBJECTIVES = ["dpo", "rf-nll", "grpo"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_is_filtered_is_as_if_it_had_not_been_proposed(objective, tmp_path):
    """Every second rollout is filtered: loss and gradient are those of a trainer that never had them."""

    def odd(one: Filtered) -> bool:
        return one.source != "rollout" or sum(one.ids) % 2 == 1

    class Never(type(made(tmp_path, None, objective))):
        def propose(self, items, part=0):
            return [
                [one for one in of if one.candidate.source != "rollout" or self.odd(one)]
                for of in super().propose(items, part)
            ]

        def odd(self, one):
            special = {*self.processing_class.all_special_ids}
            return sum(token for token in one.candidate.ids if token not in special) % 2 == 1

    filtering = made(tmp_path, {"odd": odd}, objective)
    without = made(tmp_path, None, objective, trainer_class=Never)
    loss, gradient = loss_and_gradient(filtering, update(filtering))
    expected, wanted = loss_and_gradient(without, update(without))
    assert loss == pytest.approx(expected)
    torch.testing.assert_close(gradient, wanted)
    assert float(gradient.abs().max()) > 0
    means = filtering.means.take(filtering.accelerator)
    assert 0 < means["filtered/odd"] < 1
    assert means["filtered/all"] == 0.0
    assert "filtered/all" not in without.means.take(without.accelerator)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_prompt_of_which_nothing_is_left_falls_back_to_its_own_suffix(objective, tmp_path):
    """Nobody is asked; rf-nll trains on the suffixes, as `nll` does; dpo and grpo have nothing to compare."""

    def judge(prefixes, originals, groups):
        raise AssertionError("asked")

    trainer = made(tmp_path, {"all": lambda one: False}, objective, judge=judge)
    loss, gradient = loss_and_gradient(trainer, update(trainer))
    means = trainer.means.take(trainer.accelerator)
    assert means["filtered/all"] == means["filtered/all"] == 1.0
    assert means["skipped/tie"] == means["skipped/undecided"] == 0.0
    if objective != "rf-nll":
        assert loss == 0.0
        assert not gradient.any()
        return
    plain = make_trainer(tmp_path, config={"objective": "nll", "num_generations": None})
    expected, wanted = loss_and_gradient(plain, update(plain))
    assert loss == pytest.approx(expected)
    torch.testing.assert_close(gradient, wanted)
    assert means["chosen/original"] == 1.0


@pytest.mark.parametrize("objective", [*OBJECTIVES, "sft-rollout"])
def test_a_prompt_without_a_candidate_is_skipped(objective, tmp_path):
    """No original among the sources, and for half of the prompts all rollouts are filtered."""
    items = prompts(8)
    gone = {trainer_text(item.prefix_ids) for item in items[::2]}
    trainer = make_trainer(
        tmp_path,
        config={
            "objective": objective,
            "sources": ["rollout"],
            "num_generations": 1 if objective == "sft-rollout" else 4,
        },
        filters={"half": lambda one: one.prefix not in gone},
    )
    parts = update(trainer)
    assert trainer.means.take(trainer.accelerator)["filtered/all"] == 0.5
    left = {tuple(item.prefix_ids) for item in items[1::2]}
    assert {example.prefix_ids for part in parts for example in part["examples"]} <= left
    loss, _ = loss_and_gradient(trainer, parts)
    assert loss == loss  # a number


def trainer_text(ids) -> str:
    from tests.unit.trainers.sip_helpers import TOKENIZER

    return TOKENIZER.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("filters", "says"),
    [({"mine": lambda one: 1 / 0}, "it raised ZeroDivisionError"), ({"mine": lambda one: "yes"}, "gave 'yes'")],
)
def test_a_filter_that_fails_is_named(filters, says, tmp_path):
    trainer = made(tmp_path, filters)
    with pytest.raises(DataError, match=says):
        update(trainer)
