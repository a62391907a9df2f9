"""SIPTrainer: each objective in closed form, TRL's DPO on its pairs, one batch = micro-batches, stopped = straight on,
a judge that is down, and a small run that learns."""

from __future__ import annotations

import copy
import dataclasses
import os
import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
import trl
from datasets import Dataset

from ixt_rl.errors import BackendFailed, ConfigError, DataError
from ixt_rl.kernels.correction import Correction
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers import SIPConfig, SIPTrainer
from ixt_rl.trainers.refused_options import PROMPTS, RATIO
from ixt_rl.trainers.sip.groups import merge
from ixt_rl.trainers.sip.scoring import patiently
from ixt_rl.types import Rollout, Verdict
from tests.unit.distributed import keep, kept, run_ranks
from tests.unit.kernels.test_preference import Ready
from tests.unit.trainers.helpers import ScriptedEngine, tiny
from tests.unit.trainers.sip_helpers import (
    TOKENIZER,
    candidate,
    judge_by,
    letters,
    logps,
    loss_and_gradient,
    make_trainer,
    negated,
    prompts,
    suffix_stream,
    update,
)

ALL = ["original", "rewrite", "rollout"]
OBJECTIVES = [
    {"objective": "dpo", "sources": ALL},
    {"objective": "dpo", "reference": "none"},
    {"objective": "rf-nll", "sources": ALL},
    {"objective": "grpo", "sources": ALL},
    {"objective": "nll", "num_generations": None},
    {"objective": "sft-rewrite", "num_generations": None},
    {"objective": "sft-rollout", "num_generations": None},
    {"objective": "dpo-rewrite", "num_generations": None},
]
NAMES = [f"{o['objective']}{'-free' if o.get('reference') else ''}" for o in OBJECTIVES]

# Options of trl.SFTConfig, beyond transformers' own, that reach TRL code which the trainer still runs.
HONOURED = {"model_init_kwargs", "trust_remote_code", "eos_token", "activation_offloading", "pad_token"}
HONOURED |= {"router_aux_loss_coef"}


def examples(parts) -> list:
    return [example for part in parts for example in part["examples"]]


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("objective", ["dpo", "dpo-rewrite"])
def test_loss_and_gradient_are_those_of_trls_dpo_on_the_same_pairs(tmp_path, objective):
    """Also after the policy has left its reference."""
    model, moved = tiny(seed=0), tiny(seed=1)
    config = {"objective": objective} | ({"sources": ALL} if objective == "dpo" else {"num_generations": None})
    trainer = make_trainer(tmp_path, copy.deepcopy(model), config={**config, "beta": 0.7})
    trainer.model.load_state_dict(moved.state_dict())
    parts = update(trainer)
    pairs = examples(parts)
    assert len(pairs) > 2
    loss, gradient = loss_and_gradient(trainer, parts)
    rows = [
        {"prompt_ids": list(e.prefix_ids), "chosen_ids": list(e.texts[0].ids), "rejected_ids": list(e.texts[1].ids)}
        for e in pairs
    ]
    args = trl.DPOConfig(
        str(tmp_path), beta=0.7, report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False
    )
    theirs = Ready(moved, model, args, train_dataset=Dataset.from_list(rows), processing_class=TOKENIZER)
    theirs.model.train()
    expected = theirs.compute_loss(theirs.model, theirs.data_collator(rows))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    wanted = torch.cat([p.grad.flatten() for p in theirs.model.parameters()])
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("objective", ["rf-nll", "nll", "sft-rewrite", "sft-rollout"])
def test_nll_is_the_plain_mean_over_tokens_of_the_texts_it_is_of(tmp_path, objective):
    config = {"objective": objective} | ({"sources": ALL} if objective == "rf-nll" else {"num_generations": None})
    trainer = make_trainer(tmp_path, config=config)
    parts = update(trainer)
    trained = examples(parts)
    items = {item.prefix_ids: item for item in prompts()}
    for example in trained:
        (text,) = example.texts
        if objective == "nll":
            assert text.ids == items[example.prefix_ids].suffix_ids
        elif objective == "rf-nll":
            assert text.score is not None
        else:
            assert set(text.written) == {objective.removeprefix("sft-")}
    assert len(trained) == 8 or objective == "sft-rewrite"
    loss, gradient = loss_and_gradient(trainer, parts)
    trainer.model.zero_grad()
    plain = -torch.cat([logps(trainer.model, e.prefix_ids, e.texts[0].ids) for e in trained]).mean()
    plain.backward()
    assert loss == pytest.approx(plain.item(), rel=1e-5)
    expected = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_rf_nll_trains_the_text_with_the_highest_score(tmp_path):
    trainer = make_trainer(tmp_path, config={"objective": "rf-nll", "sources": ALL})
    items = prompts(8)
    candidates = {item.prefix_ids: merge(given) for item, given in zip(items, trainer.propose(items), strict=True)}
    for example in examples(update(trainer)):
        prefix = TOKENIZER.decode(example.prefix_ids, skip_special_tokens=True)
        scores = [letters(prefix, text.candidate.text) for text in candidates[example.prefix_ids]]
        assert example.texts[0].score == max(score for score in scores if score is not None)


