"""One batch = micro-batches; ours = TRL's; the whole step = the plain formula; what is trained = what was sampled."""

from __future__ import annotations

import copy

import pytest
import torch
import trl

from ixt_rl.conditioning import encode_prompt
from ixt_rl.rollout import TransformersEngine
from tests.unit.trainers.helpers import (
    WORLD,
    ScriptedEngine,
    generation_batch,
    loss_and_gradient,
    make_trainer,
    rows,
    split,
    tiny,
)

VARIANTS = [
    ("intro", {"candidates": 1}),
    ("intro", {"candidates": "exact", "posterior": "frozen"}),
    ("intro", {"candidates": "exact", "clip": 0.5}),
    ("raft", {}),
    ("raft", {"importance_ratio": True}),
    ("grpo", {"loss_type": "grpo"}),
    ("grpo", {"loss_type": "dapo"}),
    ("rloo", {}),
    ("gpg", {}),
]


@pytest.mark.parametrize(("method", "options"), VARIANTS)
def test_loss_and_gradient_do_not_depend_on_the_split(method, options, tmp_path):
    trainer = make_trainer(method, tmp_path, engine=ScriptedEngine(), **options)
    batch = generation_batch(trainer)
    trainer._sums.clear()
    loss, gradient = loss_and_gradient(trainer, [batch])
    assert gradient.abs().max() > 1e-4
    sums, count = trainer._sums.pop("entropy").tolist()
    for parts in (2, 4, 8):
        other_loss, other_gradient = loss_and_gradient(trainer, split(batch, parts))
        assert other_loss == pytest.approx(loss, rel=1e-5, abs=1e-6)
        assert trainer._sums.pop("entropy").tolist() == pytest.approx([sums, count], rel=1e-5)
        torch.testing.assert_close(other_gradient, gradient, rtol=1e-4, atol=1e-6)


