"""The three methods a subclass may override change the loss as they say."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.trainers import InTROTrainer, RAFTTrainer
from tests.unit.trainers.helpers import ScriptedEngine, generation_batch, loss_and_gradient, make_trainer, split


class SameFactor(InTROTrainer):
    def factor(self, logp, logq):
        return super().factor(logp, logq)


class UnitFactor(InTROTrainer):
    def factor(self, logp, logq):
        return torch.ones_like(logp)


class TakenToken(InTROTrainer):
    """1 / p on the token taken, 0 elsewhere: exact InTRO is then RAFT."""

    def factor(self, logp, logq, where):
        return torch.where(where.is_taken, (-logp).exp(), 0.0)


class ByPlace(InTROTrainer):
    """A factor of place and reward, on the token taken."""

    def factor(self, logp, logq, where):
        return weight_of(where.rows, where.positions, where.signals)[:, None].expand_as(logp)


class ByPlaceInWeights(RAFTTrainer):
    def token_weights(self, batch, rows_per_update, signals):
        positions = torch.cat([torch.arange(int(row.sum())) for row in batch.loss_mask])
        return super().token_weights(batch, rows_per_update) * weight_of(batch.target_rows, positions, signals)


def weight_of(rows, positions, signals):
    lengths = signals["completion_mask"].sum(dim=1)
    return (1 + positions) / lengths[rows] * (1 + signals["rewards"][rows])


class TakenOnly(InTROTrainer):
    def choose_candidates(self, logp, taken, spec, generator):
        return taken[:, None].expand(-1, spec.candidates)


class TokenMean(InTROTrainer):
    def token_weights(self, batch, rows_per_update):
        return super().token_weights(batch, rows_per_update) * 2


def loss_of(tmp_path, trainer_class=None, method="intro", **options):
    trainer = make_trainer(method, tmp_path, engine=ScriptedEngine(), trainer_class=trainer_class, **options)
    return loss_and_gradient(trainer, [generation_batch(trainer)])


@pytest.mark.parametrize("candidates", [1, 5, "exact"])
def test_the_documented_default_factor_is_the_kernels(tmp_path, candidates):
    default, overridden = (loss_of(tmp_path, c, candidates=candidates) for c in (None, SameFactor))
    assert overridden[0] == pytest.approx(default[0], rel=1e-5)
    torch.testing.assert_close(overridden[1], default[1], rtol=1e-4, atol=1e-6)


def test_a_unit_factor_on_the_taken_token_is_raft(tmp_path):
    unit, raft = loss_of(tmp_path, UnitFactor, candidates=1), loss_of(tmp_path, method="raft")
    assert unit[0] == pytest.approx(raft[0], rel=1e-5)
    torch.testing.assert_close(unit[1], raft[1], rtol=1e-4, atol=1e-6)


def test_a_factor_may_know_which_token_was_taken(tmp_path):
    exact = loss_of(tmp_path, TakenToken, candidates="exact", clip=None)
    raft = loss_of(tmp_path, method="raft")
    assert exact[0] == pytest.approx(raft[0], rel=1e-5)
    torch.testing.assert_close(exact[1], raft[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 4])
def test_a_factor_may_know_place_and_rewards(tmp_path, parts):
    """The same as token weights of the same numbers, where the token taken is the only candidate."""
    losses = []
    for trainer_class, method, options in ((ByPlace, "intro", {"candidates": 1}), (ByPlaceInWeights, "raft", {})):
        trainer = make_trainer(method, tmp_path, engine=ScriptedEngine(), trainer_class=trainer_class, **options)
        losses.append(loss_and_gradient(trainer, split(generation_batch(trainer), parts)))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    torch.testing.assert_close(losses[0][1], losses[1][1], rtol=1e-4, atol=1e-6)


def test_candidates_that_are_all_the_taken_token_equal_one_candidate(tmp_path):
    many, one = loss_of(tmp_path, TakenOnly, candidates=5), loss_of(tmp_path, candidates=1)
    assert many[0] == pytest.approx(one[0], rel=1e-5)
    torch.testing.assert_close(many[1], one[1], rtol=1e-4, atol=1e-6)


def test_token_weights_scale_the_loss(tmp_path):
    doubled, plain = loss_of(tmp_path, TokenMean, candidates=1), loss_of(tmp_path, candidates=1)
    assert doubled[0] == pytest.approx(2 * plain[0], rel=1e-5)
