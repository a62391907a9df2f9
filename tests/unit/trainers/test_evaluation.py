"""Evaluation measures the same things as training, and leaves no trace in it."""

from __future__ import annotations

import math

import pytest
import torch
from datasets import Dataset

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.trainers import PretrainConfig, PretrainTrainer
from tests.unit.trainers import ixt_helpers
from tests.unit.trainers.helpers import ScriptedEngine, make_trainer, rows
from tests.unit.trainers.test_resume import REUSE, TIMES, WINDOW, dropping, often

EVALUATED = {"eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True, "per_device_eval_batch_size": 8}


def training_logs(trainer) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k not in TIMES}
        for row in trainer.state.log_history
        if not any(name.startswith("eval_") for name in row)
    ]


def evaluations(trainer) -> list[dict]:
    return [row for row in trainer.state.log_history if "eval_loss" in row]


def assert_untouched(evaluated, plain) -> None:
    assert training_logs(evaluated) == training_logs(plain)
    assert evaluated.ledger.tokens == plain.ledger.tokens
    for mine, theirs in zip(evaluated.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("method", ["intro", "raft", "grpo"])
def test_online_training_does_not_notice_its_evaluation(tmp_path, method):
    """With dropout, the model's own samples, and evaluations amid a window of rollouts."""

    def make(name, **more):
        trainer = make_trainer(
            method, tmp_path / name, dropping(), data=rows(6), max_steps=4, logging_steps=3, reward=often,
            max_completion_length=6, per_device_train_batch_size=4, learning_rate=1e-2, eval_dataset=rows(4, seed=9),
            **WINDOW, **REUSE[method],
            **more,
        )  # fmt: skip
        trainer.train()
        return trainer

    plain, evaluated = make("plain"), make("evaluated", **EVALUATED)
    assert_untouched(evaluated, plain)
    found = evaluations(evaluated)
    assert [row["step"] for row in found] == [0, 2, 4]
    assert {"eval_reward", "eval_rollout/strict", "eval_rollout/undecided"} <= {*found[0]}
    if method != "grpo":
        assert {"eval_rollout/kept", "eval_entropy"} <= {*found[0]}
    assert all(math.isfinite(row["eval_loss"]) for row in found)


def test_the_evaluation_loss_has_its_own_batch_as_denominator(tmp_path):
    """RAFT: minus the mean over kept rationales of the mean log-prob, for each batch of scripted rollouts."""
    trainer = make_trainer("raft", tmp_path, engine=ScriptedEngine(), per_device_eval_batch_size=8)
    held_out = Dataset.from_list(rows(2, seed=9))
    metrics = trainer.evaluate(held_out)
    trainer.model.eval()
    batch = trainer._generate_and_score_completions([row for row in held_out for _ in range(4)])
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    kept = batch["completion_mask"].bool()
    with torch.no_grad():
        logps, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, kept.shape[1])
    means = (logps * kept).sum(1) / kept.sum(1)
    assert metrics["eval_loss"] == pytest.approx(-float(means[batch["kept"]].mean()), rel=1e-5)
    assert metrics["eval_rollout/kept"] == pytest.approx(float(batch["kept"].float().mean()))


# ---------------------------------------------------------------- documents


def negative_log_probs(trainer, documents) -> torch.Tensor:
    """Of every trained token of documents, each alone in a row."""
    found = []
    trainer.model.eval()
    rows_alone = ixt_helpers.make_trainer(
        trainer.args.output_dir, documents, trainer.model, pack=False, feedback_dropout=0.0
    )
    for row in rows_alone.held_out.rows(documents):
        ids, labels = torch.tensor(row["input_ids"])[None], torch.tensor(row["labels"])[1:]
        with torch.no_grad():
            logits = trainer.model(ids.long()).logits[0, :-1].float()
        kept = labels != -100
        found.append(-logits.log_softmax(-1)[kept].gather(1, labels[kept, None].long())[:, 0])
    return torch.cat(found)


@pytest.mark.parametrize("pack", [True, False])
def test_held_out_loss_is_the_mean_over_all_trained_tokens(tmp_path, pack):
    held_out = {"good": ixt_helpers.documents(5, seed=7), "other": ixt_helpers.documents(7, seed=8)}
    trainer = ixt_helpers.make_trainer(
        tmp_path, ixt_helpers.documents(), eval_dataset=held_out, pack=pack, feedback_dropout=0.5,
        per_device_eval_batch_size=2,
    )  # fmt: skip
    metrics = trainer.evaluate()
    for name, documents in held_out.items():
        expected = negative_log_probs(trainer, documents).mean()
        assert metrics[f"eval_{name}_loss"] == pytest.approx(float(expected), rel=1e-5)
    only = trainer.evaluate(held_out["good"])
    assert only["eval_loss"] == metrics["eval_good_loss"]


def test_training_on_documents_does_not_notice_its_evaluation(tmp_path):
    def make(name, **more):
        trainer = ixt_helpers.make_trainer(
            tmp_path / name, ixt_helpers.documents(), max_steps=4, logging_steps=3, ema_decay=0.5,
            eval_dataset=ixt_helpers.documents(4, seed=7), **more,
        )  # fmt: skip
        for module in trainer.model.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.1
        trainer.train()
        return trainer

    plain, evaluated = make("plain"), make("evaluated", **EVALUATED)
    assert_untouched(evaluated, plain)
    assert [row["step"] for row in evaluations(evaluated)] == [0, 2, 4]
    assert evaluations(evaluated)[-1]["eval_loss"] < evaluations(evaluated)[0]["eval_loss"]
    with evaluated.averaged():  # what is measured is what would be saved
        expected = negative_log_probs(evaluated, ixt_helpers.documents(4, seed=7)).mean()
    assert evaluations(evaluated)[-1]["eval_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_pretraining_is_evaluated_on_held_out_pairs(tmp_path):
    pairs = ixt_helpers.WORLD.tokenizer()
    documents = [([1, 2, 3], [4, 5, 6, pairs.eos_token_id]), ([2], [3, 4, pairs.eos_token_id])] * 8

    def make(name, **more):
        args = PretrainConfig(
            output_dir=str(tmp_path / name), max_steps=4, per_device_train_batch_size=4, use_cpu=True, bf16=False,
            report_to="none", disable_tqdm=True, logging_steps=1, learning_rate=1e-2, save_strategy="no", **more,
        )  # fmt: skip
        trainer = PretrainTrainer(ixt_helpers.tiny_model(), args, documents, pairs, eval_dataset=documents[:2])
        trainer.train()
        return trainer

    plain, evaluated = make("plain"), make("evaluated", **EVALUATED)
    assert_untouched(evaluated, plain)
    assert [row["step"] for row in evaluations(evaluated)] == [0, 2, 4]


def test_evaluations_that_would_measure_nothing_are_refused(tmp_path):
    for options in ({"eval_strategy": "steps", "eval_steps": 1}, {"eval_on_start": True}):
        with pytest.raises(ConfigError, match="eval_dataset"):
            ixt_helpers.make_trainer(tmp_path, ixt_helpers.documents(), **options)
    with pytest.raises(DataError, match="0 documents"):
        ixt_helpers.make_trainer(tmp_path, ixt_helpers.documents(), eval_dataset=[])
