"""A sequence has the same log-probs alone, padded on either side, and packed, on every CPU attention backend."""

from __future__ import annotations

import itertools

import pytest
import torch
from transformers import AutoModelForCausalLM

from ixt_rl.conditioning import pack, pad, prompt_completion
from ixt_rl.conditioning.batching import block_causal_mask
from tests.unit.architectures import WINDOW, tiny_config

LENGTHS = [(3, 5), (7, 2), (1, 9), (4, 4), (6, 1)]


@pytest.fixture
def sequences():
    generator = torch.Generator().manual_seed(0)
    return [
        prompt_completion(
            torch.randint(0, 20, (prompt,), generator=generator).tolist(),
            torch.randint(0, 20, (completion,), generator=generator).tolist(),
        )
        for prompt, completion in LENGTHS
    ]


def target_logprobs(model, batch) -> dict[tuple[int, ...], torch.Tensor]:
    """Log-probs of each sequence's trained tokens, keyed by its ids."""
    with torch.no_grad():
        logits = model(**batch.model_inputs(model.config._attn_implementation)).logits
    logp = logits[batch.predictor_mask].log_softmax(-1).gather(1, batch.target_ids[:, None]).squeeze(1)
    where = batch.loss_mask.nonzero()
    found: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for (row, column), value in zip(where.tolist(), logp, strict=True):
        segment = int(batch.segment_ids[row, column])
        key = tuple(batch.input_ids[row][batch.segment_ids[row] == segment].tolist())
        found.setdefault(key, []).append(value)
    return {key: torch.stack(values) for key, values in found.items()}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_alone_padded_and_packed_agree(tiny_model, sequences, attention):
    tiny_model.set_attn_implementation(attention)
    alone: dict = {}
    for sequence in sequences:
        alone |= target_logprobs(tiny_model, pad([sequence], pad_id=12))
    layouts = {
        "right": pad(sequences, 12, "right"),
        "left": pad(sequences, 12, "left"),
        "packed": pack(sequences, 12, capacity=20),
        "one row": pack(sequences, 12, capacity=64),
    }
    assert layouts["packed"].is_packed
    assert layouts["one row"].input_ids.shape[0] == 1
    for name, batch in layouts.items():
        found = target_logprobs(tiny_model, batch)
        assert found.keys() == alone.keys(), name
        for key in alone:
            torch.testing.assert_close(found[key], alone[key], rtol=1e-5, atol=1e-5, msg=name)


def test_packing_without_the_block_mask_would_leak(tiny_model, sequences):
    """The check above can fail: with a plain causal mask, packed documents see each other."""
    batch = pack(sequences, 12, capacity=64)
    inputs = batch.model_inputs("sdpa")
    with torch.no_grad():
        isolated = tiny_model(**inputs).logits
        leaking = tiny_model(**{**inputs, "attention_mask": torch.ones_like(batch.attention_mask)}).logits
    assert (isolated - leaking).abs()[0, -1].max() > 1e-2


WINDOWED = ["mistral", "gemma3_text", "cohere2", "llama4_text", "qwen3"]
ON_CPU = [*itertools.product(WINDOWED, ["eager", "sdpa", "flex_attention"]), ("gpt_oss", "eager")]


@pytest.fixture
def uncompiled():
    """Flex attention without the minutes that compiling it takes."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize(("model_type", "attention"), ON_CPU)
@pytest.mark.usefixtures("uncompiled")
def test_packed_documents_longer_than_the_window_are_as_alone(model_type, attention):
    """Each layer sees as far in a packed document as in one alone: its window or chunk, by layer type."""
    torch.manual_seed(0)
    config = tiny_config(model_type)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    generator = torch.Generator().manual_seed(3)
    documents = [
        prompt_completion([], torch.randint(3, 90, (n,), generator=generator).tolist()) for n in (3 * WINDOW, 5, 13)
    ]
    batch = pack(documents, 0, 3 * WINDOW + 13)
    assert batch.is_packed
    with torch.no_grad():
        packed = model(**batch.model_inputs(attention, config)).logits
        leaking = model(input_ids=batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask)
        for segment in (1, 2):
            here = (batch.segment_ids == segment)[0]
            alone = model(batch.input_ids[0, here][None], use_cache=False).logits[0]
            torch.testing.assert_close(packed[0, here], alone, rtol=0, atol=1e-4)
        assert (leaking.logits[0, here] - alone).abs().max() > 1e-2  # the comparison can fail


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention", "flash_attention_2"])
def test_where_no_mask_is_given_there_is_no_cache(sequences, attention):
    """With a cache, transformers does not look for documents in positions."""
    batch = pack(sequences, 12, capacity=64)
    for config in (None, tiny_config("llama")):
        inputs = batch.model_inputs(attention, config)
        assert inputs["use_cache"] is False
        assert inputs["position_ids"] is batch.position_ids
        if attention.startswith("flash") or (config is None and attention == "flex_attention"):
            assert inputs["attention_mask"] is None


@pytest.mark.usefixtures("uncompiled")
def test_flex_attention_isolates_whoever_calls_the_model(tiny_model, sequences):
    tiny_model.set_attn_implementation("flex_attention")
    batch = pack(sequences, 12, capacity=64)
    found = target_logprobs(tiny_model, batch)
    tiny_model.set_attn_implementation("sdpa")
    for sequence in sequences:
        for key, expected in target_logprobs(tiny_model, pad([sequence], pad_id=12)).items():
            torch.testing.assert_close(found[key], expected, rtol=0, atol=1e-4)


def test_packing_covers_every_token_once_and_fills_rows(sequences):
    batch = pack(sequences, 12, capacity=17)
    assert int(batch.attention_mask.sum()) == sum(map(sum, LENGTHS))
    assert int(batch.loss_mask.sum()) == sum(completion for _, completion in LENGTHS)
    assert batch.input_ids.shape == (3, 17)  # 10 + 7, 9 + 8, 8
    with pytest.raises(ValueError, match="does not fit"):
        pack(sequences, 12, capacity=9)


def test_packing_is_refused_on_an_attention_that_may_leak(sequences):
    with pytest.raises(ValueError, match="leak"):
        pack(sequences, 12, capacity=64).model_inputs("some_new_kernel")


def test_block_causal_mask_by_enumeration():
    segments = torch.tensor([[1, 1, 2, 2, 0]])
    mask = block_causal_mask(segments)[0, 0]
    for q, k in itertools.product(range(5), range(5)):
        assert bool(mask[q, k]) == (k <= q and segments[0, q] == segments[0, k])


def test_a_first_token_is_never_a_target():
    sequence = prompt_completion([], [4, 5])
    batch = pad([sequence], 12)
    assert batch.loss_mask.tolist() == [[False, True]]
    assert batch.predictor_mask.tolist() == [[True, False]]


def test_what_stands_in_for_nothing_to_train_is_not_counted():
    assert pad([prompt_completion([3, 4], [5]), prompt_completion([3], [6, 7, 8])], pad_id=0).counted == 7
    assert pad([prompt_completion([3, 4], [])], pad_id=0).counted == 0
