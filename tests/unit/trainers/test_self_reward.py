"""LaTRO and RLP: rewards from the model's own log-probs, against plain forward passes and all rationales of a toy."""

from __future__ import annotations

import itertools

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels.correction import Correction
from ixt_rl.methods.latro import LatroBlock
from ixt_rl.trainers import LaTROTrainer
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
from tests.unit.trainers.test_policy_gradient import with_own_logps

EOS = 11
METHODS = ["latro", "rlp"]


def logps(model, pairs) -> Tensor:
    """Of each (before, after) the summed log-prob of `after`, by plain forward passes, one for each two lengths."""
    shapes: dict[tuple[int, int], list[int]] = {}
    for place, (before, after) in enumerate(pairs):
        shapes.setdefault((len(before), len(after)), []).append(place)
    found, order = [], []
    for (start, length), places in shapes.items():
        ids = torch.tensor([[*pairs[place][0], *pairs[place][1]] for place in places])
        seen = model(ids).logits[:, start - 1 : start + length - 1].log_softmax(-1)
        found.append(seen.gather(2, ids[:, start:, None]).sum(dim=(1, 2)))
        order += places
    return torch.cat(found)[torch.tensor(order).argsort()]


def read(trainer, row):
    """x, and y as the default target has it."""
    return trainer.encoded([row])[0], WORLD.tokenizer()(row["answer"], add_special_tokens=False)["input_ids"]


def without_end(z):
    return z[:-1] if z[-1] == EOS else z


# ---------------------------------------------------------------- LaTRO


def every_rationale():
    """All of at most two tokens: those that end, and those that are cut off."""
    once = [token for token in range(len(WORLD.tokenizer())) if token != EOS]
    return [[EOS], *([a, b] for a, b in itertools.product(once, [*once, EOS]))]


class Enumerated(LaTROTrainer):
    """A rationale counts as its probability, not as one of K."""

    def token_weights(self, batch, signals):
        probability = signals.columns["probability"]
        return probability[batch.target_rows]


