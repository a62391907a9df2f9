"""What is compared before OpenRLHF trains on rollouts, and in each of its updates."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ixt_rl.blocks.model import NewModelBlock, SelfChecksBlock
from ixt_rl.errors import ParityError, SelfCheckError
from ixt_rl.integrations.openrlhf.updates import Method
from ixt_rl.kernels.correction import Correction
from ixt_rl.kernels.intro.spec import IntroSpec
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.run.stages.openrlhf_checks import check_before, check_told_factor, check_update

METHODS = {
    "intro": Method(IntroSpec(5, True, 200.0), correction=Correction()),
    "exact": Method(IntroSpec("exact", True, 200.0)),
    "rlsd": Method(epsilon=0.2, mix=0.5),
}


@pytest.fixture
def model() -> Any:
    spec = NewModelBlock(layers=1, hidden_size=32, heads=2, intermediate_size=64, tokenizer="bytes", init_std=0.5)
    return new_model(spec, byte_tokenizer()).eval()


def noisy(model: Any) -> None:
    """Adds in training mode what an architecture might, and nobody could set to 0."""

    def add(module: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
        return output + 0.1 * torch.randn_like(output) if module.training else output

    model.model.layers[0].mlp.register_forward_hook(add)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_told_nothing_more_each_factor_is_one(method, dtype, model):
    assert check_told_factor(model.to(dtype), METHODS[method], temperature=0.7) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_is_another_one_in_training_is_refused(method, model):
    noisy(model)
    with pytest.raises(SelfCheckError, match="self-check factor: told nothing more than the plain prompt"):
        check_told_factor(model, METHODS[method], temperature=0.7)


def test_a_check_that_is_left_out_does_not_run(model):
    noisy(model)
    left_out = SelfChecksBlock(factor=False)
    assert check_before(model, byte_tokenizer(), left_out, METHODS["intro"], temperature=0.7) == []


def test_who_names_another_end_is_said(model):
    tokenizer = byte_tokenizer()
    model.generation_config.eos_token_id = 65
    (said,) = check_before(model, tokenizer, SelfChecksBlock(engine=False), METHODS["rlsd"], temperature=1.0)
    assert said.startswith("ends: ") and "generation config" in said
    assert check_before(model, tokenizer, SelfChecksBlock(engine=False, ends=False), METHODS["rlsd"], 1.0) == []


def test_engines_are_compared_where_they_give_log_probs(model):
    (said,) = check_before(model, byte_tokenizer(), SelfChecksBlock(), METHODS["rlsd"], temperature=1.0)
    assert said.startswith("self_checks.engine compares nothing")
    for row in ({"step": 1}, {"step": 1, "sampler/logp_abs": None}, {"step": 1, "sampler/logp_abs": 0.02}):
        check_update(row, None)
    apart = {"step": 7, "sampler/logp_abs": 0.6}
    check_update(apart, 0.7)
    with pytest.raises(ParityError, match=r"update 7: log-probs of OpenRLHF's engines .* by 0\.6 .* limit 0\.5"):
        check_update(apart, None)
