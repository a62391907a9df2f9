"""IXTTrainer: the loss in closed form, packed = alone, one batch = micro-batches = ranks, stopped = straight on."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import datasets
import pytest
import torch
import transformers
import trl

from ixt_rl.conditioning import Batch, pack
from ixt_rl.data.in_memory import LevelFilter, MemoryCorpus
from ixt_rl.data.piece_buffer import IGNORED
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.trainers import IXTConfig
from ixt_rl.trainers.ema import WeightAverage
from ixt_rl.trainers.refused_options import DOCUMENTS
from ixt_rl.trainers.update_stream import FILE
from ixt_rl.types import Document, Feedback
from tests.unit.distributed import keep, kept, run_ranks
from tests.unit.trainers.ixt_helpers import TEMPLATE, WORLD, documents, make_trainer, tiny_model

# Options of trl.SFTConfig, beyond transformers' own, that reach TRL code which the trainer still runs.
HONOURED = {
    "model_init_kwargs", "trust_remote_code", "router_aux_loss_coef", "chat_template_path", "eos_token", "max_length",
    "loss_type", "activation_offloading", "pad_token",
}  # fmt: skip


class Once:
    """Documents in their order, once; enough of a stream for a single update."""

    def __init__(self, items):
        self.items, self.at = items, 0

    def __iter__(self):
        while self.at < len(self.items):
            self.at += 1
            yield self.items[self.at - 1]

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def gradients(trainer) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradient of the first update, all of its micro-batches."""
    rows = list(trainer.rows)
    size = trainer.args.per_device_train_batch_size
    batches = [trainer.data_collator(rows[i : i + size]) for i in range(0, len(rows), size)]
    tokens = sum(int((batch["labels"] != IGNORED).sum()) for batch in batches)
    trainer.model.train()
    trainer.model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=tokens)
        loss.backward()
        total += loss.item()
    return total, {name: p.grad.clone() for name, p in trainer.model.named_parameters()}


def alone(model, sequences) -> torch.Tensor:
    """Mean cross-entropy of the trained tokens, each document on its own."""
    losses = []
    for sequence in sequences:
        ids = torch.tensor([sequence.input_ids])
        logp = model(input_ids=ids).logits.float().log_softmax(-1)[0]
        for t in range(1, len(sequence)):
            if sequence.loss_mask[t]:
                losses.append(-logp[t - 1, ids[0, t]])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("train_feedback", [True, False])
def test_loss_and_gradient_are_those_of_the_documents_alone(tmp_path, attention, train_feedback):
    docs = documents(10)
    model = tiny_model(attention)
    reference = copy.deepcopy(model)
    trainer = make_trainer(tmp_path, Once(docs), model, train_feedback=train_feedback)
    sequences = trainer.conditioner(docs, first=0)
    loss, grads = gradients(trainer)
    expected = alone(reference, sequences)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def logged(trainer) -> list[list[float]]:
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return [[row[name] for name in ("loss", "entropy", "mean_token_accuracy", "num_tokens")] for row in rows]


