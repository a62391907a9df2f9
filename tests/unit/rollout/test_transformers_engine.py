"""The engine's ids, log-probs and finish reasons against a plain forward pass."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.errors import ConfigError, DataError, WeightMismatch
from ixt_rl.rollout import RolloutEngine, TransformersEngine
from ixt_rl.rollout.draws import InverseDraw
from ixt_rl.types import SamplingParams
from tests.unit.rollout.sampled import departs

PROMPTS = [[10, 1, 2], [10, 3, 4, 5, 6, 13], [10], [10, 7, 7, 7]]
EOS = (11, 17)  # two of them, as chat models have


@pytest.fixture
def engine(tiny_model):
    return TransformersEngine(tiny_model, EOS, pad_id=12, batch_size=5)


def forward_logprobs(model, rollout, temperature=1.0, top_k=0, min_p=0.0):
    ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids])
    with torch.no_grad():
        logits = model(ids).logits[0, len(rollout.prompt_ids) - 1 : -1].float() / temperature
    if top_k:
        kept = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < kept, -torch.inf)
    if min_p:
        probabilities = logits.softmax(-1)
        most = probabilities.amax(-1, keepdim=True)
        logits = logits.masked_fill(probabilities < min_p * most, -torch.inf)
    return logits.log_softmax(-1).gather(1, torch.tensor(rollout.completion_ids)[:, None]).squeeze(1)


@pytest.mark.parametrize(
    "sampling",
    [{}, {"temperature": 0.7}, {"top_k": 3}, {"temperature": 2.0, "top_k": 5}, {"temperature": 0.7, "min_p": 0.4}],
)
def test_logprobs_are_those_of_the_distribution_sampled_from(engine, tiny_model, sampling):
    groups = engine.generate(PROMPTS, SamplingParams(12, seed=3, **sampling), n=3)
    assert [len(g) for g in groups] == [3] * len(PROMPTS)
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for rollout in group:
            assert list(rollout.prompt_ids) == prompt
            torch.testing.assert_close(
                torch.tensor(rollout.logprobs), forward_logprobs(tiny_model, rollout, **sampling), rtol=1e-4, atol=1e-5
            )


def test_min_p_keeps_nothing_below_its_share_of_the_most_likely(engine, tiny_model):
    prompt = [PROMPTS[0]]
    with torch.no_grad():
        probabilities = tiny_model(torch.tensor(prompt)).logits[0, -1].softmax(-1)
    share = float(probabilities.topk(3).values[-1] / probabilities.max()) * 0.999
    (group,) = engine.generate(prompt, SamplingParams(1, seed=0, min_p=share), n=200)
    assert {r.completion_ids[0] for r in group} == set(probabilities.topk(3).indices.tolist())


def test_every_eos_id_ends_a_completion_and_is_its_last_token(engine):
    rollouts = [r for g in engine.generate(PROMPTS, SamplingParams(30, seed=0), n=8) for r in g]
    ended = [r for r in rollouts if r.finish_reason == "eos"]
    assert {r.completion_ids[-1] for r in ended} == set(EOS)
    for rollout in rollouts:
        assert not set(rollout.completion_ids[:-1]) & set(EOS)
        assert len(rollout.logprobs) == len(rollout.completion_ids)
        if rollout.finish_reason == "length":
            assert len(rollout.completion_ids) == 30


def test_greedy_takes_the_most_likely_token(engine, tiny_model):
    (rollout,) = engine.generate([PROMPTS[1]], SamplingParams(6, temperature=0.0))[0]
    ids = list(rollout.prompt_ids)
    for token in rollout.completion_ids:
        with torch.no_grad():
            assert int(tiny_model(torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)


def test_a_seed_repeats_a_call_and_leaves_the_global_generator_alone(engine):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = engine.generate(PROMPTS, SamplingParams(8, seed=4), n=2)
    assert torch.equal(before, torch.get_rng_state())
    assert engine.generate(PROMPTS, SamplingParams(8, seed=4), n=2) == first
    assert engine.generate(PROMPTS, SamplingParams(8, seed=5), n=2) != first


@pytest.mark.parametrize("seeds", [None, [0]], ids=["one generator", "a generator a row"])
def test_sampled_tokens_follow_the_policy(tiny_model, seeds):
    """Chi-square of 4000 first tokens against the model's distribution; fails by chance once in 10^6 runs."""
    engine = TransformersEngine(tiny_model, EOS, pad_id=12, batch_size=4000)
    groups = engine.generate([PROMPTS[0]], SamplingParams(1, seed=0), 4000, seeds)
    with torch.no_grad():
        expected = tiny_model(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    assert not departs([r.completion_ids[0] for r in groups[0]], expected)


def test_new_weights_change_what_is_sampled_and_move_the_version(engine, tiny_model):
    before = engine.generate(PROMPTS, SamplingParams(8, seed=4))
    state = {name: tensor + 0.5 * torch.randn_like(tensor) for name, tensor in tiny_model.state_dict().items()}
    engine.update_weights(state.items(), version=7)
    after = engine.generate(PROMPTS, SamplingParams(8, seed=4))
    assert after != before
    assert {r.policy_version for g in before for r in g} == {0}
    assert {r.policy_version for g in after for r in g} == {7}


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [("base_model.lm_head.weight", (2, 2), "the model has none"), ("model.norm.weight", (1,), "has it of shape")],
)
def test_a_refused_update_leaves_the_engine_as_it_was(engine, tiny_model, name, shape, message):
    """Also a shape that could be broadcast."""
    engine.update_weights((), 3)
    before = engine.generate(PROMPTS, SamplingParams(8, seed=4))
    state = {key: tensor + 0.5 for key, tensor in tiny_model.state_dict().items()} | {name: torch.zeros(shape)}
    with pytest.raises(WeightMismatch, match=message):
        engine.update_weights(state.items(), version=7)
    assert engine.generate(PROMPTS, SamplingParams(8, seed=4)) == before