@pytest.mark.parametrize("correction", [None, Correction(mode="truncate", cap=1.5)])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_grpo_is_the_formula_over_all_candidates(tmp_path, correction, temperature):
    """Every candidate one at a time, copies included; off-policy ones have ratio 1, rollouts theirs when corrected."""
    trainer = make_trainer(
        tmp_path,
        correction=correction,
        engine=ScoringEngine(),
        config={"objective": "grpo", "sources": ALL, "temperature": temperature},
    )
    items = prompts(8)
    groups = trainer.judged(items)
    parts = update(trainer)
    loss, gradient = loss_and_gradient(trainer, parts)
    trainer.model.zero_grad()
    terms, rows, corrected = [], 0, 0
    for group in groups:
        scores = torch.tensor([text.score for text in group.decided for _ in range(text.copies)])
        if len(scores) < 2:
            continue
        rows += len(scores)
        for text in group.decided:
            advantage = (text.score - scores.mean()) / (scores.std() + 1e-4)
            logits = trainer.model(torch.tensor([[*group.prefix_ids, *text.ids]])).logits[0]
            logp = (logits[len(group.prefix_ids) - 1 : -1] / temperature).log_softmax(-1)
            logp = logp.gather(1, torch.tensor(text.ids)[:, None])[:, 0]
            for source, written in text.written.items():
                weight = torch.ones_like(logp)
                if source == "rollout" and correction is not None:
                    weight = (logp.detach() - torch.tensor(text.logprobs)).exp().clamp(max=1.5)
                    corrected += int((weight != 1).any())
                terms.append(-written * advantage * (weight * (logp - logp.detach()).exp()).mean())
    total = torch.stack(terms).sum() / rows
    total.backward()
    expected = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    assert (corrected > 0) == (correction is not None)
    assert expected.abs().max() > 1e-3
    assert loss == pytest.approx(total.item(), rel=1e-4, abs=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=2e-6)


class ScoringEngine(ScriptedEngine):
    """Scripted rollouts with made-up log-probs of their sampling."""

    def _rollout(self, prompt, turn):
        made = super()._rollout(prompt, turn)
        rng = random.Random(sum(prompt) * 10 + turn)
        return replace(made, logprobs=tuple(-rng.uniform(1, 5) for _ in made.completion_ids))