@pytest.mark.parametrize("logs_kept", [1, 4])
def test_what_is_logged_does_not_depend_on_micro_batches(tmp_path, logs_kept):
    """Also over several updates, of rows that have not equally many tokens; a checkpoint amid a log keeps its part."""
    settings = {"max_steps": 4, "logging_steps": logs_kept, "pack": False, "save_strategy": "steps", "save_steps": 2}
    found = []
    for rows, parts in ((4, 1), (1, 4)):
        split = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": parts, **settings}
        straight, resumed = (make_trainer(tmp_path / f"{rows}-{name}", documents(30), **split) for name in "ab")
        straight.train()
        resumed.train(resume_from_checkpoint=str(tmp_path / f"{rows}-a" / "checkpoint-2"))
        assert logged(resumed) == logged(straight)
        found.append(logged(straight))
    for row, expected in zip(*found, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("options", [{"pack": False}, {"per_device_train_batch_size": 1}, {"buffer_rows": 1}])
def test_packing_and_micro_batches_change_nothing(tmp_path, options):
    docs = documents(10)
    loss, grads = gradients(make_trainer(tmp_path, Once(docs)))
    other_loss, other = gradients(make_trainer(tmp_path, Once(docs), **options))
    assert other_loss == pytest.approx(loss, rel=1e-5)
    for name in grads:
        torch.testing.assert_close(other[name], grads[name], rtol=1e-4, atol=1e-6, msg=name)


def test_loss_and_gradient_are_those_of_trl_on_the_same_rows(tmp_path):
    """TRL pads one document a row; ours packs. Both get the conditioner's ids and labels."""
    docs = documents(10)
    model = tiny_model()
    theirs_model = copy.deepcopy(model)
    trainer = make_trainer(tmp_path / "ours", Once(docs), model)
    rows = [
        {
            "input_ids": list(sequence.input_ids),
            "labels": [t if m else IGNORED for t, m in zip(sequence.input_ids, sequence.loss_mask, strict=True)],
        }
        for sequence in trainer.conditioner(docs, first=0)
    ]
    loss, grads = gradients(trainer)
    args = trl.SFTConfig(
        output_dir=str(tmp_path / "theirs"), max_length=None, report_to="none", use_cpu=True, bf16=False,
        gradient_checkpointing=False,
    )  # fmt: skip
    theirs = trl.SFTTrainer(
        theirs_model, args, train_dataset=datasets.Dataset.from_list(rows), processing_class=WORLD.tokenizer()
    )
    batch = theirs.data_collator(rows)
    expected = theirs.compute_loss(theirs_model, batch)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in theirs_model.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_flattened_rows_are_the_packed_rows():
    """What flash attention gets: one row whose segments have the log-probs that they have in their own rows."""
    model = tiny_model()
    sequences = make_sequences(8)
    batch = pack(sequences, pad_id=0, capacity=96)
    flat = batch.flattened()
    assert flat.input_ids.shape == (1, int(batch.attention_mask.sum()))
    with torch.no_grad():
        packed, one = (
            model(**{k: v for k, v in b.model_inputs().items() if v is not None}).logits[b.attention_mask.bool()]
            for b in (batch, flat)
        )
    torch.testing.assert_close(one, packed, rtol=1e-4, atol=1e-5)
    assert int((flat.position_ids == 0).sum()) == len(sequences)
    with pytest.raises(ValueError, match="flattened"):
        batch.model_inputs("flash_attention_2")
    assert flat.model_inputs("flash_attention_2")["attention_mask"] is None


def make_sequences(count: int):
    from ixt_rl.conditioning.conditioner import Conditioner
    from ixt_rl.conditioning.options import Conditioning

    return Conditioner(WORLD.tokenizer(), Conditioning())(documents(count), first=0)


def test_tokens_and_judging_are_counted(tmp_path):
    docs = documents(12)
    trainer = make_trainer(tmp_path, docs, max_steps=2, logging_steps=1)
    trainer.train()
    trained = sum(len(row["input_ids"]) for row, _ in zip(trainer.rows, range(8), strict=False))
    assert trainer.ledger.tokens["train"] == trained
    assert trainer.state.log_history[1]["num_tokens"] == trained
    assert trainer.ledger.tokens["annotate"] == sum(d.judged_tokens for d in docs)  # the first buffer holds them all
    n = sum(p.numel() for p in trainer.model.parameters())
    assert trainer.ledger.total() == 6 * n * trained + 2 * n * trainer.ledger.tokens["annotate"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ema_decay": 0.5},
        {"feedback_dropout": 0.3, "gradient_accumulation_steps": 2},
        {"feedback_cooldown": 0.3, "buffer_rows": 5},
    ],
)
def test_stopped_and_resumed_is_straight_through(tmp_path, options):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "per_device_train_batch_size": 2, **options}
    data = documents(30)
    straight = make_trainer(tmp_path / "a", data, **settings)
    straight.train()
    resumed = make_trainer(tmp_path / "b", data, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert resumed.state.global_step == 6
    assert resumed.ledger.tokens == straight.ledger.tokens
    with straight.averaged(), resumed.averaged():
        for (name, a), b in zip(straight.model.named_parameters(), resumed.model.parameters(), strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=0, msg=name)


def test_the_last_updates_of_a_cooldown_show_no_feedback(tmp_path):
    options = {"max_steps": 10, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "buffer_rows": 3}
    trainer = make_trainer(tmp_path / "a", documents(90), feedback_cooldown=0.25, **options)
    assert trainer.args.plain_updates == 2
    words = set(WORLD.tokenizer().convert_tokens_to_ids(["critique:", "bad", "poor", "fair", "good", "excellent"]))
    shown = [bool(words & set(row["input_ids"].tolist())) for row, _ in zip(trainer.rows, range(40), strict=False)]
    assert shown == [True] * 32 + [False] * 8
    with pytest.raises(ConfigError, match="feedback_cooldown"):
        make_trainer(tmp_path / "b", documents(9), max_steps=4, feedback_template=None, feedback_cooldown=0.5)


def test_a_checkpoint_without_a_cursor_is_refused(tmp_path):
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    make_trainer(tmp_path, documents(), **settings).train()
    (tmp_path / "checkpoint-1" / FILE).unlink()
    with pytest.raises(DataError, match="the place in the stream is not known"):
        make_trainer(tmp_path, documents(), **settings).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_average_is_the_recurrence(tmp_path):
    trainer = make_trainer(tmp_path, documents(), max_steps=4, ema_decay=0.75)
    seen = []
    hook = trainer.average.update
    trainer.average.update = lambda model: (hook(model), seen.append(model.model.norm.weight.detach().clone()))
    trainer.train()
    expected = seen[0]
    for weight in seen[1:]:
        expected = 0.75 * expected + 0.25 * weight
    own = trainer.model.model.norm.weight.detach().clone()
    with trainer.averaged():
        torch.testing.assert_close(trainer.model.model.norm.weight.detach(), expected)
    torch.testing.assert_close(trainer.model.model.norm.weight.detach(), own, rtol=0, atol=0)
    assert isinstance(trainer.average, WeightAverage)


def test_feedback_of_a_chat_is_seen_and_not_trained(tmp_path):
    tokenizer = WORLD.tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    from ixt_rl.conditioning.conditioner import Conditioner

    args = IXTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, max_steps=1, chat=True, feedback_template=TEMPLATE
    )
    (sequence,) = Conditioner(tokenizer, args.conditioning)(
        [Document("A 1", prompt="Q 5 a + 0", feedback=Feedback(5, {}, "brief"))], first=0
    )
    seen = tokenizer.decode(sequence.input_ids)
    assert "excellent" in seen
    assert "Q 5 a + 0" in seen
    trained = [t for t, mask in zip(sequence.input_ids, sequence.loss_mask, strict=True) if mask]
    assert tokenizer.decode(trained) == "A 1 <eos>"


