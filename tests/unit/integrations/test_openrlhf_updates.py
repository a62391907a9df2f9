"""An actor's update against the equations, written with plain log-softmaxes and autograd."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.integrations.openrlhf.experience import judged, reward_metrics
from ixt_rl.integrations.openrlhf.updates import Method, Rationale, Told, micro_batch, update
from ixt_rl.kernels.correction import Correction
from ixt_rl.kernels.intro.plain import intro_loss as plain_intro_loss
from ixt_rl.kernels.intro.spec import IntroSpec
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.trainers.baselines import group_relative
from ixt_rl.trainers.head import add_head_function, model_head

TEMPERATURE = 0.8
PAD = 0
ROWS = [
    Rationale([5, 6, 7], [5, 6, 9, 9, 7], [20, 21, 22], [-3.0, -4.0, -5.0], 1.2),
    Rationale([8, 9], [8, 1, 9], [30, 31, 32, 33, 34], [-5.0, -5.5, -4.0, -5.1, -6.0], -0.7),
    Rationale([8, 9], [8, 1, 9], [35], [-4.5], 0.4),
]


@pytest.fixture
def model():
    made = new_model(NewModelBlock(layers=1, hidden_size=32, heads=2, tokenizer="bytes"), byte_tokenizer())
    add_head_function(made, TEMPERATURE)
    return made


def micro(rows, scale: float):
    return micro_batch(rows, scale, PAD, "cpu")


def told(model) -> Told:
    def forward(**inputs):
        with torch.no_grad():
            return model(**inputs)

    return Told(forward)


def hidden_of(model, prompt, completion):
    """(T, D) hidden states before the completion's tokens, of one row alone."""
    ids = torch.tensor([[*prompt, *completion]])
    states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    return states[len(prompt) - 1 : -1]


def equal_gradients(model, loss, other) -> None:
    ours, theirs = (torch.autograd.grad(one, list(model.parameters())) for one in (loss, other))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("candidates", [1, "exact"])
def test_intro_is_the_kernels_loss_with_a_weight_of_one_over_length_and_rows(model, candidates):
    spec, scale = IntroSpec(candidates, True, 2.0), 1 / 3
    loss, logged = update(model, told(model), micro(ROWS, scale), Method(spec))
    head, plain, factors = model_head(model, TEMPERATURE), torch.zeros(()), []
    for row in ROWS:
        hidden = hidden_of(model, row.prompt, row.completion)
        with torch.no_grad():
            beside = hidden_of(model, row.told, row.completion)
        tokens = torch.tensor(row.completion)
        weights = torch.full((len(tokens),), scale / len(tokens))
        of_row, stats = plain_intro_loss(hidden, beside, head, tokens, weights, spec)
        plain = plain + of_row
        factors.append(stats.factor_taken)
    assert loss.item() == pytest.approx(plain.item(), abs=1e-5)
    assert torch.allclose(logged["factor/taken"], torch.cat(factors).detach(), atol=1e-4)
    assert not torch.allclose(logged["factor/taken"], torch.ones(9), atol=1e-2)  # the told pass is another one
    equal_gradients(model, loss, plain)


@pytest.mark.parametrize("mix", [1.0, 0.5])
def test_rlsd_weighs_each_token_by_its_factor(model, mix):
    loss, logged = update(model, told(model), micro(ROWS, 0.5), Method(epsilon=0.2, mix=mix))
    plain, factors = torch.zeros(()), []
    for row in ROWS:
        taken = torch.tensor(row.completion)[:, None]

        def logps(prompt, row=row, taken=taken):
            head = model_head(model, TEMPERATURE)
            return (hidden_of(model, prompt, row.completion) @ head.weight.T / TEMPERATURE).log_softmax(-1).gather(
                1, taken
            )[:, 0]  # fmt: skip

        logp, logq = logps(row.prompt), logps(row.told).detach()
        ratio = torch.exp((1 if row.advantage > 0 else -1) * (logq - logp.detach()))
        factor = 1 + mix * (ratio.clamp(0.8, 1.2) - 1)
        factors.append(factor)
        plain = plain - 0.5 * row.advantage * (factor * logp).mean()
    assert torch.allclose(logged["factor/taken"], torch.cat(factors), atol=1e-4)
    equal_gradients(model, loss, plain)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_tokens_are_corrected_by_the_ratio_to_the_engine(model, level):
    correction = Correction(level, "truncate", 2.0)
    corrected, logged = update(
        model, told(model), micro(ROWS, 1.0), Method(IntroSpec(1, True, 2.0), correction=correction)
    )
    plain, _ = update(model, told(model), micro(ROWS, 1.0), Method(IntroSpec(1, True, 2.0)))
    assert not torch.isclose(corrected, plain)
    assert logged["sampler/logp_abs"].shape == (9,)
    head = model_head(model, TEMPERATURE)
    expected = torch.zeros(())
    for row in ROWS:
        tokens = torch.tensor(row.completion)
        hidden, beside = (hidden_of(model, one, row.completion) for one in (row.prompt, row.told))
        logits = hidden @ head.weight.T / TEMPERATURE
        logp = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0].detach()
        weights = correction.weights(logp - torch.tensor(row.sampled), torch.zeros(len(tokens), dtype=torch.long))
        loss, _ = plain_intro_loss(hidden, beside, head, tokens, weights / len(tokens), IntroSpec(1, True, 2.0))
        expected = expected + loss
    assert corrected.item() == pytest.approx(expected.item(), abs=1e-4)


def test_a_micro_batch_without_rationales_has_a_gradient_of_zero(model):
    loss, _ = update(model, told(model), micro([], 1.0), Method(IntroSpec(5, True, 200.0)))
    assert loss.item() == 0
    assert all(not grad.any() for grad in torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))


def test_parts_of_an_update_add_up_to_the_whole(model):
    method = Method(epsilon=0.2)
    whole, _ = update(model, told(model), micro(ROWS, 1 / 3), method)
    parts = [update(model, told(model), micro(part, 1 / 3), method)[0] for part in (ROWS[:1], ROWS[1:])]
    equal_gradients(model, whole, sum(parts))


NAN = float("nan")
REWARDS = torch.tensor([[1.0, 0.2], [0.0, 0.9], [NAN, 0.1], [1.0, NAN]])


def test_what_is_undecided_is_neither_trained_nor_zero():
    intro = {"type": "intro", "weights": [1.0, 0.0], "deciding": [0], "keep_reward": 1.0}
    trained, _ = judged(REWARDS, intro)
    assert trained.tolist() == [True, False, False, True]
    rlsd = {"type": "rlsd", "weights": [1.0, 0.0], "group_size": 4, "scale_rewards": "group"}
    trained, advantages = judged(REWARDS, rlsd)
    assert trained.tolist() == [True, True, False, True]
    expected = group_relative(torch.tensor([[1.0, 0.0, NAN, 1.0]]), "group")[0].nan_to_num(0.0)
    assert torch.equal(advantages, expected)
    found = reward_metrics(REWARDS, ["math_reward", "form_reward"], intro)
    assert found["rollout/undecided"] == 0.25
    assert found["rollout/kept"] == 0.5
    assert found["reward"] == pytest.approx(2 / 3)
    assert reward_metrics(torch.full((4, 2), NAN), ["a", "b"], intro)["reward"] is None