def test_latro_s_expected_gradient_is_that_of_its_objective(tmp_path, kl=0.3):
    """Over all rationales of at most two tokens, against autograd of E_z[log p(y | x, z) - kl log p / p_0]."""
    trainer = make_trainer("latro", tmp_path, tiny(), engine=ScriptedEngine(), trainer_class=Enumerated, kl=kl)
    with torch.no_grad():  # away from the initial model
        for weight in trainer.model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    x, y = read(trainer, rows(1)[0])
    rationales = every_rationale()

    moved = logps(trainer.model, [(x, z) for z in rationales])
    assert float(moved.detach().exp().sum()) == pytest.approx(1, abs=1e-4)
    with torch.no_grad():
        initial = logps(tiny(), [(x, z) for z in rationales])
    score = logps(trainer.model, [([*x, *without_end(z)], y) for z in rationales])
    objective = (moved.exp() * (score - kl * (moved - initial))).sum()
    gradients = torch.autograd.grad(-objective, list(trainer.model.parameters()))
    wanted = torch.cat([gradient.flatten() for gradient in gradients])

    count = len(rationales)
    mask = torch.tensor([[1, int(len(z) > 1)] for z in rationales])
    batch = {
        "prompt_ids": torch.tensor([x] * count), "prompt_mask": torch.ones(count, len(x), dtype=torch.long),
        "completion_ids": torch.tensor([[*z, 12][:2] for z in rationales]), "completion_mask": mask,
        "num_items_in_batch": mask.sum(), "target_ids": [y] * count, "rewards_per_func": torch.zeros(count, 1),
        "probability": moved.detach().exp(), "rows_total": torch.tensor(count),
    }  # fmt: skip
    trainer.model.train()
    batch["rewards"] = trainer.self_rewards([x] * count, rationales, batch["target_ids"], batch)
    batch["advantages"] = batch["rewards"] - 1.7  # any baseline that is the same for all
    _, gradient = loss_and_gradient(trainer, [batch])
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_latro_s_rewards_and_advantages_are_those_of_plain_passes(tmp_path):
    trainer = make_trainer("latro", tmp_path, tiny(), engine=ScriptedEngine(), kl=0.0)
    batch = generation_batch(trainer)
    completions = trainer.completion_lists(batch)
    asked = [read(trainer, row) for row in rows(2) for _ in range(4)]
    with torch.no_grad():
        after = [([*x, *without_end(z)], y) for (x, y), z in zip(asked, completions, strict=True)]
        wanted = logps(trainer.model, after)
    torch.testing.assert_close(batch["rewards"], wanted, rtol=1e-4, atol=1e-4)
    groups = wanted.view(2, 4)
    others = (groups.sum(dim=1, keepdim=True) - groups) / 3
    torch.testing.assert_close(batch["advantages"].view(2, 4), groups - others, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_the_split_of_an_update_changes_nothing(tmp_path, method):
    trainer = make_trainer(method, tmp_path, tiny(), engine=ScriptedEngine())
    batch = generation_batch(trainer)
    loss, gradient = loss_and_gradient(trainer, [batch])
    in_parts, gradient_of_parts = loss_and_gradient(trainer, split(batch, 4))
    assert in_parts == pytest.approx(loss, rel=1e-4, abs=1e-6)  # RLP's is 0 but for rounding
    torch.testing.assert_close(gradient_of_parts, gradient, rtol=1e-3, atol=1e-5)


def test_importance_weights_leave_the_answer_s_tokens_alone(tmp_path):
    """The script says that it sampled with log-prob 0: tokens of z get their probability, those of y 1."""
    plain = make_trainer("latro", tmp_path / "a", tiny(), engine=ScriptedEngine())
    corrected = make_trainer("latro", tmp_path / "b", tiny(), engine=ScriptedEngine(), correction=Correction())
    batch = generation_batch(plain)
    batch["advantages"] = torch.zeros_like(batch["advantages"])
    alone = loss_and_gradient(plain, [batch])
    assert loss_and_gradient(corrected, [batch])[0] == pytest.approx(alone[0], rel=1e-5)
    batch["advantages"] = torch.ones_like(batch["advantages"])
    assert loss_and_gradient(corrected, [batch])[0] < loss_and_gradient(plain, [batch])[0]


def test_the_ratio_of_a_whole_rationale_weighs_its_answer_too(tmp_path):
    """E of the answer's log-prob over rationales of the policy, from those of another sampler."""
    correction = Correction("sequence", "truncate", 1.2)
    trainer = make_trainer("latro", tmp_path, tiny(), engine=ScriptedEngine(), correction=correction)
    batch = with_own_logps(trainer, generation_batch(trainer))
    mask = batch["completion_mask"].bool()
    noise = torch.randn(mask.shape, generator=torch.Generator().manual_seed(1))
    batch["sampling_per_token_logps"] = (batch["own_logps"] + 0.1 * noise) * mask
    batch["advantages"] = torch.zeros_like(batch["advantages"])
    prompts, rationales = trainer.prompt_lists(batch), trainer.completion_lists(batch)
    answers = trainer.scores(
        [trainer.read_after(*row) for row in zip(prompts, rationales, batch["target_ids"], strict=True)]
    )
    ratios = ((batch["own_logps"] - batch["sampling_per_token_logps"]) * mask).sum(1).exp()
    assert (ratios < 1.2).any() and (ratios > 1.2).any()
    expected = -(ratios.clamp(max=1.2) * answers).mean()
    assert loss_and_gradient(trainer, split(batch, 2))[0] == pytest.approx(float(expected), rel=1e-4)


# ---------------------------------------------------------------- RLP


def test_rlp_s_reward_is_what_a_thought_tells_beyond_the_average(tmp_path):
    trainer = make_trainer("rlp", tmp_path, tiny(), engine=ScriptedEngine(), decay=0.5, learning_rate=3e-2)
    trainer.train()
    batch = generation_batch(trainer)
    average = tiny()
    with torch.no_grad():
        for name, weight in average.named_parameters():
            assert not torch.equal(trainer.average.weights[name], trainer.model.get_parameter(name))
            weight.copy_(trainer.average.weights[name])
        asked = [read(trainer, row) for row in rows(2) for _ in range(4)]
        after = [([*x, *without_end(z)], y) for (x, y), z in zip(asked, trainer.completion_lists(batch), strict=True)]
        wanted = logps(trainer.model, after) - logps(average, asked)
    torch.testing.assert_close(batch["rewards"], wanted, rtol=1e-4, atol=1e-4)
    groups = batch["rewards"].view(2, 4)
    scaled = 4 / 3 * (groups - groups.mean(dim=1, keepdim=True))
    torch.testing.assert_close(batch["advantages"].view(2, 4), scaled, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_it_resumes(tmp_path, method):
    def make(folder):
        return make_trainer(
            method, folder, tiny(), max_steps=3, learning_rate=3e-2, max_completion_length=8, save_strategy="steps",
            save_steps=2, **({"decay": 0.5} if method == "rlp" else {}),
        )  # fmt: skip

    straight, resumed = make(tmp_path / "a"), make(tmp_path / "b")
    straight.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert resumed.ledger.tokens == straight.ledger.tokens
    for name, weight in straight.model.named_parameters():
        assert torch.equal(resumed.model.get_parameter(name), weight), name
    if method == "rlp":
        for name, weight in straight.average.weights.items():
            assert torch.equal(resumed.average.weights[name], weight), name


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("latro", {"kl": -1.0}, "kl=-1.0"),
        ("latro", {"num_iterations": 2}, "num_iterations=2"),
        ("latro", {"target": "the answer"}, "target='the answer'"),
        ("rlp", {"decay": 1.0}, "decay=1.0"),
        ("rlp", {"beta": 0.1}, "beta=0.1"),
        ("rlp", {"dynamic_sampling": 2}, "dynamic sampling with RLPTrainer"),
    ],
)
def test_what_could_not_be_honoured_is_refused(tmp_path, method, options, said):
    with pytest.raises(ConfigError, match=said):
        make_trainer(method, tmp_path, engine=ScriptedEngine(), **options)


@pytest.mark.parametrize("answer", ["5", 5, ["5", "6"]])
def test_an_answer_may_be_a_number_or_the_first_of_several(tmp_path, answer):
    trainer = make_trainer("latro", tmp_path, tiny(), engine=ScriptedEngine())
    assert trainer.targets_of([{"prompt": "", "answer": answer}]) == [[5]]


def test_rows_without_an_answer_are_refused(tmp_path):
    data = [{key: value for key, value in row.items() if key != "answer"} for row in rows(8)]
    with pytest.raises(DataError, match="no answer to the prompt"):
        make_trainer("latro", tmp_path, engine=ScriptedEngine(), data=data).train()


def test_a_target_of_a_run_file_shows_the_answer_alone():
    with pytest.raises(ValidationError, match=r"put \{answer\} in it"):
        LatroBlock(target="{answer} of {question}")