def test_every_option_of_trl_is_on_one_side():
    base = {f.name for f in dataclasses.fields(transformers.TrainingArguments)}
    options = {f.name for f in dataclasses.fields(trl.SFTConfig)} - base
    assert options - set(DOCUMENTS) - HONOURED == set()
    assert not set(DOCUMENTS) & HONOURED
    assert set(DOCUMENTS) <= options | base


@pytest.mark.parametrize(
    "options",
    [
        {"packing": True}, {"padding_free": True}, {"assistant_only_loss": True}, {"dataloader_num_workers": 1},
        {"max_length": None}, {"truncation_mode": "keep_end"},
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(tmp_path, options):
    with pytest.raises(ConfigError) as error:
        IXTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **{"max_steps": 1, **options})
    assert next(iter(options)) in str(error.value)
    assert error.value.remedy


def test_level_filter_charges_what_it_leaves_out_and_resumes():
    docs = [Document(str(i), feedback=Feedback(1 + i % 5), judged_tokens=10) for i in range(20)]
    filtered = LevelFilter(MemoryCorpus(docs, seed=3), [5])
    stream = iter(filtered)
    first = [next(stream) for _ in range(3)]
    state = filtered.state_dict()
    rest = [next(stream) for _ in range(6)]
    assert {d.feedback.level for d in first + rest} == {5}
    assert sum(d.judged_tokens for d in first + rest) == 200  # a whole pass was judged, and nothing twice
    again = LevelFilter(MemoryCorpus(docs, seed=3), [5])
    again.load_state_dict(state)
    stream = iter(again)
    assert [next(stream) for _ in range(6)] == rest


def test_shuffled_feedback_is_of_other_documents_and_costs_the_same():
    plain, shuffled = documents(200), documents(200, shuffle=True)
    assert [d.text for d in plain] == [d.text for d in shuffled]
    assert sum(a.feedback != b.feedback for a, b in zip(plain, shuffled, strict=True)) > 100
    key = lambda d: repr(d.feedback)  # noqa: E731
    assert sorted(map(key, plain)) == sorted(map(key, shuffled))
    assert sum(d.judged_tokens for d in plain) == sum(d.judged_tokens for d in shuffled)


def test_a_fraction_is_judged_and_charged():
    some = documents(400, fraction=0.25)
    share = sum(d.feedback is not None for d in some) / 400
    assert 0.17 < share < 0.33  # four standard errors
    assert all((d.judged_tokens > 0) == (d.feedback is not None) for d in some)


def train_on_a_rank(folder: str) -> None:
    trainer = make_trainer(
        Path(folder, "ranks"), documents(40), max_steps=3, per_device_train_batch_size=2,
        gradient_accumulation_steps=2, feedback_dropout=0.2, ddp_backend="gloo",
    )  # fmt: skip
    trainer.train()
    keep(trainer, folder, logged(trainer))


@pytest.mark.slow
def test_ranks_reach_the_weights_of_one_process(tmp_path):
    settings = {"max_steps": 3, "feedback_dropout": 0.2}
    whole = make_trainer(tmp_path / "whole", documents(40), per_device_train_batch_size=8, **settings)
    whole.train()
    run_ranks(__name__, f"train_on_a_rank({str(tmp_path)!r})")
    split, logs = kept(tmp_path)
    for row, expected in zip(logs, logged(whole), strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(split[name], weight, rtol=1e-4, atol=2e-6, msg=name)


def test_batch_is_what_the_collator_gave(tmp_path):
    trainer = make_trainer(tmp_path, documents())
    rows = [row for row, _ in zip(trainer.rows, range(3), strict=False)]
    collated = trainer.data_collator(rows)
    batch, labels = trainer._batch(collated)
    assert isinstance(batch, Batch)
    assert torch.equal(labels, collated["labels"])
    starts = (collated["position_ids"] == 0) & (collated["segment_ids"] > 0)
    assert (labels[starts] == IGNORED).all()  # nothing predicts a document's first token
