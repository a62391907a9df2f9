"""Guidance against the plain engine at its ends, and against the closed form between and beyond them."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.rollout import RolloutEngine, TransformersEngine
from ixt_rl.rollout.guidance import GuidedEngine
from ixt_rl.types import SamplingParams

GOOD = [(10, 1, 2), (10, 3, 4, 5, 6, 13), (10, 8), (10, 7, 7, 7)]
BAD = [(10, 9, 5, 6, 6, 1), (10, 3), (10, 2), (10, 1, 9)]  # longer, shorter, as long
AGAINST = dict(zip(GOOD, BAD, strict=True))
EOS = (11, 17)
GREEDY = SamplingParams(12, temperature=0.0)


def guided(model, scale, **settings):
    return GuidedEngine(model, EOS, 12, scale=scale, against=AGAINST.__getitem__, **settings)


def flat(groups):
    return [rollout for group in groups for rollout in group]


def ids(groups):
    return [[r.completion_ids for r in group] for group in groups]


def closed_form(model, good, bad, completion, scale, temperature=1.0):
    """[T, V] log-probs along `completion`: one plain forward pass for each prompt, without cache or padding."""

    def logprobs(prompt):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        return logits.double().log_softmax(-1)

    return ((scale * logprobs(good) + (1 - scale) * logprobs(bad)) / temperature).log_softmax(-1)


@pytest.mark.parametrize(("scale", "prompts"), [(1.0, GOOD), (0.0, BAD)])
def test_at_its_ends_it_is_the_plain_engine(tiny_model, scale, prompts):
    plain = TransformersEngine(tiny_model, EOS, pad_id=12)
    engine = guided(tiny_model, scale)
    assert isinstance(engine, RolloutEngine)
    for sampling, seeds in ((GREEDY, None), (SamplingParams(12), [1, 2, 3, 4])):
        expected, found = plain.generate(prompts, sampling, 2, seeds), engine.generate(GOOD, sampling, 2, seeds)
        assert ids(found) == ids(expected)
        for one, other in zip(flat(found), flat(expected), strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
            assert one.finish_reason == other.finish_reason
    assert [group[0].prompt_ids for group in found] == GOOD


@pytest.mark.parametrize("scale", [-0.5, 0.5, 1.5, 3.0])
def test_logprobs_are_the_closed_form(tiny_model, scale):
    for temperature in (0.7, 1.0):
        groups = guided(tiny_model, scale).generate(GOOD, SamplingParams(12, temperature, seed=0), 3)
        for good, group in zip(GOOD, groups, strict=True):
            for rollout in group:
                table = closed_form(tiny_model, good, AGAINST[good], rollout.completion_ids, scale, temperature)
                expected = table.gather(1, torch.tensor(rollout.completion_ids)[:, None]).squeeze(1)
                assert rollout.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_greedy_takes_the_most_likely_guided_token(tiny_model):
    groups = guided(tiny_model, 2.0).generate(GOOD, GREEDY)
    for good, (rollout,) in zip(GOOD, groups, strict=True):
        table = closed_form(tiny_model, good, AGAINST[good], rollout.completion_ids, 2.0)
        assert table.argmax(-1).tolist() == list(rollout.completion_ids)
    assert ids(groups) != ids(TransformersEngine(tiny_model, EOS, pad_id=12).generate(GOOD, GREEDY))


@pytest.mark.parametrize("seeds", [None, [0]], ids=["one generator", "a generator a row"])
def test_two_sampled_tokens_follow_the_closed_form(tiny_model, seeds):
    """Chi-square of 6000 pairs of tokens over all that can come; fails by chance once in 10^6 runs."""
    good, scale, draws = GOOD[0], 1.5, 6000
    engine = guided(tiny_model, scale, batch_size=draws)
    (group,) = engine.generate([good], SamplingParams(2, seed=0), draws, seeds)
    first = closed_form(tiny_model, good, AGAINST[good], (0,), scale)[0].exp()
    vocabulary = len(first)
    expected = torch.zeros(vocabulary, vocabulary + 1, dtype=torch.float64)  # the last column: ended after one
    observed = torch.zeros_like(expected)
    for token in range(vocabulary):
        if token in EOS:
            expected[token, -1] = first[token]
        else:
            second = closed_form(tiny_model, good, AGAINST[good], (token, 0), scale)[1].exp()
            expected[token, :-1] = first[token] * second
    assert float(expected.sum()) == pytest.approx(1)
    for rollout in group:
        head, *rest = rollout.completion_ids
        observed[head, rest[0] if rest else -1] += 1
    assert critical_share(observed.flatten(), expected.flatten() * draws) < 1


def critical_share(observed, expected):
    """Pearson's statistic over its 1 - 10^-6 quantile (z = 4.75, Wilson-Hilferty); rare cells count as one."""
    common = expected >= 5
    observed = torch.cat([observed[common], observed[~common].sum()[None]])
    expected = torch.cat([expected[common], expected[~common].sum()[None]])
    degrees = len(observed) - 1
    critical = degrees * (1 - 2 / (9 * degrees) + 4.75 * (2 / (9 * degrees)) ** 0.5) ** 3
    return float(((observed - expected) ** 2 / expected).sum()) / critical


def test_the_test_of_the_distribution_can_fail():
    counts = torch.tensor([100.0, 200.0, 300.0, 2.0])
    assert critical_share(counts, counts) == 0
    assert critical_share(counts.flip(0), counts) > 1


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(12, temperature=0.8, top_k=6)])
def test_prompts_of_unequal_lengths_get_what_they_get_alone(tiny_model, sampling):
    """In fp32 a token would change only where its number falls within about 1e-6 of a boundary."""
    seeds = [3, 4, 5, 6]
    together = guided(tiny_model, 1.7).generate(GOOD, sampling, 1, seeds)
    for good, seed, (rollout,) in zip(GOOD, seeds, together, strict=True):
        ((alone,),) = guided(tiny_model, 1.7).generate([good], sampling, 1, [seed])
        assert alone.completion_ids == rollout.completion_ids
        assert alone.logprobs == pytest.approx(rollout.logprobs, abs=1e-4)
    assert ids(guided(tiny_model, 1.7, batch_size=2).generate(GOOD, sampling, 1, seeds)) == ids(together)


def test_a_seed_repeats_a_call(tiny_model):
    engine = guided(tiny_model, 1.5)
    first = engine.generate(GOOD, SamplingParams(8, seed=4), 2)
    assert engine.generate(GOOD, SamplingParams(8, seed=4), 2) == first
    assert engine.generate(GOOD, SamplingParams(8, seed=5), 2) != first
