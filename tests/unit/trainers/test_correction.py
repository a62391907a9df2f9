"""Importance correction in the losses: against TRL's own, and against the formula."""

from __future__ import annotations

import copy

import pytest
import torch
import trl

from ixt_rl.kernels.correction import Correction
from tests.unit.trainers.helpers import (
    ScriptedEngine,
    generation_batch,
    loss_and_gradient,
    make_trainer,
    tiny,
    trls,
)

CORRECTIONS = [
    Correction(level, mode, cap) for level, cap in (("token", 1.1), ("sequence", 0.9)) for mode in ("truncate", "mask")
]


def shifted(trainer, batch, seed: int = 0) -> torch.Tensor:
    """Log-probs as a slightly different engine would have reported them: (B, T), 0 past the end."""
    kept = batch["completion_mask"].bool()
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        logps, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, kept.shape[1])
    noise = 0.2 * torch.randn(logps.shape, generator=torch.Generator().manual_seed(seed))
    return (logps + noise) * kept


@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda c: f"{c.level}-{c.mode}")
@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "vespo"])
def test_grpo_equals_trl_with_its_vllm_correction(tmp_path, correction, loss_type):
    """TRL corrects when `use_vllm` is set; its ratio is formed by hand here, as lines 2662-2703 of its trainer do."""
    model = tiny()
    ours = make_trainer("grpo", tmp_path, copy.deepcopy(model), engine=ScriptedEngine(), loss_type=loss_type)
    batch = generation_batch(ours)
    batch["advantages"] = torch.linspace(-1, 1, len(batch["advantages"]))
    batch["sampling_per_token_logps"] = shifted(ours, batch)
    theirs_batch = dict(batch)
    ours.correction = correction
    ours.correct(batch)

    mask = batch["completion_mask"]
    difference = (batch["old_per_token_logps"] - batch["sampling_per_token_logps"]) * mask
    if correction.level == "sequence":
        difference = difference.sum(-1, keepdim=True)
    ratio = difference.exp()
    over = ratio > correction.cap
    assert 0 < over.sum() < over.numel()
    ratio = ratio.clamp(max=correction.cap) if correction.mode == "truncate" else ratio.masked_fill(over, 0.0)
    theirs_batch |= {"importance_sampling_ratio": ratio, "old_per_token_logps": batch["old_per_token_logps"]}
    theirs = trls(trl.GRPOTrainer, trl.GRPOConfig, ours, copy.deepcopy(model), loss_type=loss_type)
    theirs.use_vllm = theirs.vllm_importance_sampling_correction = True
    theirs._metrics["train"].clear()
    mine, expected = (loss_and_gradient(t, [b]) for t, b in ((ours, batch), (theirs, theirs_batch)))
    assert mine[0] == pytest.approx(expected[0], rel=1e-5, abs=1e-7)
    torch.testing.assert_close(mine[1], expected[1], rtol=1e-4, atol=1e-6)
    del theirs_batch["importance_sampling_ratio"]
    uncorrected = loss_and_gradient(ours, [theirs_batch])
    assert (uncorrected[1] - mine[1]).abs().max() > 1e-5


@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda c: f"{c.level}-{c.mode}")
@pytest.mark.parametrize(
    ("method", "options"), [("intro", {"candidates": 3}), ("intro", {"candidates": "exact"}), ("raft", {})]
)
def test_kept_rationales_are_weighted_by_the_ratio_of_the_same_forward(tmp_path, correction, method, options):
    """As token weights multiplied by a ratio that was computed beforehand, from a pass of its own."""
    trainer = make_trainer(method, tmp_path, engine=ScriptedEngine(), **options)
    batch = generation_batch(trainer)
    batch["sampling_per_token_logps"] = shifted(trainer, batch)
    kept = batch["completion_mask"].bool() & batch["kept"][:, None]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        logps, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, kept.shape[1])
    weights = correction.weights((logps - batch["sampling_per_token_logps"])[kept], kept.nonzero()[:, 0])
    assert 0 < (weights == (correction.cap if correction.mode == "truncate" else 0)).sum() < len(weights)

    plain = type(trainer).token_weights
    uncorrected = loss_and_gradient(trainer, [batch])
    trainer.token_weights = lambda batch, signals: plain(trainer, batch, signals) * weights
    expected = loss_and_gradient(trainer, [batch])
    del trainer.token_weights
    trainer.correction = correction
    mine = loss_and_gradient(trainer, [batch])
    assert mine[0] == pytest.approx(expected[0], rel=1e-5)
    torch.testing.assert_close(mine[1], expected[1], rtol=1e-4, atol=1e-6)
    assert (uncorrected[1] - mine[1]).abs().max() > 1e-5


def test_raft_plus_plus_corrects_up_to_the_policy_that_sampled(tmp_path):
    """min(p_old / mu, cap) min(p / p_old, 1 + epsilon): the policy's own moves since then count once."""
    trainer = make_trainer(
        "raft", tmp_path, engine=ScriptedEngine(), correction=Correction(cap=1.1), importance_ratio=True, epsilon=0.1,
        num_iterations=2,
    )  # fmt: skip
    batch = generation_batch(trainer)
    batch["sampling_per_token_logps"] = shifted(trainer, batch)
    batch["old_per_token_logps"] = shifted(trainer, batch, seed=1)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    tokens = batch["completion_mask"].bool()
    with torch.no_grad():
        logps, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, tokens.shape[1])
    old = batch["old_per_token_logps"]
    sampler = (old - batch["sampling_per_token_logps"]).exp().clamp(max=1.1)
    moved = (logps - old).exp().clamp(max=1.1)
    of_row = (sampler * moved * tokens).sum(1) / tokens.sum(1)
    loss, _ = loss_and_gradient(trainer, [batch])
    assert loss == pytest.approx(-float(of_row[batch["kept"]].mean()), rel=1e-5)


def test_nothing_kept_and_correction(tmp_path):
    for method in ("intro", "raft"):
        trainer = make_trainer(method, tmp_path, engine=ScriptedEngine(), correction=Correction())
        batch = generation_batch(trainer)
        batch["kept"] = torch.zeros_like(batch["kept"])
        batch["kept_total"] = torch.tensor(0)
        loss, gradient = loss_and_gradient(trainer, [batch])
        assert loss == 0.0
        assert gradient.abs().max() == 0.0
