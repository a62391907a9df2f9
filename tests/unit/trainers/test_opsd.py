"""OPSD: the divergence from the told teacher, of every rollout; equal to the formula written plainly."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.conditioning import encode_prompt
from ixt_rl.errors import ConfigError
from ixt_rl.kernels.correction import Correction
from ixt_rl.kernels.divergence import Divergence
from ixt_rl.trainers import OPSDConfig
from ixt_rl.trainers.distillation_seam import compute_divergence
from tests.unit.trainers.helpers import (
    WORLD,
    ScriptedEngine,
    generation_batch,
    loss_and_gradient,
    make_trainer,
    rows,
    split,
)

ALPHA = {"forward_kl": 0.0, "reverse_kl": 1.0, "jsd": 0.3}


def trainer_of(tmp_path, divergence="jsd", **options):
    given = {"divergence": divergence, "jsd_beta": 0.3, "posterior": "live", **options}
    return make_trainer("opsd", tmp_path, engine=ScriptedEngine(), **given)


def written_plainly(trainer, batch, told_rows, alpha: float) -> torch.Tensor:
    """One rationale at a time, full log-softmaxes, TRL's divergence."""
    losses = []
    for row, told in enumerate(told_rows):
        z = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        x = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        xy = torch.tensor(encode_prompt(WORLD.tokenizer(), told["told_prompt"]))
        logp, logq = (
            trainer.model(torch.cat([prompt, z])[None]).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            for prompt in (x, xy)
        )
        losses.append(compute_divergence(logp, logq.detach(), alpha).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("divergence", ALPHA)
def test_loss_and_gradient_are_those_of_the_formula_for_right_and_wrong_rollouts(tmp_path, divergence):
    trainer = trainer_of(tmp_path, divergence)
    batch = generation_batch(trainer)
    assert 0 < int((batch["rewards"] > 0).sum()) < len(batch["rewards"])
    assert batch["kept"].all()
    loss, gradient = loss_and_gradient(trainer, [batch])
    trainer.model.zero_grad()
    plain = written_plainly(trainer, batch, [row for row in rows(2) for _ in range(4)], ALPHA[divergence])
    plain.backward()
    expected = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    assert loss == pytest.approx(float(plain.detach()), rel=1e-5)
    assert gradient.abs().max() > 1e-4
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    other_loss, other_gradient = loss_and_gradient(trainer, split(batch, 4))
    assert other_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("divergence", ALPHA)
def test_the_terms_of_a_divergence_add_up_to_what_trl_computes(divergence):
    generator = torch.Generator().manual_seed(2)
    logp, logq = (torch.randn(5, 40, generator=generator, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    theirs = compute_divergence(logp, logq, ALPHA[divergence])
    torch.testing.assert_close(Divergence(divergence, 0.3).terms(logp, logq).sum(-1), theirs)


def test_undecided_rollouts_are_trained_and_an_engines_log_probs_weigh_nothing(tmp_path):
    def silent(prompts, completions, **kwargs):
        return [None] * len(completions)

    trainer = trainer_of(tmp_path, reward=silent, correction=Correction())
    batch = generation_batch(trainer)
    assert batch["kept"].all()
    plain = trainer_of(tmp_path)
    assert loss_and_gradient(trainer, [batch])[0] == pytest.approx(loss_and_gradient(plain, [batch])[0], rel=1e-6)


def test_what_is_logged_and_counted(tmp_path):
    trainer = trainer_of(tmp_path, posterior="frozen", max_steps=1)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "teacher/divergence" in row]
    assert 0 < logged[0]["teacher/divergence"] < 0.694
    assert logged[0]["loss"] > 0
    assert {"teacher/log_ratio_right", "teacher/log_ratio_wrong", "entropy", "factor/kl"} <= set(logged[0])
    assert trainer.self_checks.results["factor"] == 1.0
    assert trainer.ledger.tokens["posterior"] > trainer.ledger.tokens["train"] > 0


@pytest.mark.parametrize(
    "options",
    [
        {"candidates": 5},
        {"clip": 2.0},
        {"contrast": True},
        {"keep": ["parity_reward"]},
        {"keep_reward": 0.5},
        {"importance_ratio": True},
        {"num_iterations": 2},
        {"jsd_beta": 1.0},
        {"divergence": "kl"},
        {"beta": 0.1},
    ],
    ids=str,
)
def test_what_has_no_meaning_here_is_refused(options, tmp_path):
    with pytest.raises(ConfigError):
        OPSDConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)


def test_truncated_sampling_forms_no_ratio_and_is_taken(tmp_path):
    OPSDConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, top_p=0.95, top_k=20)