@pytest.mark.parametrize("options", OBJECTIVES, ids=NAMES)
def test_loss_and_gradient_do_not_depend_on_the_split(tmp_path, options):
    """Micro-batches of 8, 4, 2 and 1 prompts: the same rollouts, examples and denominator."""
    results = []
    for size in (8, 4, 2, 1):
        config = {**options, "per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        trainer = make_trainer(tmp_path, config=config)
        if trainer.reference is not None:
            trainer.model.load_state_dict(tiny(seed=1).state_dict())
        parts = update(trainer)
        assert len(parts) == 8 // size
        results.append((examples(parts), *loss_and_gradient(trainer, parts)))
    assert results[0][2].abs().max() > 1e-4
    for made, loss, gradient in results[1:]:
        assert made == results[0][0]
        assert loss == pytest.approx(results[0][1], rel=1e-5, abs=1e-6)
        torch.testing.assert_close(gradient, results[0][2], rtol=1e-4, atol=1e-6)


def test_the_trainers_own_loop_divides_by_nothing_more(tmp_path):
    """A whole run with the model's own rollouts: weights after micro-batches are those of one batch."""
    weights = []
    for size in (8, 2):
        config = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size, "max_steps": 3}
        trainer = make_trainer(tmp_path, tiny(), engine="model", config={**config, "max_completion_length": 8})
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert (weights[0] - torch.cat([p.detach().flatten() for p in tiny().parameters()])).abs().max() > 1e-3
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)


def test_an_update_with_nothing_to_train_changes_nothing(tmp_path):
    trainer = make_trainer(tmp_path, judge=judge_by(lambda prefix, text: None))
    (part,) = update(trainer)
    loss, gradient = loss_and_gradient(trainer, [part])
    assert part["examples"] == []
    assert loss == 0
    assert not gradient.any()


# ---------------------------------------------------------------- candidates and choices


def test_trained_ids_are_the_ids_that_were_cut_and_sampled(tmp_path):
    """Also ids whose text would be tokenized otherwise: the judge sees text, the loss ids."""
    odd = (13, 13, 5, 12, 11)  # with <pad> inside, which no text shows

    class Odd(ScriptedEngine):
        def _rollout(self, prompt, turn):
            return Rollout(prompt, odd, (0.0,) * 5, "eos", 0)

    config = {"objective": "sft-rollout", "num_generations": None}
    for example in examples(update(make_trainer(tmp_path, engine=Odd(), config=config))):
        assert example.texts[0].ids == odd
        assert TOKENIZER(example.texts[0].candidate.text, add_special_tokens=False)["input_ids"] != list(odd)
        assert example.prefix_ids in {item.prefix_ids for item in prompts()}


def test_a_swapped_judge_swaps_chosen_and_rejected(tmp_path):
    config = {"objective": "dpo", "sources": ALL}
    straight = examples(update(make_trainer(tmp_path, config=config)))
    swapped = examples(update(make_trainer(tmp_path, config=config, judge=judge_by(negated))))
    assert len(straight) == len(swapped) > 2
    unique = 0
    for one, other in zip(straight, swapped, strict=True):
        assert [text.score for text in one.texts] == pytest.approx([1 - text.score for text in other.texts[::-1]])
        unique += [text.ids for text in one.texts] == [text.ids for text in other.texts[::-1]]
    assert unique > 1  # where no two texts share a score, the very texts


def test_the_order_in_which_candidates_come_does_not_matter(tmp_path):
    class Backwards(ScriptedEngine):
        def generate(self, prompts, sampling, n=1):
            return [group[::-1] for group in super().generate(prompts, sampling, n)]

    config = {"objective": "dpo", "sources": ALL}
    forth = make_trainer(tmp_path, config=config)
    back = make_trainer(tmp_path, config={**config, "sources": ALL[::-1]}, engine=Backwards())
    assert [e.texts for e in examples(update(forth))] == [e.texts for e in examples(update(back))]
    assert forth.means.take(forth.accelerator) == pytest.approx(back.means.take(back.accelerator), nan_ok=True)


