"""The held-out loss is the mean NLL that the model's own logits give, of exactly these documents."""

from __future__ import annotations

import math

import pytest
import torch

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.conditioning import Conditioner, Conditioning, load_feedback_template
from ixt_rl.errors import DataError
from ixt_rl.evaluation.heldout import HeldOutLoss
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.types import Document, Feedback

TOKENIZER = byte_tokenizer()
DOCUMENTS = {
    "web": [Document("The sea is blue."), Document("A"), Document("One and one make two, and two and two make four.")],
    "proofs": [Document("Q.E.D. " * 5), Document("Let x be 1.", feedback=Feedback(1))],
}


@pytest.fixture(scope="module")
def model():
    return new_model(NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, init_std=0.5), TOKENIZER).eval()


def nll(model, ids: list[int], first: int = 1) -> list[float]:
    """-log p of ids[first:], each after those before it."""
    with torch.no_grad():
        logps = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [-float(logps[t - 1, ids[t]]) for t in range(first, len(ids))]


def ids_of(document: Document) -> list[int]:
    return [*TOKENIZER(document.text)["input_ids"], TOKENIZER.eos_token_id]


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("template", [None, "levels"])
def test_it_is_the_mean_nll_by_source_and_over_all_tokens(model, rows, template):
    shown = Conditioning(load_feedback_template(template) if template else None)
    loss = HeldOutLoss(DOCUMENTS, Conditioner(TOKENIZER, shown), capacity=64)
    found = loss(model, rows=rows)
    expected = {name: [nll(model, ids_of(d)) for d in of_source] for name, of_source in DOCUMENTS.items()}
    flat = {name: [value for values in own for value in values] for name, own in expected.items()}
    for name, values in (*flat.items(), ("", [value for own in flat.values() for value in own])):
        prefix = f"heldout/{name}/" if name else "heldout/"
        mean = sum(values) / len(values)
        assert found[f"{prefix}loss"] == pytest.approx(mean, rel=1e-5)
        assert found[f"{prefix}perplexity"] == pytest.approx(math.exp(mean), rel=1e-4)
    assert loss.counts() == {
        name: {"documents": len(of_source), "tokens": len(flat[name])} for name, of_source in DOCUMENTS.items()
    }


def test_a_long_document_is_cut_as_in_training(model):
    document = Document("abcdefghijklmnopqrstuvwxyz")
    ids = ids_of(document)
    pieces = [ids[start : start + 10] for start in range(0, len(ids), 10)]
    values = [value for piece in pieces for value in nll(model, piece)]
    loss = HeldOutLoss({"a": [document]}, Conditioner(TOKENIZER, Conditioning()), capacity=10)
    assert loss(model)["heldout/loss"] == pytest.approx(sum(values) / len(values), rel=1e-5)
    (kept,) = loss.measured()
    assert (kept.mode, kept.pieces, {*kept.documents}) == ("heldout", pieces, {"0"})  # they are one document's


def test_pieces_are_kept_over_all_sources_and_by_source(model):
    loss = HeldOutLoss(DOCUMENTS, Conditioner(TOKENIZER, Conditioning()), capacity=64)
    found, kept = loss(model), {one.mode: one for one in loss.measured()}
    assert {*kept} == {"heldout", "heldout/web", "heldout/proofs"}
    for mode, one in kept.items():
        assert sum(one.nats) / sum(one.tokens) == pytest.approx(found[f"{mode}/loss"])
    assert kept["heldout/proofs"].documents == ["3", "4"] and kept["heldout"].documents == ["0", "1", "2", "3", "4"]


def test_of_a_reply_the_reply_counts(model):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    reply = Document("4", prompt="2+2?", feedback=Feedback(5))
    shown = Conditioning(load_feedback_template("levels"), chat=True)
    conditioner = Conditioner(tokenizer, shown)
    found = HeldOutLoss({"a": [Document(reply.text, reply.prompt)]}, conditioner, capacity=64)
    (sequence,) = conditioner([Document(reply.text, reply.prompt)], first=0)
    first = sequence.loss_mask.index(True)
    values = nll(model, list(sequence.input_ids), first)
    assert "excellent" not in tokenizer.decode(sequence.input_ids)
    assert found(model)["heldout/loss"] == pytest.approx(sum(values) / len(values), rel=1e-5)
    assert found.counts()["a"]["tokens"] == len(values)


def test_no_random_number_is_drawn_and_nothing_of_the_model_changes(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    HeldOutLoss(DOCUMENTS, Conditioner(TOKENIZER, Conditioning()), capacity=64)(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_documents_with_nothing_to_predict_are_refused():
    with pytest.raises(DataError, match="held-out documents of a"):
        HeldOutLoss({"a": []}, Conditioner(TOKENIZER, Conditioning()), capacity=64)