def test_the_mode_of_the_model_is_restored(engine, tiny_model):
    tiny_model.train()
    engine.generate(PROMPTS, SamplingParams(2, seed=0))
    assert tiny_model.training
    assert isinstance(engine, RolloutEngine)


def test_with_seeds_a_row_does_not_depend_on_the_others(engine):
    """In fp32 a token would change only where its number falls within about 1e-6 of a boundary."""
    sampling, seeds = SamplingParams(20), [5, 6, 7, 5]
    whole = engine.generate(PROMPTS, sampling, 3, seeds)
    for index, (prompt, seed) in enumerate(zip(PROMPTS, seeds, strict=True)):
        (alone,) = engine.generate([prompt], sampling, 3, [seed])
        assert [r.completion_ids for r in alone] == [r.completion_ids for r in whole[index]]
        (second,) = engine.generate([prompt], sampling, 1, [seed + 1])  # the k-th sample has seed + k
        assert second[0].completion_ids == whole[index][1].completion_ids
    assert len({r.completion_ids for r in whole[0]}) == 3
    for one, other in zip(engine.generate(PROMPTS, sampling, 3, [9, 6, 7, 5])[1:], whole[1:], strict=True):
        assert [r.completion_ids for r in one] == [r.completion_ids for r in other]
        for a, b in zip(one, other, strict=True):  # beside other rows, sums are rounded otherwise
            torch.testing.assert_close(torch.tensor(a.logprobs), torch.tensor(b.logprobs), rtol=1e-5, atol=1e-5)
    before = torch.get_rng_state()
    engine.generate(PROMPTS, sampling, 1, seeds)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.6}])
def test_seeded_draws_have_the_distributions_logprobs(engine, tiny_model, sampling):
    for group in engine.generate(PROMPTS, SamplingParams(12, **sampling), 3, [1, 2, 3, 4]):
        for rollout in group:
            assert all(torch.isfinite(torch.tensor(rollout.logprobs)))
            if "top_p" not in sampling:
                expected = forward_logprobs(tiny_model, rollout, **sampling)
                torch.testing.assert_close(torch.tensor(rollout.logprobs), expected, rtol=1e-4, atol=1e-5)


def test_greedy_needs_no_seeds_and_is_the_same_with_them(engine):
    greedy = SamplingParams(10, temperature=0.0)
    assert engine.generate(PROMPTS, greedy, 1, [1, 2, 3, 4]) == engine.generate(PROMPTS, greedy)


def test_inverse_draws_never_take_a_token_without_probability():
    scores = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]]).repeat(3, 1)
    uniforms = torch.tensor([[0.0], [0.5], [1 - 2**-53]], dtype=torch.float64)
    assert InverseDraw(uniforms, 4)(torch.zeros(3, 4), scores).argmax(-1).tolist() == [1, 3, 3]


@pytest.mark.parametrize(
    ("changes", "seeds", "message"),
    [
        ({}, [1], "1 seeds for 4 prompts"),
        ({}, [1, 2, -3, 4], "seed -3"),
        ({}, [1, 2, 1 << 62, 4], "seeds go from 0"),
        ({"json_schema": '{"type": "object"}'}, None, r"json_schema=.*\n.*without a grammar"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(engine, changes, seeds, message):
    with pytest.raises(ConfigError, match=message):
        engine.generate(PROMPTS, SamplingParams(4, **changes), 1, seeds)


@pytest.mark.parametrize(
    ("prompt", "tokens", "message"),
    [
        ([], 4, "prompt 1 has no tokens"),
        ([22], 4, "prompt 1 has the id 22"),
        ([1] * 2045, 4, r"prompt 1 has 2045 tokens, with max_new_tokens=4\n.*2048 tokens"),
    ],
)
def test_a_prompt_that_cannot_be_continued_is_refused(engine, prompt, tokens, message):
    with pytest.raises(DataError, match=message):
        engine.generate([[10], prompt], SamplingParams(tokens))