def test_identical_texts_are_judged_once_and_share_their_verdict(tmp_path):
    asked = []

    def judge(prefixes, originals, groups):
        asked.extend(groups)
        return judge_by()(prefixes, originals, groups)

    trainer = make_trainer(tmp_path, judge=judge, config={"sources": ALL, "num_generations": 8})
    update(trainer)
    assert all(len({one.ids for one in group}) == len(group) for group in asked)
    found = trainer.means.take(trainer.accelerator)
    raw = 8 * (1 + 8) + 8 * (1 - found["rewrite/missing"])
    assert (
        0.2 < found["candidates/identical"] < 0.5
    )  # eight rollouts in four styles, some spoiled; copies of the original
    assert sum(map(len, asked)) < 0.8 * raw


def test_ties_and_undecided_are_skipped_and_counted(tmp_path):
    def judge(prefixes, originals, groups):
        """The first prompt tied, the second with one decided text, the third without any, the others with a gap."""
        scores = [lambda i: 0.5, lambda i: 1.0 if i == 0 else None, lambda i: None]
        return [
            [
                replace(one, verdict=Verdict(scores[number](i) if number < 3 else i / 10, ""))
                for i, one in enumerate(group)
            ]
            for number, group in enumerate(groups)
        ]

    for objective, trained in (("dpo", 5), ("grpo", 5), ("rf-nll", 7)):
        trainer = make_trainer(tmp_path, judge=judge, config={"objective": objective, "num_generations": 3})
        assert len(examples(update(trainer))) == trained, objective
        found = trainer.means.take(trainer.accelerator)
        assert found["ties/all"] == pytest.approx(1 / 8)
        undecided = 1 if objective == "rf-nll" else 2
        assert found["skipped/undecided"] == pytest.approx(undecided / 8)
        assert found["skipped/tie"] == pytest.approx((objective != "rf-nll") / 8)
        assert 0 < found["candidates/undecided"] < 0.5


def test_missing_rewrites_leave_the_other_candidates(tmp_path):
    judged = make_trainer(tmp_path, config={"sources": ALL})
    assert len(judged.propose(prompts(8))) == 8
    missing = judged.means.take(judged.accelerator)["rewrite/missing"]
    assert 0 < missing < 1
    baseline = make_trainer(tmp_path, config={"objective": "dpo-rewrite", "num_generations": None})
    made = examples(update(baseline))
    found = baseline.means.take(baseline.accelerator)
    assert found["skipped/no_rewrite"] == missing
    assert len(made) == 8 - 8 * (found["skipped/no_rewrite"] + found["skipped/tie"])


def test_a_rollout_that_equals_the_rewrite_is_no_pair(tmp_path):
    class Copies(ScriptedEngine):
        def _rollout(self, prompt, turn):
            return Rollout(prompt, (5, 11), (0.0, 0.0), "eos", 0)

    trainer = make_trainer(
        tmp_path,
        engine=Copies(),
        rewriter=lambda items: [candidate("rewrite", (5, 11)) for _ in items],
        config={"objective": "dpo-rewrite", "num_generations": None},
    )
    assert examples(update(trainer)) == []
    assert trainer.means.take(trainer.accelerator)["skipped/tie"] == 1.0


# ---------------------------------------------------------------- reference, counts


def test_the_reference_is_frozen_synced_or_none(tmp_path):
    def log_odds(reference: str, steps: int | None, updates: int) -> float:
        """Mean |margin| of the pairs after `updates` updates: 0 where the policy is its reference."""
        config = {"reference": reference, "reference_sync_steps": steps, "max_steps": updates}
        trainer = make_trainer(tmp_path, tiny(), config=config)
        trainer.train()
        loss_and_gradient(trainer, update(trainer))
        return abs(trainer.means.take(trainer.accelerator)["dpo/margin"])

    assert log_odds("frozen", None, 2) > 1e-3
    assert log_odds("synced", 2, 2) == pytest.approx(0, abs=1e-6)
    assert log_odds("synced", 2, 3) > 1e-3
    assert log_odds("none", None, 2) > 1e-3
    free = make_trainer(tmp_path, config={"reference": "none"})
    loss, _ = loss_and_gradient(free, parts := update(free))
    margins = [
        0.1 * float((logps(free.model, e.prefix_ids, e.texts[0].ids).sum()
                     - logps(free.model, e.prefix_ids, e.texts[1].ids).sum()).detach())
        for e in examples(parts)
    ]  # fmt: skip
    assert loss == pytest.approx(float(-torch.tensor(margins).sigmoid().log().mean()), rel=1e-4)