def plain_intro(model, batch, tokenizer, told_rows, clip) -> torch.Tensor:
    """Step 5 of the method written as it stands: one rationale at a time, full log-softmaxes, n = 1."""
    losses = []
    for row, told in enumerate(told_rows):
        if not batch["kept"][row]:
            continue
        z = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        x = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        xy = torch.tensor(encode_prompt(tokenizer, told["told_prompt"]))
        logp, logq = (
            model(torch.cat([prompt, z])[None]).logits[0, len(prompt) - 1 : -1].log_softmax(-1).gather(1, z[:, None])
            for prompt in (x, xy)
        )
        factor = (logq - logp).exp().clamp(max=clip).detach()
        losses.append(-(factor * logp).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("clip", [200.0, 0.8])
def test_intro_with_one_candidate_equals_the_formula(tmp_path, clip):
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine(), candidates=1, clip=clip)
    batch = generation_batch(trainer)
    assert 0 < int(batch["kept"].sum()) < len(batch["kept"])  # some kept, some dropped
    loss, gradient = loss_and_gradient(trainer, [batch])
    trainer.model.zero_grad()
    told = [row for row in rows(2) for _ in range(4)]
    plain = plain_intro(trainer.model, batch, WORLD.tokenizer(), told, clip)
    plain.backward()
    expected = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    assert loss == pytest.approx(float(plain), rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_raft_equals_nll_on_kept_rationales(tmp_path):
    trainer = make_trainer("raft", tmp_path, engine=ScriptedEngine())
    batch = generation_batch(trainer)
    loss, _ = loss_and_gradient(trainer, [batch])
    expected = []
    for row in batch["kept"].nonzero().flatten().tolist():
        z = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        x = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        logits = trainer.model(torch.cat([x, z])[None]).logits[0, len(x) - 1 : -1]
        expected.append(torch.nn.functional.cross_entropy(logits, z))
    assert loss == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_grpo_equals_trl_on_the_same_batch(tmp_path, loss_type, beta):
    """Left-padded prompts of unequal length, right-padded completions, advantages of both signs."""
    generator = torch.Generator().manual_seed(3)
    lengths = [(3, 6), (5, 2), (2, 7), (5, 7)]
    prompt_mask = torch.tensor([[0] * (5 - p) + [1] * p for p, _ in lengths])
    completion_mask = torch.tensor([[1] * c + [0] * (7 - c) for _, c in lengths])
    batch = {
        "prompt_ids": torch.randint(0, 10, (4, 5), generator=generator) * prompt_mask + 12 * (1 - prompt_mask),
        "prompt_mask": prompt_mask,
        "completion_ids": torch.randint(0, 10, (4, 7), generator=generator) * completion_mask
        + 12 * (1 - completion_mask),
        "completion_mask": completion_mask,
        "advantages": torch.tensor([1.0, -0.5, 0.3, -1.2]),
        "num_items_in_batch": completion_mask.sum().float(),
        "old_per_token_logps": -1.0 - torch.rand(4, 7, generator=generator),
    }
    if beta:
        batch["ref_per_token_logps"] = -1.0 - torch.rand(4, 7, generator=generator)
    model = tiny()
    ours = make_trainer("grpo", tmp_path, copy.deepcopy(model), loss_type=loss_type)
    args = trl.GRPOConfig(**{**_shared(ours.args), "loss_type": loss_type})
    theirs = trl.GRPOTrainer(
        copy.deepcopy(model),
        [lambda **_: [0.0]],
        args,
        train_dataset=ours.train_dataset,
        processing_class=WORLD.tokenizer(),
    )
    results = []
    for trainer in (ours, theirs):
        trainer.beta = beta
        trainer.model.train()
        results.append(loss_and_gradient(trainer, [batch]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5, abs=1e-7)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)
    assert results[0][1].abs().max() > 1e-4


def _shared(args) -> dict:
    names = ("output_dir", "max_steps", "per_device_train_batch_size", "num_generations", "max_completion_length")
    return {name: getattr(args, name) for name in names} | {
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
    }


class SpyEngine(TransformersEngine):
    """The real engine, remembering what it sampled."""

    def generate(self, prompts, sampling, n=1):
        groups = super().generate(prompts, sampling, n)
        self.sampled = [(list(r.prompt_ids), list(r.completion_ids)) for group in groups for r in group]
        return groups


@pytest.mark.parametrize("method", ["intro", "raft"])
def test_trained_ids_equal_sampled_ids(tmp_path, method):
    model = tiny()
    engine = SpyEngine(model, eos_ids=(11,), pad_id=12)
    trainer = make_trainer(method, tmp_path, model, engine=engine)
    batch = generation_batch(trainer)
    batch["kept"] = torch.ones_like(batch["kept"])
    trained = trainer.policy_batch(trainer.trained_rows(batch))
    found = []
    for row in range(len(trained.input_ids)):
        ids, loss = trained.input_ids[row], trained.loss_mask[row]
        real = trained.attention_mask[row].bool()
        found.append((ids[real & ~loss].tolist(), ids[loss].tolist()))
    assert found == engine.sampled


def test_dropped_rationales_cost_no_forward_pass(tmp_path):
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine())
    batch = generation_batch(trainer)
    seen = []
    hook = trainer.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    loss_and_gradient(trainer, [batch])
    hook.remove()
    assert seen == [int(batch["kept"].sum())] * 2  # the posterior pass and the policy pass


def test_nothing_kept_gives_zero_loss_and_zero_gradient_but_the_same_passes(tmp_path):
    for method in ("intro", "raft"):
        trainer = make_trainer(method, tmp_path, engine=ScriptedEngine())
        batch = generation_batch(trainer)
        batch["kept"] = torch.zeros_like(batch["kept"])
        batch["kept_total"] = torch.tensor(0)
        loss, gradient = loss_and_gradient(trainer, [batch])
        assert loss == 0.0
        assert gradient.abs().max() == 0.0


def test_ema_and_frozen_posteriors_move_as_they_should(tmp_path):
    for posterior, decay in (("frozen", None), ("ema", 0.9)):
        model = tiny()
        start = [p.detach().clone() for p in model.parameters()]
        trainer = make_trainer(
            "intro", tmp_path, model, engine=ScriptedEngine(), posterior=posterior, posterior_decay=decay, max_steps=1
        )
        trainer.train()
        end = list(trainer.accelerator.unwrap_model(trainer.model).parameters())
        assert max(float((a - b).detach().abs().max()) for a, b in zip(start, end, strict=True)) > 1e-5
        for before, after, q in zip(start, end, trainer.posterior.model.parameters(), strict=True):
            expected = before if posterior == "frozen" else 0.9 * before + 0.1 * after.detach()
            torch.testing.assert_close(q, expected)
            assert not q.requires_grad
