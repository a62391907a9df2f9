"""Every causal language model that transformers builds from a tiny config: its head and its packed rows are right, or
refused before training; what the self-checks let pass is compared again, on other tokens and by other means."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)
from trl.trainer.utils import add_fused_lm_head

from ixt_rl.conditioning import Batch, pack, pad, prompt_completion
from ixt_rl.errors import SelfCheckError
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.trainers.forward_checks import head_difference, packing_difference
from ixt_rl.trainers.head import add_head_function
from ixt_rl.trainers.row_attention import attends_by_documents, row_attention, row_inputs
from tests.unit.architectures import tiny_config

LENGTHS = (17, 3, 11, 2, 14)  # some longer than the window of 8
BUILT = 155  # types that build; the others are parts of models of several modalities, or need packages or large sizes


def tiny(model_type: str):
    """A model of this type with weights large enough that every layer matters."""
    config = tiny_config(model_type)
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with torch.device("meta"):
        if sum(p.numel() for p in model_class(config).parameters()) > 20_000_000:
            raise ValueError("its size is not that of its config")
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3, generator=generator)
    return model


def documents():
    generator = torch.Generator().manual_seed(5)
    return [prompt_completion([], torch.randint(3, 90, (n,), generator=generator).tolist()) for n in LENGTHS]


def own_logprobs(model, one) -> torch.Tensor:
    """(T - 1,) log-probs of a document alone, as anyone computes them."""
    ids = torch.tensor([one.input_ids])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]


def packed_inputs(model):
    def inputs(batch: Batch):
        return batch.model_inputs(model.config._attn_implementation, model.config), batch

    return inputs


def by_documents(model) -> bool:
    """Whether packed documents are as alone when attention goes document by document."""
    try:
        with row_attention(model):
            logps, gradients, limit = packing_difference(model, lambda b: (row_inputs(b, model.config), b), 64)
    except SelfCheckError:
        return False
    return max(logps, gradients) <= limit


def packed_logprobs(model, batch: Batch) -> torch.Tensor:
    inputs, _ = packed_inputs(model)(batch)
    with torch.no_grad():
        logits = model(**{name: value for name, value in inputs.items() if value is not None}).logits
    return logits[batch.predictor_mask].log_softmax(-1).gather(1, batch.target_ids[:, None])[:, 0]


def head_logprobs(model, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return model(
            **batch.model_inputs(),
            predictor_mask=batch.predictor_mask,
            head_fn=lambda hidden, head: selected_logprobs(hidden, head, batch.target_ids)[0],
        )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", ["llama4_text", "mistral", "gpt_oss"])
def test_windows_and_chunks_are_those_of_each_document(model_type, attention):
    """Whose documents begin anywhere in a row: a chunk is counted from the document's first token."""
    if (model_type, attention) == ("gpt_oss", "sdpa"):
        pytest.skip("it has no sdpa")
    model = tiny(model_type)
    model.set_attn_implementation(attention)
    alone = [own_logprobs(model, one) for one in documents()]
    batch = pack(documents(), 0, sum(LENGTHS[:3]))
    order = [one for row in batch.input_ids for one in _documents_of(row, alone)]
    assert (packed_logprobs(model, batch) - torch.cat(order)).abs().max() < 1e-4


@pytest.mark.long(
    "tests/unit/trainers/test_architectures.py::test_windows_and_chunks_are_those_of_each_document",
    "tests/unit/trainers/test_head.py",
    "tests/unit/rollout/test_slots.py",
)
def test_every_architecture_is_equal_or_refused():
    transformers.logging.set_verbosity_error()
    found: dict[str, set[str]] = {name: set() for name in ("head", "no head", "packed", "not packed", "different")}
    built = 0
    for model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            model = tiny(model_type)
            alone = [own_logprobs(model, one) for one in documents()]
        except Exception:  # counted below
            continue
        built += 1
        add_fused_lm_head(model)
        add_head_function(model, 1.0)
        try:
            difference, limit = head_difference(model)
            passes = difference <= limit
        except SelfCheckError:
            passes = False
        found["head" if passes else "no head"].add(model_type)
        if passes and (head_logprobs(model, pad(documents(), 0)) - torch.cat(alone)).abs().max() > 1e-4:
            found["different"].add(f"head of {model_type}")
        try:
            logps, gradients, limit = packing_difference(model, packed_inputs(model), 64)
            passes = max(logps, gradients) <= limit
        except SelfCheckError:
            passes = False
        found["packed" if passes else "not packed"].add(model_type)
        if attends_by_documents(model) and by_documents(model) != passes:
            found["different"].add(f"documents of {model_type}")
        if passes:
            batch = pack(documents(), 0, sum(LENGTHS[:3]))
            order = [one for row in batch.input_ids for one in _documents_of(row, alone)]
            if (packed_logprobs(model, batch) - torch.cat(order)).abs().max() > 1e-4:
                found["different"].add(f"packing of {model_type}")
    assert not found["different"]
    assert built >= BUILT
    right = {
        "llama",
        "qwen2",
        "qwen3",
        "mistral",
        "gemma2",
        "gemma3_text",
        "gpt_oss",
        "granite",
        "cohere2",
        "qwen3_moe",
    }
    assert right <= found["packed"]
    assert right | {"hyperclovax", "inkling_text", "llama4_text", "mpt", "falcon_h1", "mamba"} <= found["head"]
    assert {"modernbert-decoder", "bert", "roberta", "electra"} <= found["no head"]
    assert {"lfm2", "falcon_h1", "qwen3_next", "mamba", "jamba", "bloom"} <= found["not packed"]
    assert len(found["head"]) >= 130 and len(found["packed"]) >= 95


def _documents_of(row: torch.Tensor, alone: list[torch.Tensor]) -> list[torch.Tensor]:
    """The log-probs alone of a packed row's documents, in the row's order."""
    text = row.tolist()
    at = {}
    for one, logps in zip(documents(), alone, strict=True):
        ids = list(one.input_ids)
        start = next((i for i in range(len(text)) if text[i : i + len(ids)] == ids), None)
        if start is not None:
            at[start] = logps
    return [at[start] for start in sorted(at)]