def test_with_lora_the_reference_is_the_model_without_adapters(tmp_path):
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = make_trainer(tmp_path, tiny(), peft_config=lora, config={"max_steps": 3})
    before = [p.detach().clone() for p in trainer.model.get_base_model().model.embed_tokens.parameters()]
    parts = update(trainer)
    start, _ = loss_and_gradient(trainer, parts)
    assert start == pytest.approx(0.6931, abs=1e-4)  # log 2: no adapter has done anything yet
    trainer.train()
    assert trainer.state.log_history[2]["dpo/margin"] != 0
    assert torch.equal(before[0], next(trainer.model.get_base_model().model.embed_tokens.parameters()))
    with pytest.raises(ConfigError, match="LoRA"):
        make_trainer(
            tmp_path, tiny(), peft_config=lora, config={"reference": "synced", "reference_sync_steps": 1}
        )  # fmt: skip


def tokens(groups) -> int:
    return sum(len(r.prompt_ids) + len(r.completion_ids) for group in groups for r in group)


def test_tokens_of_every_phase_are_counted(tmp_path):
    class Tally:
        prompt_tokens = completion_tokens = 0

    class Judge:
        judge = type("Client", (), {"tally": Tally()})()

        def __call__(self, *asked):
            self.judge.tally.prompt_tokens += 100
            self.judge.tally.completion_tokens += 11
            return judge_by()(*asked)

    trainer = make_trainer(tmp_path, judge=Judge())
    parts = update(trainer)
    loss_and_gradient(trainer, parts)
    rows = [len(e.prefix_ids) + len(text.ids) for e in examples(parts) for text in e.texts]
    assert trainer.ledger.tokens["train"] == sum(rows)
    assert trainer.ledger.tokens["annotate"] == 111
    prefixes = [item.prefix_ids for item in prompts(8)]
    assert trainer.ledger.tokens["rollout"] == tokens(ScriptedEngine().generate(prefixes, None, 4))
    parity = tokens(ScriptedEngine().generate(prefixes[:4], None))  # the engine's log-probs are compared
    assert trainer.ledger.tokens["score"] == sum(rows) + parity


# ---------------------------------------------------------------- stopping and going on


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "model", "max_completion_length": 6},
        {"stream": True, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
        {"reference": "synced", "reference_sync_steps": 2},
        {"objective": "grpo", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
    ],
)
def test_stopped_and_resumed_is_straight_through(tmp_path, options):
    config = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, **options}
    engine, make_data = config.pop("engine", None), suffix_stream if config.pop("stream", False) else prompts
    straight = make_trainer(tmp_path / "a", tiny(), engine=engine, data=make_data(), config=config)
    straight.train()
    resumed = make_trainer(tmp_path / "b", tiny(), engine=engine, data=make_data(), config=config)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert resumed.ledger.tokens == straight.ledger.tokens
    for (name, a), b in zip(straight.model.named_parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=0, msg=name)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    config = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    make_trainer(tmp_path, config=config).train()
    moving = make_trainer(tmp_path, config={**config, "reference": "synced", "reference_sync_steps": 1})
    with pytest.raises(DataError, match="reference"):
        moving.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    (tmp_path / "checkpoint-1" / "cursor.json").unlink()
    with pytest.raises(DataError, match=r"no cursor\.json"):
        make_trainer(tmp_path, config=config).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


