"""The methods that a subclass may override change the loss as they say, in whatever pieces it is computed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from trl.trainer.utils import shuffle_sequence_dict

from ixt_rl.conditioning import encode_prompt, prompts
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels import chunks
from ixt_rl.trainers import GRPOConfig, GRPOTrainer, InTROConfig, InTROTrainer, RAFTConfig, RAFTTrainer
from tests.unit.trainers.helpers import (
    WORLD,
    ScriptedEngine,
    generation_batch,
    loss_and_gradient,
    make_trainer,
    rows,
    split,
)


class SameFactor(InTROTrainer):
    def factor(self, logp, logq, where):
        return super().factor(logp, logq, where)


class UnitFactor(InTROTrainer):
    def factor(self, logp, logq, where):
        return torch.ones_like(logp)


class TakenToken(InTROTrainer):
    """1 / p on the token taken, 0 elsewhere: exact InTRO is then RAFT."""

    def factor(self, logp, logq, where):
        return torch.where(where.taken, (-logp).exp(), 0.0)


class ByPlace(InTROTrainer):
    """A factor of place and reward, on the token taken."""

    def factor(self, logp, logq, where):
        return weight_of(where.rows, where.positions, where.signals)[:, None]


class ByPlaceInWeights(RAFTTrainer):
    def token_weights(self, batch, signals):
        positions = torch.cat([torch.arange(int(row.sum())) for row in batch.loss_mask])
        return super().token_weights(batch, signals) * weight_of(batch.target_rows, positions, signals)


def weight_of(rows, positions, signals):
    lengths = signals.columns["completion_mask"].sum(dim=1)
    return (1 + positions) / lengths[rows] * (1 + signals.rewards[rows])


class TakenOnly(InTROTrainer):
    def choose_candidates(self, logp, taken, spec, generator):
        return taken[:, None].expand(-1, spec.candidates)


class TokenMean(InTROTrainer):
    def token_weights(self, batch, signals):
        return super().token_weights(batch, signals) * 2


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


# ---------------------------------------------------------------- a factor of everything, chunk by chunk


class OfEverything(InTROTrainer):
    """A factor of log-probs, row, reward, place and the token taken."""

    calls = 0

    def factor(self, logp, logq, where):
        self.calls += 1
        rewards = where.signals.rewards[where.rows]
        return weight_at(logp, logq, (where.rows + rewards)[:, None], where.positions[:, None], where.taken)


class OfThree(OfEverything):
    def choose_candidates(self, logp, taken, spec, generator):
        return three(taken)


VOCABULARY = len(WORLD.tokenizer())


def three(taken):
    return torch.stack([taken, (taken + 1) % VOCABULARY, (taken + 3) % VOCABULARY], 1)


def weight_at(logp, logq, row, position, taken):
    return ((logq - logp) / 2).exp() * (1 + position / 3) * (1 + row) * torch.where(taken, 0.3, 2.0)


def enumerated(trainer, batch, exact):
    """The loss as it stands: one rationale at a time, both log-softmaxes whole, every candidate by its formula."""
    losses = []
    for row, at in enumerate(batch["kept"].nonzero().flatten().tolist()):
        z = batch["completion_ids"][at][batch["completion_mask"][at].bool()]
        x = batch["prompt_ids"][at][batch["prompt_mask"][at].bool()]
        logp, logq = (
            trainer.model(torch.cat([prompt, z])[None]).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            for prompt in (x, torch.tensor(batch["told_prompt_ids"][at]))
        )
        ids = torch.arange(VOCABULARY).expand(len(z), -1)
        weight = logp.exp()
        if not exact:
            ids = three(z)
            logp, logq, weight = logp.gather(1, ids), logq.gather(1, ids), torch.full(ids.shape, 1 / 3)
        place = torch.arange(len(z))[:, None]
        factor = weight_at(logp, logq, row + batch["rewards"][at], place, ids == z[:, None])
        losses.append(-((weight * factor).detach() * logp).sum(1).mean())
    return torch.stack(losses).sum() / int(batch["kept_total"])


@pytest.mark.parametrize("candidates", [3, "exact"])
@pytest.mark.parametrize("chunk", [None, 5, 1])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_factor_of_row_place_and_token_is_right_in_every_chunk(tmp_path, monkeypatch, candidates, chunk, parts):
    if chunk is not None:
        for name, value in {"MAX_CHUNK": chunk, "CPU_TILE": 4, "CPU_BLOCK": max(1, chunk // 2)}.items():
            monkeypatch.setattr(chunks, name, value)
    trainer_class = OfEverything if candidates == "exact" else OfThree
    trainer = make_trainer(
        "intro", tmp_path, engine=ScriptedEngine(), trainer_class=trainer_class, candidates=candidates
    )
    batch = generation_batch(trainer)
    cut = split(batch, parts)
    mine = loss_and_gradient(trainer, cut)
    tokens = int((batch["completion_mask"] * batch["kept"][:, None]).sum())
    assert tokens > 50
    assert trainer.calls >= (2 * parts if chunk is None else 2 * tokens / (2 * chunk))
    trainer.model.zero_grad()
    loss = sum(enumerated(trainer, part, candidates == "exact") for part in cut)
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    assert mine[0] == pytest.approx(float(loss.detach()), rel=1e-4)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(mine[1], expected, rtol=1e-3, atol=2e-5)


# ---------------------------------------------------------------- what cannot be called, or gives another shape


def hook_of(base, name, method):
    return type("Mine", (base,), {name: method})


OLD = [
    (InTROTrainer, "factor", lambda self, logp, logq: logp, "factor(logp, logq, where)"),
    (InTROTrainer, "factor", lambda self, logp, logq, where, power: logp, "factor(logp, logq, where)"),
    (InTROTrainer, "token_weights", lambda self, batch, rows_per_update: None, "token_weights(batch, signals)"),
    (
        RAFTTrainer, "token_weights", lambda self, batch, rows_per_update, signals=None: None,
        "token_weights(batch, signals)",
    ),
    (RAFTTrainer, "keep", lambda self, rewards: rewards > 0, "keep(rewards, batch)"),
    (InTROTrainer, "choose_candidates", lambda self, logp, taken, n: taken, "spec, generator)"),
    (GRPOTrainer, "add_signals", lambda self, rows, batch: None, "add_signals(rows, batch, rewards)"),
    (GRPOTrainer, "undecided", lambda self: None, "undecided(rewards_per_func)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("base", "name", "method", "says"), OLD, ids=[f"{number}-{case[1]}" for number, case in enumerate(OLD)]
)
def test_a_hook_with_another_signature_is_refused_before_anything_is_loaded(tmp_path, base, name, method, says):
    config = {InTROTrainer: InTROConfig, RAFTTrainer: RAFTConfig, GRPOTrainer: GRPOConfig}[base]
    with pytest.raises(ConfigError) as error:
        hook_of(base, name, method)("no model of this name", [len], config(str(tmp_path), bf16=False, use_cpu=True))
    assert f"Mine.{name}(" in error.value.what
    assert says in error.value.reason
    assert f"def {name}(self, " in error.value.remedy


def test_a_hook_may_have_more_arguments_than_it_is_called_with(tmp_path):
    def factor(self, logp, logq, where, power=0.5, **more):
        return ((logq - logp) * power).exp()

    def wrapped(*args):
        return factor(*args)

    losses = [loss_of(tmp_path, hook_of(InTROTrainer, "factor", method), candidates=1) for method in (factor, wrapped)]
    assert losses[0][0] == losses[1][0]


@pytest.mark.parametrize(
    ("base", "name", "method", "says"),
    [
        (InTROTrainer, "factor", lambda self, logp, logq, where: where.positions.float(), "positions"),
        (RAFTTrainer, "token_weights", lambda self, batch, signals: signals.rewards, "trained tokens"),
        (RAFTTrainer, "keep", lambda self, rewards, batch: rewards, "bool for each"),
        (RAFTTrainer, "keep", lambda self, rewards, batch: rewards[:1] > 0, "bool for each"),
        (RAFTTrainer, "keep", lambda self, rewards, batch: [True] * len(rewards), "bool for each"),
    ],
    ids=["factor", "weights", "keep-float", "keep-one", "keep-list"],
)
def test_a_hook_that_gives_another_shape_is_told_so(tmp_path, base, name, method, says):
    with pytest.raises(DataError, match=says):
        loss_of(tmp_path, hook_of(base, name, method), "intro" if base is InTROTrainer else "raft")


def test_signals_are_of_the_rows_that_are_trained(tmp_path):
    """Also after TRL has shuffled them, and cut them into micro-batches."""
    seen = []

    def token_weights(self, batch, signals):
        seen.append((batch, signals))
        return super(RAFTTrainer, self).token_weights(batch, signals)

    trainer = make_trainer(
        "raft", tmp_path, engine=ScriptedEngine(), trainer_class=hook_of(RAFTTrainer, "token_weights", token_weights)
    )
    batch = split(shuffle_sequence_dict(generation_batch(trainer)), 2)
    loss_and_gradient(trainer, batch)
    assert len(seen) == 2
    for part, (trained, signals) in zip(batch, seen, strict=True):
        kept = part["kept"]
        assert signals.rewards.tolist() == part["rewards"][kept].tolist()
        assert signals.rewards_per_func.tolist() == part["rewards_per_func"][kept].tolist()
        assert signals.advantages.tolist() == part["advantages"][kept].tolist()
        assert signals.kept.all() and len(signals.kept) == len(trained.input_ids)
        assert float(signals.rows_per_update) == int(part["kept_total"])
        told = signals.columns["completion_ids"][signals.columns["completion_mask"].bool()]
        assert torch.equal(told, trained.target_ids)
        with pytest.raises(FrozenInstanceError):
            signals.rewards = None


def test_prompts_that_bring_their_ids_are_not_encoded_again(tmp_path, monkeypatch):
    plain = make_trainer("intro", tmp_path, engine=ScriptedEngine(), candidates=1)
    expected = loss_and_gradient(plain, [generation_batch(plain)])
    tokenizer = WORLD.tokenizer()
    made = [
        {**row, **{f"{name}_ids": encode_prompt(tokenizer, row[name]) for name in ("prompt", "told_prompt")}}
        for row in rows(2)
    ]
    monkeypatch.setattr(prompts, "encode_prompt", None)
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine(), candidates=1)
    trainer.model.train()
    batch = trainer._generate_and_score_completions([row for row in made for _ in range(4)])
    found = loss_and_gradient(trainer, [batch])
    assert found[0] == expected[0] and torch.equal(found[1], expected[1])
