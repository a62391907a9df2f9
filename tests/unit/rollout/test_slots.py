"""Decoding in slots against `generate`: tokens, log-probs, distribution; and where it is not used."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout import slots as slots_module
from ixt_rl.rollout.slots import KNOWN, decodes_in_slots
from ixt_rl.types import SamplingParams
from tests.unit.architectures import tiny_config
from tests.unit.rollout.sampled import departs

PROMPTS = [[5, 9, 30], [7] * 11, [40, 3], [5, 9, 30, 8, 80, 2], [5, 9, 30]]
SEEDS = [1, 2, 3, 4, 5]
EOS = (11, 50)


def tiny(model_type: str, **changes):
    """A model of that type whose distributions are neither flat nor greedy."""
    config = tiny_config(model_type)
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def flat(groups):
    return [rollout for group in groups for rollout in group]


def both(model, sampling, *, n=3, slots=4, seeds=SEEDS):
    """(rollouts in slots, rollouts of `generate`); fewer slots than rows, so that rows come and go."""
    engine = TransformersEngine(model, EOS, 0, batch_size=slots)
    assert decodes_in_slots(model)
    found = flat(engine.generate(PROMPTS, sampling, n, seeds))
    engine.continuous = False
    return found, flat(engine.generate(PROMPTS, sampling, n, seeds))


def check_equal(found, expected):
    assert [r.completion_ids for r in found] == [r.completion_ids for r in expected]
    assert [(r.prompt_ids, r.finish_reason) for r in found] == [(r.prompt_ids, r.finish_reason) for r in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), rtol=1e-4, atol=1e-4)


OFTEN = {"llama", "qwen3", "mixtral", "gpt2"}


@pytest.mark.parametrize(
    "model_type", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in sorted(KNOWN)]
)
def test_every_known_architecture_decodes_as_generate_does(model_type):
    """Greedy, and drawn from the same numbers; rows end at different steps."""
    changes = {"sliding_window": None} if model_type == "mistral" else {}
    model = tiny(model_type, **changes)
    for temperature in (0.0, 1.0):
        found, expected = both(model, SamplingParams(14, temperature), n=2)
        check_equal(found, expected)
    assert len({len(r.completion_ids) for r in found}) > 1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "sampling", [{"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1, "temperature": 1.5}], ids=str
)
def test_truncated_sampling_is_that_of_generate(sampling, attention):
    model = tiny("qwen3")
    model.set_attn_implementation(attention)
    check_equal(*both(model, SamplingParams(10, **sampling)))
    assert model.config._attn_implementation == attention


@pytest.mark.parametrize("model_type", sorted(OFTEN))
def test_within_autocast_log_probs_are_those_of_generate(model_type):
    """Within bfloat16's rounding, that is; keys, float32 by the rotation, and values are kept in bfloat16."""
    model = tiny(model_type)
    blocks: list[torch.Tensor] = []
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.MonkeyPatch.context() as patch:
        grow = slots_module.SlotCache.grow
        patch.setattr(
            slots_module.SlotCache, "grow", lambda self, width: (grow(self, width), blocks.extend(*self.blocks[:1]))
        )
        found, expected = both(model, SamplingParams(8))
    assert {block.dtype for block in blocks} == {torch.bfloat16}
    firsts = 0
    for one, other in zip(found, expected, strict=True):
        same = next(
            (i for i, (a, b) in enumerate(zip(one.completion_ids, other.completion_ids, strict=False)) if a != b), 8
        )
        torch.testing.assert_close(
            torch.tensor(one.logprobs[:same]), torch.tensor(other.logprobs[:same]), rtol=0, atol=0.1
        )
        firsts += same
    assert firsts > 60


@pytest.mark.parametrize("slots", [1, 2, 7, 100])
def test_a_seed_gives_the_same_tokens_whatever_the_number_of_slots(slots):
    """Also of one generator for all rows: each row has its own seed from it."""
    model, sampling = tiny("llama"), SamplingParams(12, seed=3)
    expected = flat(TransformersEngine(model, EOS, 0, batch_size=3).generate(PROMPTS, sampling, 5))
    found = flat(TransformersEngine(model, EOS, 0, batch_size=slots).generate(PROMPTS, sampling, 5))
    check_equal(found, expected)
    assert len({r.completion_ids for r in found}) > 15