class Down:
    """A judge that fails on some of its calls."""

    def __init__(self, fails):
        self.fails, self.calls = fails, 0

    def __call__(self, *asked):
        self.calls += 1
        if self.fails(self.calls):
            raise BackendFailed("the judge is down", reason="no route to host", remedy="start it")
        return judge_by()(*asked)


def test_a_judge_that_comes_back_costs_nothing_but_time(tmp_path):
    slept = []
    trainer = make_trainer(tmp_path, tiny(), judge=Down(lambda call: call in (2, 3, 4)), config={"max_steps": 3})
    trainer.scoring.sleep = slept.append
    trainer.train()
    assert slept == [1.0, 2.0, 4.0]
    assert trainer.state.log_history[-2]["judge/retries"] == 3
    assert trainer.state.log_history[-2]["judge/waited_seconds"] == 7.0
    calm = make_trainer(tmp_path, tiny(), config={"max_steps": 3})
    calm.train()
    for a, b in zip(trainer.model.parameters(), calm.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_part_is_judged_while_the_next_is_sampled(tmp_path):
    """The judge of the first part waits for the sampling of the second, which would never begin without overlap."""
    second_part_sampled, seen = threading.Event(), []

    class Noticing(ScriptedEngine):
        def generate(self, prompts, sampling, n=1):
            if n == 4:  # the rollouts; the parity probe asks for one each
                seen.append(sampling.seed)
            if len(seen) == 2:
                second_part_sampled.set()
            return super().generate(prompts, sampling, n)

    def judge(*asked):
        assert second_part_sampled.wait(timeout=20)
        return judge_by()(*asked)

    config = {"objective": "rf-nll", "judge_parts": 2}
    trainer = make_trainer(tmp_path, engine=Noticing(), judge=judge, config=config)
    groups = trainer.judged(prompts(8))
    assert len(groups) == 8 and all(group.decided for group in groups)
    assert len({*seen}) == 2  # each part has noise of its own


def test_a_judge_that_stays_down_stops_the_run_and_nothing_trained_is_lost(tmp_path):
    config = {"max_steps": 4, "judge_patience": 5.0}
    stopped = make_trainer(tmp_path, tiny(), judge=Down(lambda call: call > 2), config=config)
    slept = []
    stopped.scoring.sleep = slept.append
    with pytest.raises(BackendFailed, match="the judge is down"):
        stopped.train()
    assert sum(slept) == 5.0
    straight = make_trainer(tmp_path / "straight", tiny(), config=config)
    straight.train()
    resumed = make_trainer(tmp_path, tiny(), config=config)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))  # although save_strategy is "no"
    for a, b in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_waits_double_up_to_a_minute_and_only_a_failed_backend_is_waited_for():
    slept = []

    def fails():
        raise BackendFailed("down")

    with pytest.raises(BackendFailed):
        patiently(fails, 200.0, slept.append, lambda seconds: None)
    assert slept == [1, 2, 4, 8, 16, 32, 60, 60, 17]
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 / 0, 200.0, slept.append, lambda seconds: None)


@pytest.mark.parametrize("drop", ["group", "candidate"])
def test_a_judge_that_loses_candidates_is_told_so(tmp_path, drop):
    def judge(*asked):
        answers = judge_by()(*asked)
        return answers[1:] if drop == "group" else [group[1:] for group in answers]

    with pytest.raises(DataError, match="answers"):
        update(make_trainer(tmp_path, judge=judge))


# ---------------------------------------------------------------- options


def test_every_option_of_trl_is_on_one_side():
    base = {f.name for f in dataclasses.fields(transformers.TrainingArguments)}
    options = {f.name for f in dataclasses.fields(trl.SFTConfig)} - base
    assert options - set(PROMPTS) - HONOURED == set()
    assert not set(PROMPTS) & HONOURED
    assert set(PROMPTS) <= options | base


