"""Recorded steps sample what others do; a CPU has no graphs, so here what was recorded is called again."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.rollout import TransformersEngine, continuous, recorded_step
from ixt_rl.rollout import slots as slots_module
from ixt_rl.types import SamplingParams
from tests.unit.rollout.test_slots import EOS, PROMPTS, SEEDS, check_equal, flat, tiny


class Again:
    """Reads and writes the memory that it was given when it was made, as a graph does."""

    made = 0

    def __init__(self, function):
        type(self).made += 1
        self.function, self.result = function, function().clone()

    def again(self):
        self.result.copy_(self.function())
        return self.result


@pytest.fixture
def recording(monkeypatch):
    monkeypatch.setattr(recorded_step, "Recorded", Again)
    monkeypatch.setattr(continuous, "records_steps", lambda model, steps: True)
    monkeypatch.setattr(Again, "made", 0)


def sampled(model, sampling, slots):
    return flat(TransformersEngine(model, EOS, 0, batch_size=slots).generate(PROMPTS, sampling, 3, SEEDS))


@pytest.mark.parametrize("slots", [4, 100])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_samples_the_same(monkeypatch, request, slots, temperature):
    """Rows come and go, and the block grows: then a step is recorded anew."""
    monkeypatch.setattr(slots_module, "_ROOM", 2)
    model, sampling = tiny("qwen3"), SamplingParams(40, temperature)
    expected = sampled(model, sampling, slots)
    request.getfixturevalue("recording")
    check_equal(sampled(model, sampling, slots), expected)
    assert 1 < Again.made < 6


def test_what_cannot_be_recorded_is_done_step_by_step(monkeypatch, recording):
    def refused(function):
        raise RuntimeError("operation not permitted when stream is capturing")

    model, sampling = tiny("llama"), SamplingParams(12)
    expected = sampled(model, sampling, 4)
    monkeypatch.setattr(recorded_step, "Recorded", refused)
    with pytest.warns(UserWarning, match="without CUDA graphs"):
        check_equal(sampled(model, sampling, 4), expected)


def test_on_a_cpu_nothing_is_recorded():
    assert not recorded_step.records_steps(tiny("llama"), 1000)


def test_a_few_tokens_and_mixtures_are_not_worth_it_or_cannot(monkeypatch):
    class There:
        def __init__(self, model_type):
            self.config = type("Config", (), {"model_type": model_type})

        def parameters(self):
            return [type("Weight", (), {"device": torch.device("cuda", 0)})]

    assert recorded_step.records_steps(There("llama"), 16)
    assert not recorded_step.records_steps(There("llama"), 15)
    assert not recorded_step.records_steps(There("qwen3_moe"), 16)
