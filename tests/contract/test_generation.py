"""Which fields engines' sampling configurations have: a new one has to be looked at before it counts."""

from __future__ import annotations

import pytest
from transformers import GenerationConfig, GenerationMixin

from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.generation import NEUTRAL, plain_generation
from ixt_rl.types import SamplingParams
from tests.unit.rollout.sampled import EVERY_FIELD, ship

ASKED = {"max_new_tokens", "do_sample", "eos_token_id", "pad_token_id"}
ABOUT_THE_FILE = {"_commit_hash", "_from_model_config", "transformers_version"}


def test_every_field_of_a_generation_config_is_neutral_or_asked_for():
    fields = set(vars(GenerationConfig())) | set(GenerationConfig._get_default_generation_params())
    assert fields - ABOUT_THE_FILE == set(NEUTRAL) | ASKED
    assert set(EVERY_FIELD) == set(NEUTRAL) | ASKED, "the tests change every field"


def test_what_transformers_fills_in_is_written_out():
    config = plain_generation(5, (1, 2), 0, sample=True)
    filled = set(GenerationConfig._get_default_generation_params())
    left = {name for name in filled if getattr(config, name) is None}
    defaults = GenerationConfig._get_default_generation_params()
    assert {name: defaults[name] for name in left if defaults[name] is not None} == {"max_length": 20}


@pytest.mark.parametrize("seeds", [None, [1]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_processor_and_no_criterion_is_another_ones(tiny_model, monkeypatch, temperature, seeds):
    """Also of a model that has every field set; and the decoding loop is the plain one."""
    seen = {}

    def spied(name):
        original = getattr(GenerationMixin, name)

        def method(self, *args, **kwargs):
            result = original(self, *args, **kwargs)
            seen.setdefault(name, []).append([type(one).__name__ for one in result])
            return result

        monkeypatch.setattr(GenerationMixin, name, method)

    spied("_get_logits_processor")
    spied("_get_stopping_criteria")
    monkeypatch.setattr(TransformersEngine, "continuous", False)
    engine = TransformersEngine(tiny_model, (11,), 12)
    expected = engine.generate([[10, 1]], SamplingParams(6, temperature, seed=0), 2, seeds)
    ship(tiny_model, EVERY_FIELD)
    assert engine.generate([[10, 1]], SamplingParams(6, temperature, seed=0), 2, seeds) == expected
    drawn = ["InverseDraw"] if seeds and temperature else []
    assert seen["_get_logits_processor"] == [["LogprobRecorder", *drawn]] * 2
    assert seen["_get_stopping_criteria"] == [["MaxLengthCriteria", "EosTokenCriteria"]] * 2