@pytest.mark.parametrize(
    "options",
    [
        {"packing": True}, {"max_length": 512}, {"loss_type": "dft"}, {"label_smoothing_factor": 0.1},
        {"dataloader_num_workers": 1}, {"eval_strategy": "steps"}, {"eval_on_start": True},
        {"completion_only_loss": True},
        {"auto_find_batch_size": True}, {"objective": "ppo"}, {"sources": ["rewrite"]},
        {"sources": []}, {"sources": ["original"]}, {"sources": ["original", "original"]},
        {"sources": ["rollout"], "num_generations": 1}, {"num_generations": 0},
        {"num_generations": 2, "sources": ["original", "rewrite"]}, {"num_generations": 2, "objective": "sft-rollout"},
        {"sources": ["original", "rollout"], "objective": "nll"}, {"beta": 0.0}, {"temperature": 0.0},
        {"reference": "ema"}, {"reference": "synced"}, {"reference_sync_steps": 5}, {"judge_patience": -1.0},
        {"top_p": 0.9, "objective": "grpo"}, {"top_k": 5, "objective": "grpo"},
        {"min_p": 0.1, "objective": "grpo"}, {"max_completion_length": 0},
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(tmp_path, options):
    with pytest.raises(ConfigError) as error:
        SIPConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **{"max_steps": 1, **options})
    assert next(iter(options)) in str(error.value)
    assert error.value.reason
    assert error.value.remedy


def test_truncated_sampling_is_fine_where_no_ratio_is_formed(tmp_path):
    args = SIPConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, max_steps=1, top_p=0.9, top_k=5, min_p=0.1)
    assert (args.sources, args.num_generations) == (["original", "rollout"], 16)
    assert set(RATIO) == {"top_p", "top_k", "min_p"}


@pytest.mark.parametrize(
    ("config", "parts", "named"),
    [
        ({}, {"judge": None}, "judge"),
        ({"objective": "nll", "num_generations": None}, {"judge": judge_by()}, "judge"),
        ({"sources": ALL}, {"rewriter": None}, "rewriter"),
        ({}, {"rewriter": lambda items: []}, "rewriter"),
        ({}, {"correction": Correction()}, "correction"),
        ({}, {"eval_dataset": []}, "eval_dataset"),
        ({}, {"compute_loss_func": print}, "compute_loss_func"),
    ],
)
def test_parts_that_do_not_go_with_the_config_are_refused(tmp_path, config, parts, named):
    if named == "eval_dataset":
        parts = {"eval_dataset": Dataset.from_list([{"input_ids": [0]}])}
    with pytest.raises(ConfigError, match=named):
        make_trainer(tmp_path, config=config, **parts)


def test_rollouts_that_would_not_fit_are_refused(tmp_path):
    for rollouts, named in (
        (EngineRollouts(type("Ahead", (), {"submit": None})(), staleness=1), "staleness"),
        (EngineRollouts(max_prompt_tokens=8), "max_prompt_tokens"),
    ):
        args = SIPConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, max_steps=1)
        with pytest.raises(ConfigError, match=named):
            SIPTrainer(tiny(), args, prompts(), TOKENIZER, judge=judge_by(), rollouts=rollouts)
    trainer = make_trainer(tmp_path, config={"max_completion_length": 100_000})
    with pytest.raises(DataError, match="positions"):
        update(trainer)


# ---------------------------------------------------------------- learning


def exact(prefix: str, text: str) -> float:
    """1 for the sum of a prefix `a b =`, below 10, and nothing else."""
    a, b, *_ = prefix.split()
    return float(text == str(int(a) + int(b)))


