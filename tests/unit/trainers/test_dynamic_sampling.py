"""Dynamic sampling: which groups make a batch, what it costs, and a gradient that is that of these groups alone."""

from __future__ import annotations

import math

import pytest
import torch

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers import GRPOTrainer, InTROTrainer
from tests.unit.trainers.helpers import ScriptedEngine, loss_and_gradient, make_trainer, rows
from tests.unit.trainers.test_resume import STEPS, resumed_at_each_update

DATA = rows(24)
GROUP = 4
TEACHES = [index % 3 == 0 for index in range(len(DATA))]
"""Of each problem: whether its group teaches anything."""


def rewarded(kind: str):
    """Right and wrong where the problem teaches; elsewhere all right (grpo: all are equal) or all wrong."""
    of = {row["question"]: teaches for row, teaches in zip(DATA, TEACHES, strict=True)}
    idle = 1.0 if kind == "grpo" else 0.0

    def reward(prompts, completions, completion_ids, question, **_):
        return [float(index % GROUP % 2 == 0) if of[problem] else idle for index, problem in enumerate(question)]

    return reward


def made(method, folder, *, groups=2, dynamic=0, data=None, **options):
    return make_trainer(
        method, folder, engine=ScriptedEngine(), data=data or DATA, reward=options.pop("reward", rewarded(method)),
        per_device_train_batch_size=groups * GROUP, dynamic_sampling=dynamic, **options,
    )  # fmt: skip


def generated(trainer, groups: int):
    """A generation of that many groups; which rows TRL hands over does not matter with dynamic sampling."""
    trainer.model.train()
    return trainer._generate_and_score_completions([dict(row) for row in DATA[:groups] for _ in range(GROUP)])


def gradient(trainer, batch):
    return loss_and_gradient(trainer, [batch])


LOSSES = [("grpo", {"loss_type": name}) for name in ("grpo", "dr_grpo", "dapo", "bnpo")]
LOSSES += [
    ("grpo", {"scale_rewards": "batch"}),
    ("grpo", {"loss_type": "grpo", "entropy_coef": 0.1}),
    ("intro", {"candidates": "exact"}),
    ("raft", {}),
    ("rloo", {}),
    ("gpg", {}),
    ("rlsd", {}),
    ("rlcsd", {}),
    ("intro", {"sign": "advantage"}),
]


@pytest.mark.parametrize(("method", "options"), LOSSES, ids=str)
def test_the_gradient_is_that_of_the_groups_kept(method, options, tmp_path):
    """Problems 0, 3, 6, ... teach: the batch is these, and its gradient that of a trainer that was given just these."""
    dynamic = made(method, tmp_path, dynamic=8, **options)
    batch = generated(dynamic, 2)
    kept = [row for row, teaches in zip(DATA, TEACHES, strict=True) if teaches][:2]
    plain = made(method, tmp_path, data=kept, **options)
    plain.model.train()
    expected = plain._generate_and_score_completions([dict(row) for row in kept for _ in range(GROUP)])
    for name in ("prompt_ids", "completion_ids", "completion_mask", "advantages", "rewards"):
        torch.testing.assert_close(batch[name], expected[name], msg=name)
    loss, found = gradient(dynamic, batch)
    expected_loss, wanted = gradient(plain, expected)
    assert loss == pytest.approx(expected_loss)
    torch.testing.assert_close(found, wanted)
    assert float(wanted.abs().max()) > 0


@pytest.mark.parametrize(("method", "options"), LOSSES, ids=str)
def test_at_the_bound_the_gradient_is_that_of_the_groups_that_teach(method, options, tmp_path):
    """4 groups, and one more round for two of them: of problems 0 to 5 two teach, and two groups are masked."""
    if options.get("scale_rewards") == "batch":
        pytest.skip("the deviation of the batch's rewards is that of all its groups, as it is without dynamic sampling")
    dynamic = made(method, tmp_path, groups=4, dynamic=1, **options)
    with pytest.warns(UserWarning, match="after 1 rounds of dynamic sampling 2 of 4 groups"):
        batch = generated(dynamic, 4)
    kept = [DATA[0], DATA[3]]
    assert dynamic.dynamic.read == 4 + 2
    assert float(batch["signal_share"]) == 0.5
    plain = made(method, tmp_path, data=kept, **options)
    plain.model.train()
    expected = plain._generate_and_score_completions([dict(row) for row in kept for _ in range(GROUP)])
    loss, found = gradient(dynamic, batch)
    expected_loss, wanted = gradient(plain, expected)
    assert loss == pytest.approx(expected_loss)
    torch.testing.assert_close(found, wanted)


