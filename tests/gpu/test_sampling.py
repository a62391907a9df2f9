"""The engine in the process, on the accelerator: what it says it sampled is what a forward pass gives."""

from __future__ import annotations

import copy

import pytest
import torch

from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.slots import decodes_in_slots
from ixt_rl.types import SamplingParams
from tests.unit.rollout.sampled import departs
from tests.unit.rollout.test_slots import tiny

PROMPTS = [[5, 9, 30], [7] * 11, [40, 3], [5, 9, 30, 8, 80, 2], [5, 9, 30]]
SEEDS = [1, 2, 3, 4, 5]
EOS = (11, 50)


@pytest.fixture(params=["llama", "qwen3"])
def model(request, device):
    return tiny(request.param).to(device)


def engine_of(model, slots: int, continuous: bool) -> TransformersEngine:
    engine = TransformersEngine(model, EOS, 0, batch_size=slots)
    engine.continuous = continuous
    assert decodes_in_slots(model)
    return engine


def flat(groups):
    return [rollout for group in groups for rollout in group]


@torch.no_grad()
def forward_logprobs(model, rollout, temperature: float) -> torch.Tensor:
    ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids], device=model.device)
    logits = model(ids).logits[0, len(rollout.prompt_ids) - 1 : -1].float() / temperature
    tokens = torch.tensor(rollout.completion_ids, device=model.device)
    return logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0].cpu()


@pytest.mark.parametrize("continuous", [True, False], ids=["slots", "generate"])
@pytest.mark.parametrize("slots", [4, 64])
def test_logprobs_are_those_of_a_forward_pass(model, slots, continuous):
    """Few slots: rows end and others take their place; many: equal prompts share their prefill."""
    engine = engine_of(model, slots, continuous)
    rollouts = flat(engine.generate(PROMPTS, SamplingParams(14, 0.8, seed=3), n=4))
    assert len({len(r.completion_ids) for r in rollouts}) > 1
    for rollout in rollouts:
        expected = forward_logprobs(model, rollout, 0.8)
        torch.testing.assert_close(torch.tensor(rollout.logprobs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_slots_and_generate_sample_the_same(model, temperature):
    sampling = SamplingParams(14, temperature)
    one, other = (
        flat(engine_of(model, 4, continuous).generate(PROMPTS, sampling, 3, SEEDS)) for continuous in (True, False)
    )
    assert [r.completion_ids for r in one] == [r.completion_ids for r in other]


def test_greedy_is_a_cpus(model, device):
    here = engine_of(model, 8, True).generate(PROMPTS, SamplingParams(10, 0.0))
    there = engine_of(copy.deepcopy(model).to("cpu"), 8, True).generate(PROMPTS, SamplingParams(10, 0.0))
    assert [r.completion_ids for r in flat(here)] == [r.completion_ids for r in flat(there)]


def test_sampled_tokens_follow_the_policy(model):
    """Chi-square of 4000 first tokens; fails by chance once in 10^6 runs."""
    groups = engine_of(model, 4000, True).generate([PROMPTS[0]], SamplingParams(1, seed=0), 4000)
    with torch.no_grad():
        expected = model(torch.tensor([PROMPTS[0]], device=model.device)).logits[0, -1].softmax(-1).cpu()
    assert not departs([r.completion_ids[0] for r in groups[0]], expected)


def test_in_bfloat16_and_under_autocast(model, device):
    """Log-probs are near those of a forward pass in the same precision."""
    for weights in (torch.float32, torch.bfloat16):
        rounded = copy.deepcopy(model).to(weights)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            rollouts = flat(engine_of(rounded, 4, True).generate(PROMPTS, SamplingParams(14, seed=3), n=4))
            for rollout in rollouts:
                difference = (torch.tensor(rollout.logprobs) - forward_logprobs(rounded, rollout, 1.0)).abs()
                assert difference.mean() < 5e-2


def test_a_seed_repeats_a_call_and_leaves_the_devices_generator_alone(model, device):
    engine = engine_of(model, 8, True)
    torch.manual_seed(1)
    before = torch.rand(3, device=device)
    torch.manual_seed(1)
    first = engine.generate(PROMPTS, SamplingParams(8, seed=4), n=2)
    assert torch.equal(torch.rand(3, device=device), before)
    assert engine.generate(PROMPTS, SamplingParams(8, seed=4), n=2) == first