def test_two_tokens_have_their_joint_distribution(tiny_model):
    """20,000 draws against the enumeration of 22 x 22 pairs; the seed is fixed."""
    prompt = [10, 3, 4]
    ((*drawn,),) = TransformersEngine(tiny_model, (99,), 12, batch_size=3000).generate(
        [prompt], SamplingParams(2, seed=1), 20_000
    )
    with torch.no_grad():
        first = tiny_model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        then = tiny_model(torch.tensor([[*prompt, a] for a in range(22)])).logits[:, -1].softmax(-1)
    pairs = [22 * r.completion_ids[0] + r.completion_ids[1] for r in drawn]
    assert not departs(pairs, (first[:, None] * then).flatten())


def test_equal_prompts_are_read_once_and_ended_rows_make_room(monkeypatch):
    model = tiny("llama")
    read, steps = [], []
    original = model.forward

    def spied(**inputs):
        (read if inputs["input_ids"].shape[1] > 1 else steps).append(inputs["input_ids"].shape)
        return original(**inputs)

    monkeypatch.setattr(model, "forward", spied)
    rollouts = flat(TransformersEngine(model, EOS, 0, batch_size=6).generate(PROMPTS, SamplingParams(14), 3, SEEDS))
    assert sum(shape[0] for shape in read) == 4  # two of the five prompts are the same
    assert max(shape[0] for shape in steps) <= 6
    assert sum(shape[0] for shape in steps) == sum(len(r.completion_ids) - 1 for r in rollouts)  # no step for padding


def test_a_group_larger_than_all_slots_comes_in_parts():
    found, expected = both(tiny("llama"), SamplingParams(9), n=11, slots=4)
    check_equal(found, expected)


def test_long_completions_outgrow_the_first_block(monkeypatch):
    monkeypatch.setattr(slots_module, "_ROOM", 2)
    check_equal(*both(tiny("qwen3"), SamplingParams(60, 0.3)))


@pytest.mark.parametrize("model_type", ["mistral", "gemma2", "gemma3_text", "gpt_oss", "qwen3_next", "lfm2", "mamba"])
def test_windows_and_states_are_left_to_generate(model_type):
    """And what the engine samples is then what `generate` gives."""
    model = tiny(model_type)
    assert not decodes_in_slots(model)
    found = flat(TransformersEngine(model, EOS, 0).generate([PROMPTS[1]], SamplingParams(14, 0.0)))
    ids = torch.tensor([PROMPTS[1]])
    expected = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=14, do_sample=False, eos_token_id=[*EOS],
        pad_token_id=0,
    )  # fmt: skip
    assert list(found[0].completion_ids) == expected[0, 11:].tolist()


def test_other_reasons_to_leave_it_to_generate(monkeypatch):
    model = tiny("llama")
    assert decodes_in_slots(model)
    model.config.model_type = "llama_of_mine"
    assert not decodes_in_slots(model)
    model.config.model_type = "llama"
    monkeypatch.setattr(type(model), "prepare_inputs_for_generation", lambda self, *a, **k: {})
    assert not decodes_in_slots(model)
    monkeypatch.undo()
    model.config._attn_implementation = "flex_attention"
    assert not decodes_in_slots(model)


def test_adapters_decode_as_generate_does_but_not_virtual_tokens():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    check_equal(*both(peft.get_peft_model(tiny("llama"), config), SamplingParams(10)))
    tuned = peft.get_peft_model(tiny("llama"), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    assert not decodes_in_slots(tuned)


def test_half_precision_is_that_of_the_forward_pass():
    model = tiny("llama").bfloat16()
    for rollout in flat(
        TransformersEngine(model, EOS, 0, batch_size=4).generate(PROMPTS, SamplingParams(10), 3, SEEDS)
    ):
        ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids])
        with torch.no_grad():
            scored = model(ids).logits[0, len(rollout.prompt_ids) - 1 : -1].float().log_softmax(-1)
        scored = scored.gather(1, torch.tensor(rollout.completion_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(rollout.logprobs), scored, rtol=0, atol=0.25)


def test_attention_comes_back_after_a_failure(monkeypatch):
    model = tiny("llama")
    before = model.config._attn_implementation
    monkeypatch.setattr(slots_module.SlotCache, "update", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        TransformersEngine(model, EOS, 0).generate(PROMPTS, SamplingParams(4))
    assert model.config._attn_implementation == before