def test_nothing_that_teaches_trains_nothing(tmp_path):
    trainer = made("grpo", tmp_path, dynamic=2, reward=lambda prompts, **_: [1.0] * len(prompts))
    with pytest.warns(UserWarning, match="none of 2 groups teaches anything"):
        batch = generated(trainer, 2)
    loss, found = gradient(trainer, batch)
    assert loss == 0.0
    assert not found.any()


def wrong(prompts, **_):
    return [0.0] * len(prompts)


def short(prompts, **_):
    """A length: it differs in every group."""
    return [-0.25 * (index % GROUP) for index in range(len(prompts))]


short.decides = False  # type: ignore[attr-defined]


def test_lengths_make_no_group_of_one_that_is_all_wrong(tmp_path):
    """All wrong, all right, both, and both with sums that are equal; DAPO asks for a right and a wrong one."""
    right = torch.tensor([[0.0] * GROUP, [1.0] * GROUP, [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    length = torch.tensor([[0.0, -0.25, 0.0, 0.0]] * 3 + [[-1.0, 0.0, 0.0, 0.0]])
    both = torch.stack([right, length], dim=-1).flatten(0, 1)
    assert made("grpo", tmp_path, reward=[wrong, short]).has_signal(both).tolist() == [False, False, True, False]
    assert made("grpo", tmp_path, reward=[short]).has_signal(both[:, 1:]).tolist() == [True] * 4  # it is all there is


def test_lengths_that_differ_where_nothing_is_right_train_nothing(tmp_path):
    trainer = made("grpo", tmp_path, dynamic=1, reward=[wrong, short])
    with pytest.warns(UserWarning, match="none of 2 groups teaches anything"):
        batch = generated(trainer, 2)
    assert not gradient(trainer, batch)[1].any()


@pytest.mark.parametrize("method", ["grpo", "rlcsd"])
def test_at_the_bound_lengths_of_idle_groups_count_for_nothing(method, tmp_path):
    rewards = [rewarded(method), short]
    dynamic = made(method, tmp_path, groups=4, dynamic=1, reward=rewards)
    with pytest.warns(UserWarning, match="after 1 rounds of dynamic sampling 2 of 4 groups"):
        batch = generated(dynamic, 4)
    kept = [DATA[0], DATA[3]]
    plain = made(method, tmp_path, data=kept, reward=rewards)
    plain.model.train()
    expected = plain._generate_and_score_completions([dict(row) for row in kept for _ in range(GROUP)])
    (loss, found), (expected_loss, wanted) = gradient(dynamic, batch), gradient(plain, expected)
    assert loss == pytest.approx(expected_loss)
    torch.testing.assert_close(found, wanted)


def test_prompts_come_in_one_order_and_what_is_drawn_is_counted(tmp_path):
    """Problems one after the other, none twice before all were there; dropped groups cost what others cost."""
    asked, tokens = [], []
    inner = rewarded("grpo")

    def reward(prompts, completions, completion_ids, question, prompt_ids=None, **more):
        asked.extend(question[::GROUP])
        tokens.append(sum(map(len, completion_ids)))
        return inner(prompts, completions, completion_ids, question)

    trainer = made("grpo", tmp_path, dynamic=8, reward=reward, max_steps=3, shuffle_dataset=False)
    trainer.train()
    # 0 1 | 2 | 3 ; 4 5 | 6 7 | 8 | 9 ; 10 11 | 12 13 | 14 | 15: two of each batch teach
    assert asked == [row["question"] for row in DATA[:16]]
    assert trainer.dynamic.state_dict() == {"read": 16, "again": 10}
    assert trainer.drawn_again == 10 * GROUP
    log = [row["rollout/drawn_again"] for row in trainer.state.log_history if "rollout/drawn_again" in row]
    assert log == [2.0, 4.0, 4.0]
    prompt_tokens = len(trainer.encoded([DATA[0]])[0])
    assert trainer.ledger.tokens["rollout"] == sum(tokens) + prompt_tokens * 16 * GROUP
    assert trainer.state.num_input_tokens_seen == trainer.ledger.tokens["rollout"]
    rates = [row["frac_reward_zero_std"] for row in trainer.state.log_history if "frac_reward_zero_std" in row]
    assert rates == [0.0] * 3


def test_a_pass_over_the_prompts_shows_each_once_in_another_order(tmp_path):
    trainer = made("grpo", tmp_path, dynamic=1, shuffle_dataset=True)
    passes = [[trainer.dynamic._next() for _ in DATA] for _ in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(len(DATA)))
    assert passes[0] != passes[1]


def test_what_rewards_log_goes_with_the_groups_kept(tmp_path):
    inner = rewarded("grpo")

    def reward(prompts, completions, completion_ids, question, log_extra, **_):
        log_extra("problem", list(question))
        return inner(prompts, completions, completion_ids, question)

    trainer = made("grpo", tmp_path, dynamic=8, reward=reward)
    generated(trainer, 2)
    kept = [DATA[0]["question"]] * GROUP + [DATA[3]["question"]] * GROUP
    assert list(trainer._logs["extra"]["problem"]) == kept
    assert len(trainer._metrics["train"]["completions/mean_length"]) == 1


def seldom(prompts, completions, completion_ids, **_):
    return [float(sum(ids) % 7 == 0) for ids in completion_ids]


@pytest.mark.parametrize("method", ["grpo", pytest.param("intro", marks=pytest.mark.slow)])
def test_a_resumed_run_draws_what_the_straight_run_drew(method, tmp_path):
    """Also within a window of rollouts, with the model's own samples; the stream's place is in the checkpoint."""
    own = {"importance_ratio": True} if method == "intro" else {}

    def make(folder):
        return make_trainer(
            method, folder, max_steps=4, data=rows(9), shuffle_dataset=True, max_completion_length=4, reward=seldom,
            per_device_train_batch_size=4, learning_rate=1e-2, steps_per_generation=2, dynamic_sampling=2,
            rollouts=EngineRollouts(parity_limit=math.inf), **STEPS, **own,
        )  # fmt: skip

    trainer = resumed_at_each_update(make, tmp_path)
    assert trainer.dynamic.again > 0


def test_an_evaluation_draws_nothing_again(tmp_path):
    trainer = made("grpo", tmp_path, dynamic=3)
    trainer.model.eval()
    trainer._generate_and_score_completions([dict(row) for row in DATA[1:3] for _ in range(GROUP)])
    assert trainer.dynamic.state_dict() == {"read": 0, "again": 0}


class KeepsTheLongest(InTROTrainer):
    def keep(self, rewards, batch):
        return batch["completion_mask"].sum(dim=1) > 10


class SaysNothing(GRPOTrainer):
    def has_signal(self, rewards_per_func):
        return rewards_per_func[:, 0]


def test_what_does_not_go_with_it_is_refused(tmp_path):
    for wrong, options in (
        ("keep", {"trainer_class": KeepsTheLongest}),
        ("a batch would hold a prompt twice", {"data": DATA[:1]}),
        ("weighted sums", {"multi_objective_aggregation": "normalize_then_sum", "method": "grpo"}),
        ("at least 1", {"dynamic_sampling": -1}),
    ):
        method = options.pop("method", "intro")
        with pytest.raises(ConfigError, match=wrong):
            make_trainer(method, tmp_path, engine=ScriptedEngine(), **{"dynamic_sampling": 1, "data": DATA, **options})
    trainer = made("grpo", tmp_path, dynamic=1, trainer_class=SaysNothing)
    with pytest.raises(DataError, match="each of 2 groups"):
        generated(trainer, 2)
