"""STaR: sampled told, trained untold; by a model that stays as it was."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig
from transformers import TrainerCallback

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels.correction import Correction
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers import STaRTrainer
from ixt_rl.types import Rollout
from tests.unit.trainers.helpers import (
    ScriptedEngine,
    generation_batch,
    loss_and_gradient,
    make_trainer,
    parity_reward,
    rows,
    split,
    tiny,
)
from tests.unit.trainers.test_engine_rollouts import OtherEngine

TOLD = 14  # the id of <told>
G = 4


class Listening(ScriptedEngine):
    """Remembers what it was asked, and what it said."""

    def __init__(self):
        self.said: list[Rollout] = []

    def generate(self, prompts, sampling, n=1):
        found = super().generate(prompts, sampling, n)
        self.said += [rollout for group in found for rollout in group]
        return found


def always(completions, **_):
    return [1.0] * len(completions)


def odd_start(completion_ids, **_):
    return [float(ids[0] % 2) for ids in completion_ids]


def star(tmp_path, engine=None, **options):
    return make_trainer("star", tmp_path, engine=engine, **options)


def one_generation(tmp_path, told, rollouts=2 * G, **options):
    """(trainer, batch of two groups, the last `rollouts` that the engine sampled for it)"""
    engine = Listening()
    trainer = star(tmp_path, engine, told=told, **options)
    batch = generation_batch(trainer)
    return trainer, batch, engine.said[-rollouts:]


def tokens(rollouts):
    return sum(len(one.prompt_ids) + len(one.completion_ids) for one in rollouts)


@pytest.mark.parametrize(("told", "expected"), [("all", [True] * 8), ("half", [True, True, False, False] * 2)])
def test_who_is_told_and_what_is_trained(tmp_path, told, expected):
    trainer, batch, sampled = one_generation(tmp_path, told)
    assert [TOLD in one.prompt_ids for one in sampled] == expected
    plain = [ids[mask.bool()].tolist() for ids, mask in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)]
    assert plain == [ids for ids in trainer.encoded(rows(2)) for _ in range(G)]
    assert batch["sampled_told"].tolist() == expected
    assert trainer.completion_lists(batch) == [list(one.completion_ids) for one in sampled]
    assert trainer.ledger.tokens["rollout"] == tokens(sampled)


def test_the_loss_is_the_mean_negative_log_likelihood_of_the_kept_after_the_plain_prompt(tmp_path):
    trainer, batch, _ = one_generation(tmp_path, "all", correction=Correction())  # which is not read
    loss, gradient = loss_and_gradient(trainer, [batch])

    model, total = tiny(), 0.0
    completions = trainer.completion_lists(batch)
    kept = [row for row, is_kept in enumerate(batch["kept"].tolist()) if is_kept]
    assert 0 < len(kept) < 8
    for row in kept:
        prompt, z = trainer.encoded(rows(2))[row // G], completions[row]
        logp = model(torch.tensor([[*prompt, *z]])).logits[0].log_softmax(-1)
        at = torch.arange(len(prompt) - 1, len(prompt) + len(z) - 1)
        total = total - logp[at, torch.tensor(z)].mean() / len(kept)
    total.backward()
    plain = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert loss == pytest.approx(float(total.detach()), rel=1e-5)
    torch.testing.assert_close(gradient, plain, rtol=1e-4, atol=1e-6)

    in_parts, gradient_of_parts = loss_and_gradient(trainer, split(batch, 4))
    assert in_parts == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(gradient_of_parts, gradient, rtol=1e-4, atol=1e-6)


def test_only_groups_that_failed_are_sampled_once_more_told(tmp_path):
    first = rows(2)[0]["question"]

    def reward(prompts, completions, completion_ids, question, sampled_told, **_):
        """The first problem is never right untold, and half of the time told; the second is as it is."""
        plain = parity_reward(prompts, completions, completion_ids, question)
        return [
            (float(told and index % 2) if q == first else value)
            for index, (q, told, value) in enumerate(zip(question, sampled_told, plain, strict=True))
        ]

    trainer, batch, sampled = one_generation(tmp_path, "failed", 3 * G, reward=reward)
    assert [TOLD in one.prompt_ids for one in sampled] == [False] * 8 + [True] * 4
    assert batch["sampled_told"].tolist() == [True] * 4 + [False] * 4
    assert batch["rewards"][:4].tolist() == [0, 1, 0, 1]
    assert batch["kept"].tolist()[:4] == [False, True, False, True]
    assert batch["kept"][4:].any()
    of_batch = [*sampled[8:], *sampled[4:8]]
    assert trainer.completion_lists(batch) == [list(one.completion_ids) for one in of_batch]
    assert batch["prompt_ids"][0][batch["prompt_mask"][0].bool()].tolist() == list(sampled[0].prompt_ids)
    assert trainer.ledger.tokens["rollout"] == tokens(sampled), "what is thrown away was computed, too"
    assert trainer.drawn_again == G, "and what a group was sampled once more is among the rollouts"
    other = star(tmp_path, Listening(), told="failed")
    other.restore(trainer.own_state())
    assert other.drawn_again == G
    sums = trainer._sums["rollout/kept_told"]
    assert float(sums[0] / sums[1]) == 0.5


def test_where_no_group_fails_nothing_is_sampled_again(tmp_path):
    trainer, batch, sampled = one_generation(tmp_path, "failed", reward=always)
    assert not any(TOLD in one.prompt_ids for one in sampled)
    assert not batch["sampled_told"].any()
    assert trainer.ledger.tokens["rollout"] == tokens(sampled)


def test_an_evaluation_samples_the_policy_untold(tmp_path):
    engine = Listening()
    trainer = star(tmp_path, engine, eval_dataset=rows(2), per_device_eval_batch_size=4)
    trainer.evaluate()
    assert engine.said
    assert not any(TOLD in one.prompt_ids for one in engine.said)


# ---------------------------------------------------------------- who samples


class Remembering(STaRTrainer):
    """Keeps what each generation sampled."""

    def add_signals(self, rows, batch, rewards):
        self.sampled = [*getattr(self, "sampled", []), self.completion_lists(batch)]


def trained(tmp_path, **options):
    settings = {"max_steps": 3, "reward": always, "trainer_class": Remembering, "max_completion_length": 8}
    trainer = star(tmp_path, **{"learning_rate": 3e-2, **settings, **options})
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def at_first(tmp_path_factory):
    """What the initial model samples at each step, told."""
    return trained(tmp_path_factory.mktemp("first"), learning_rate=0.0, sampler="live").sampled


def test_a_frozen_sampler_stays_the_initial_model(tmp_path, at_first):
    frozen, live = trained(tmp_path / "a"), trained(tmp_path / "b", sampler="live")
    assert frozen.sampled == at_first
    assert live.sampled[0] == at_first[0]
    assert live.sampled[1:] != at_first[1:]
    staleness = [row["rollout/staleness"] for row in frozen.state.log_history if "rollout/staleness" in row]
    assert staleness == [0, 1, 2], "updates since the model that sampled"
    assert not torch.equal(frozen.model.lm_head.weight, tiny().lm_head.weight)


def test_with_adapters_the_frozen_sampler_is_the_model_without_them(tmp_path):
    def adapted(folder, **options):
        adapters = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
        return trained(tmp_path / folder, peft_config=adapters, max_steps=2, **options)

    frozen, live, first = adapted("a"), adapted("b", sampler="live"), adapted("c", learning_rate=0.0)
    assert frozen.sampler.model is None
    assert frozen.sampled == first.sampled
    assert live.sampled != first.sampled


def test_an_engine_outside_keeps_the_initial_weights_but_for_evaluations(tmp_path, at_first):
    trainer = star(
        tmp_path, trainer_class=Remembering, reward=always, max_steps=3, learning_rate=3e-2, max_completion_length=8
    )
    engine, seen = OtherEngine(trainer.model), []
    trainer.rollouts = EngineRollouts(engine)

    class Evaluates(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 1:
                trainer.rollouts.evaluated(trainer, lambda engine: seen.append(engine.policy_version))

    trainer.add_callback(Evaluates())
    trainer.train()
    assert trainer.sampled == at_first
    assert [entry[1] for entry in engine.log if entry[0] == "update"] == [0, 0, 1, 0]  # compared, frozen, eval, frozen
    assert seen == [1]


@pytest.mark.parametrize("told", ["all", "failed"])
def test_it_resumes(tmp_path, told):
    def make(folder):
        return star(
            folder, told=told, trainer_class=Remembering, max_steps=3, learning_rate=3e-2, max_completion_length=8,
            reward=odd_start, save_strategy="steps", save_steps=2,
        )  # fmt: skip

    straight = make(tmp_path / "a")
    straight.train()
    resumed = make(tmp_path / "b")
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert resumed.sampled == straight.sampled[-1:]
    assert resumed.ledger.tokens == straight.ledger.tokens
    for name, weight in straight.model.named_parameters():
        assert torch.equal(resumed.model.get_parameter(name), weight), name


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"told": "none"}, "told='none'"),
        ({"sampler": "ema"}, "sampler='ema'"),
        ({"beta": 0.1}, "beta"),
        ({"told": "failed", "num_generations": 16, "per_device_train_batch_size": 8, "steps_per_generation": 2,
          "gradient_accumulation_steps": 2}, None),
    ],
)  # fmt: skip
def test_options(tmp_path, options, said):
    if said is None:
        assert star(tmp_path, ScriptedEngine(), **options).args.told == "failed"
        return
    with pytest.raises(ConfigError, match=said):
        star(tmp_path, ScriptedEngine(), **options)


def test_rows_without_a_told_prompt_are_refused(tmp_path):
    untold = [{key: value for key, value in row.items() if key != "told_prompt"} for row in rows(8)]
    with pytest.raises(DataError, match="what samples needs the answer-conditioned prompt"):
        star(tmp_path, ScriptedEngine(), data=untold).train()