@pytest.mark.parametrize("objective", ["dpo", "rf-nll", "grpo"])
def test_a_verifier_as_judge_makes_rollouts_better(tmp_path, objective, half_right):
    """Sums of two digits from a base that was shown wrong ones half of the time; the original suffix is one, too."""
    model, items = half_right
    config = {
        "objective": objective, "max_steps": 30, "num_generations": 8, "per_device_train_batch_size": 16,
        "max_completion_length": 3, "learning_rate": 3e-3, "adam_epsilon": 1e-8,
    }  # fmt: skip
    trainer = make_trainer(
        tmp_path, copy.deepcopy(model), data=items, engine="model", judge=judge_by(exact), config=config
    )
    trainer.train()
    history = [row["score/rollout"] for row in trainer.state.log_history if "score/rollout" in row]
    assert len(history) == 30
    first, last = sum(history[:5]) / 5, sum(history[-5:]) / 5
    assert first < 0.8
    assert last > first + 0.15
    chosen = [row["chosen/rollout"] for row in trainer.state.log_history if "chosen/rollout" in row]
    assert sum(chosen) / len(chosen) > 0.5  # eight rollouts against one suffix that is wrong half of the time


@pytest.fixture(scope="module")
def half_right():
    """(model, prompts): a base that has seen every sum, with a random number in its place half of the time."""
    from ixt_rl.conditioning import pad, prompt_completion
    from ixt_rl.data.suffixes import PrefixSuffix

    rng = random.Random(0)

    def item(a: int, b: int) -> PrefixSuffix:
        shown = a + b if rng.random() < 0.5 else rng.randrange(10)
        return PrefixSuffix(tuple(TOKENIZER(f"{a} {b} =")["input_ids"]), (shown, 11), "")

    items = [item(a, b) for a in range(5) for b in range(5) for _ in range(8)]
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        batch = pad([prompt_completion(i.prefix_ids, i.suffix_ids) for i in rng.sample(items, 64)], 12)
        logp = model(batch.input_ids, attention_mask=batch.attention_mask).logits[batch.predictor_mask].log_softmax(-1)
        optimizer.zero_grad()
        (-logp.gather(1, batch.target_ids[:, None]).mean()).backward()
        optimizer.step()
    return model, items


KEPT = ("loss", "chosen", "rejected", "score", "ties", "skipped", "rewrite", "rollout", "flops/train", "dpo", "corpus")


def train_and_keep(folder: str, per_device: int, accumulation: int) -> None:
    """Three updates in this process, or on this rank; the first rank keeps weights and logs."""

    def judge(*asked):
        assert int(os.environ.get("RANK", 0)) == 0  # for all ranks
        assert len(asked[0]) == 8
        return judge_by()(*asked)

    config = {
        "sources": ["original", "rewrite", "rollout"], "max_steps": 3, "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": accumulation, "save_strategy": "steps", "save_steps": 3,
        **({"ddp_backend": "gloo"} if "RANK" in os.environ else {}),
    }  # fmt: skip
    trainer = make_trainer(Path(folder, "trainer"), tiny(), judge=judge, config=config)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "ties/all" in row]
    keep(trainer, folder, [{k: v for k, v in row.items() if k.startswith(KEPT)} for row in logged])


@pytest.mark.slow
def test_ranks_reach_the_weights_of_one_process(tmp_path):
    """Two ranks with micro-batches of 2: the rollouts, verdicts, denominators and shares of one batch of 8."""
    one, two = (tmp_path / name for name in ("one", "two"))
    one.mkdir()
    two.mkdir()
    train_and_keep(str(one), 8, 1)
    run_ranks(__name__, f"train_and_keep({str(two)!r}, 2, 2)")
    (whole, logged), (split, split_logged) = kept(one), kept(two)
    for row, other in zip(logged, split_logged, strict=True):
        assert set(row) == set(other)
        for name in row:
            assert other[name] == pytest.approx(row[name], rel=1e-3, abs=1e-4), name
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], rtol=1e-4, atol=5e-6, msg=name)
