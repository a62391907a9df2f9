"""Divergences from the true posterior: closed forms, enumeration, draws beside enumeration, a model, a run's key."""

from __future__ import annotations

import copy
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.posterior import over_questions, sequence_kl
from ixt_rl.evaluation.posterior_pass import (
    PosteriorPlan,
    SequenceScorer,
    all_completions,
    continuation,
    posterior_kl,
    read_out,
)
from ixt_rl.methods.evaluate import EvaluateStage
from ixt_rl.rollout import TransformersEngine
from ixt_rl.trainers.head import add_head_function
from ixt_rl.types import SamplingParams

INF = math.inf


def whole(p, q, w, lengths=None):
    """Of every completion, by probabilities and weights."""
    with np.errstate(divide="ignore"):
        return sequence_kl(np.log(p), np.log(q), np.log(w), np.ones(len(p)) if lengths is None else lengths)


# ------------------------------------------------------------------------------------------ closed forms


def test_two_completions_of_which_one_has_the_answer():
    found = whole([0.25, 0.75], [0.6, 0.4], [1.0, 0.0], [3, 5])
    assert found.true_told.value == pytest.approx(-math.log(0.6))
    assert found.true_policy.value == pytest.approx(-math.log(0.25))  # the answer's surprise
    assert found.gain.value == pytest.approx(math.log(0.6 / 0.25))
    assert found.told_true.value == pytest.approx(0.0)  # among right ones there is but one
    assert (found.right_policy, found.right_told) == (pytest.approx(0.25), pytest.approx(0.6))
    assert (found.length, found.length_told) == (pytest.approx(3), pytest.approx(0.6 * 3 + 0.4 * 5))
    assert found.per_token == pytest.approx(-math.log(0.6) / 3)
    assert found.true_told.low == found.true_told.high == found.true_told.value
    assert found.effective is None


def random_question(seed, n=40, continued=False):
    rng = np.random.default_rng(seed)
    p, q = (rng.dirichlet(np.full(n, 0.5)) + 1e-6 for _ in range(2))
    p, q = p / p.sum(), q / q.sum()
    w = rng.uniform(0.05, 1, n) if continued else (rng.random(n) < 0.3).astype(float)
    w[0] = 1.0
    return p, q, w, rng.integers(1, 9, n)


@pytest.mark.parametrize("continued", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_enumerated_sums_are_the_divergences_by_their_definition(seed, continued):
    p, q, w, lengths = random_question(seed, continued=continued)
    found = whole(p, q, w, lengths)
    true, right = p * w / (p * w).sum(), q * (w > 0) / q[w > 0].sum()

    def kl(a, b):
        return (a[a > 0] * np.log(a[a > 0] / b[a > 0])).sum()

    assert found.true_told.value == pytest.approx(kl(true, q), abs=1e-12)
    assert found.told_true.value == pytest.approx(kl(right, true), abs=1e-12)
    assert found.true_policy.value == pytest.approx(kl(true, p), abs=1e-12)
    assert found.gain.value == pytest.approx(kl(true, p) - kl(true, q), abs=1e-12)
    assert found.length == pytest.approx((true * lengths).sum())


def test_the_true_posterior_told_is_at_no_distance():
    p, _, w, _ = random_question(1)
    q = p * w / (p * w).sum()
    mixed = (1 - 1e-9) * q + 1e-9 * p  # every completion can be told
    found = whole(p, mixed, w)
    assert abs(found.true_told.value) < 1e-8 and abs(found.told_true.value) < 1e-8
    told_nothing = whole(p, p, w)
    assert told_nothing.gain.value == pytest.approx(0, abs=1e-12)
    assert told_nothing.true_told.value == pytest.approx(-math.log((p * w).sum()))


def test_per_token_is_the_next_tokens_divergence_by_the_chain_rule():
    """Completions of three tokens of two; KL of completions is the sum over positions of the next token's."""
    rng = np.random.default_rng(3)
    zs = list(itertools.product((0, 1), repeat=3))
    p, q = (rng.dirichlet(np.ones(8)) for _ in range(2))
    w = np.array([float(sum(z) % 2 == 0) for z in zs])
    true = p * w / (p * w).sum()

    def next_token(of, begun):
        mass = [sum(m for z, m in zip(zs, of, strict=True) if z[: len(begun) + 1] == (*begun, v)) for v in (0, 1)]
        return np.array(mass) / sum(mass)

    total = 0.0
    for t in range(3):
        for begun in itertools.product((0, 1), repeat=t):
            reach = sum(m for z, m in zip(zs, true, strict=True) if z[:t] == begun)
            if reach:
                a, b = next_token(true, begun), next_token(q, begun)
                total += reach * (a[a > 0] * np.log(a[a > 0] / b[a > 0])).sum()
    assert whole(p, q, w, np.full(8, 3)).per_token == pytest.approx(total / 3)


def test_what_is_undecided_is_in_no_distribution():
    p, q, w, lengths = random_question(4)
    unknown = np.arange(len(p)) % 5 == 2
    log_w = np.where(unknown, np.nan, np.log(np.maximum(w, 1e-300)))
    log_w[~unknown & (w == 0)] = -INF
    found = sequence_kl(np.log(p), np.log(q), log_w, lengths)
    known = ~unknown
    among = whole(p[known] / p[known].sum(), q[known] / q[known].sum(), w[known], lengths[known])
    for name in ("true_told", "told_true", "true_policy", "gain"):
        assert getattr(found, name).value == pytest.approx(getattr(among, name).value)
    assert (found.right_policy, found.right_told) == (
        pytest.approx(among.right_policy), pytest.approx(among.right_told)
    )  # fmt: skip
    assert found.undecided == pytest.approx(unknown.mean())


# ----------------------------------------------------------------------------------------------- draws


def test_a_question_of_which_nothing_is_decided_is_right_in_no_share():
    none, one = whole([0.5, 0.5], [0.5, 0.5], [math.nan] * 2), whole([0.25, 0.75], [0.6, 0.4], [1.0, 0.0])
    assert (none.right_policy, none.right_told, none.true_told.value, none.undecided) == (None, None, None, 1.0)
    both = over_questions([none, one])
    assert (both.right_policy, both.right_told) == (pytest.approx(0.25), pytest.approx(0.6))
    alone = over_questions([none])
    assert (alone.right_policy, alone.right_told, alone.undecided) == (None, None, 1)


def drawn(question, seed, count, undecided=None):
    p, q, w, lengths = question
    rng = np.random.default_rng(seed)
    ids = np.concatenate([rng.choice(len(p), count, p=of) for of in (p, q)])
    with np.errstate(divide="ignore"):
        log_w = np.log(w)
    if undecided is not None:
        log_w = np.where(undecided, np.nan, log_w)
    return sequence_kl(np.log(p[ids]), np.log(q[ids]), log_w[ids], lengths[ids], np.repeat([False, True], count))


NAMES = ("true_told", "told_true", "true_policy", "gain")


def test_intervals_of_draws_hold_what_is_enumerated():
    """95 % intervals, in about 95 of 100 seeds; fewer for a question where rare draws count much."""
    share = {}
    for question in range(6):
        made = random_question(question, continued=question == 3)
        exact = whole(*made)
        found = [drawn(made, seed, 200) for seed in range(100)]
        for name in NAMES:
            value = getattr(exact, name).value
            held = [getattr(one, name) for one in found if getattr(one, name).value is not None]
            assert len(held) >= 95
            share[question, name] = np.mean([one.low <= value <= one.high for one in held])
            assert np.mean([one.high - one.low for one in held]) < 0.8 * (1 + abs(value)), name
            assert abs(np.mean([one.value for one in held]) - value) < 0.05 * (1 + abs(value)), name
        assert np.mean([one.right_policy for one in found]) == pytest.approx(exact.right_policy, rel=0.05)
    assert min(share.values()) >= 0.85, share
    assert 0.935 <= np.mean([*share.values()]) <= 0.975


def test_draws_with_undecided_ones_hold_what_is_enumerated():
    made = random_question(5)
    unknown = np.arange(40) % 4 == 1
    p, q, w, lengths = (x[~unknown] for x in made)
    exact = whole(p / p.sum(), q / q.sum(), w, lengths)
    found = [drawn(made, seed, 200, unknown) for seed in range(100)]
    for name in NAMES:
        value, held = getattr(exact, name).value, [getattr(one, name) for one in found]
        assert sum(one.low <= value <= one.high for one in held) >= 90, name


def test_too_few_effective_draws_are_undecided_and_never_0():
    p = np.array([1 - 1e-4, 1e-4])
    made = (p, np.array([0.98, 0.02]), np.array([0.0, 1.0]), np.array([2, 2]))
    found = drawn(made, 0, 64)  # a told completion or two have the answer
    assert 0 < found.effective < 16
    assert found.true_told.value is None and "effective sample size" in found.true_told.why
    assert found.gain.value is None and found.told_true.value is None and found.per_token is None
    none = drawn((p, p, np.array([0.0, 0.0]), np.array([2, 2])), 0, 8)
    assert none.true_told.value is None and none.true_told.why == "no completions with the answer"
    assert none.right_policy == 0.0
    summary = over_questions([found, none, whole([0.5, 0.5], [0.5, 0.5], [1.0, 0.0])])
    assert (summary.questions, summary.undecided) == (3, 2)
    assert summary.true_told.value == pytest.approx(math.log(2))
    assert over_questions([found, none]).true_told.value is None


def test_what_could_not_be_measured_is_refused():
    one = np.log([0.5, 0.5])
    with pytest.raises(DataError, match=r"add up to 0\.5000"):
        sequence_kl(one[:1], one[:1], np.zeros(1), np.ones(1))
    with pytest.raises(DataError, match="drawn from the told model"):
        sequence_kl(one, one, np.zeros(2), np.ones(2), np.array([True, True]))
    with pytest.raises(DataError, match="above 0"):
        sequence_kl(one, one, np.ones(2), np.ones(2))
    with pytest.raises(DataError, match="shapes"):
        sequence_kl(one, one[:1], np.zeros(2), np.ones(2))


# --------------------------------------------------------------------------------------------- a model

VOCABULARY, EOS, LENGTH, TEMPERATURE = 5, 4, 3, 0.7


@pytest.fixture(scope="module")
def toy():
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=32, initializer_range=0.25, **sizes)
    return LlamaForCausalLM(config).eval()


ROWS = [
    {"prompt_ids": [0, 1], "told_prompt_ids": [0, 1, 3], "answer": 1},
    {"prompt_ids": [2], "told_prompt_ids": [2, 0, 0], "answer": 0},
]


def log_prob(model, prompt, completion):
    """By the model's own logits, a token at a time."""
    total = 0.0
    for t, token in enumerate(completion):
        logits = model(torch.tensor([[*prompt, *completion[:t]]])).logits[0, -1]
        total += float((logits.double() / TEMPERATURE).log_softmax(-1)[token])
    return total


def ends_in_parity(row, ids, text):
    return {"checked": float(ids[-1] == EOS and sum(ids[:-1]) % 2 == row["answer"])}


class Words:
    """What a task's measure gets as text is not looked at here."""

    pad_token_id = 0

    def decode(self, ids, **_):
        return " ".join(map(str, ids))


TASK = SimpleNamespace(measure=lambda rows, ids, texts: [*map(ends_in_parity, rows, ids, texts)])


def measured(model, samples=64, length=LENGTH, weight=None):
    engine = TransformersEngine(model, [EOS], 0)
    scorer = SequenceScorer(model, TEMPERATURE, 0)
    plan = PosteriorPlan(SamplingParams(length, temperature=TEMPERATURE), samples)
    return posterior_kl(engine, scorer, Words(), ROWS, weight or read_out(TASK, Words()), plan)


def test_a_small_model_is_enumerated(toy):
    every = all_completions(VOCABULARY, [EOS], LENGTH, 1000)
    assert len(every) == len(set(every)) == 1 + 4 + 4**2 + 4**3
    assert all_completions(VOCABULARY, [EOS], LENGTH, 50) is None
    with torch.no_grad():
        for row, found in zip(ROWS, measured(toy), strict=True):
            p, q = (np.exp([log_prob(toy, row[name], z) for z in every]) for name in ("prompt_ids", "told_prompt_ids"))
            assert p.sum() == pytest.approx(1, abs=1e-5)
            w = np.array([ends_in_parity(row, z, "")["checked"] for z in every])
            expected = whole(p, q, w, np.array([len(z) for z in every]))
            assert found.effective is None
            for name in NAMES:
                assert getattr(found, name).value == pytest.approx(getattr(expected, name).value, abs=1e-4), name
                assert abs(getattr(expected, name).value) > 1e-3  # not a comparison of zeros
            assert found.per_token == pytest.approx(expected.per_token, abs=1e-4)


def test_draws_of_a_model_hold_what_is_enumerated(toy, monkeypatch):
    exact = measured(toy)
    monkeypatch.setattr("ixt_rl.evaluation.posterior_pass.MOST_ENUMERATED", 10)
    for found, true in zip(measured(toy, 2000), exact, strict=True):
        assert found.draws == 4000 and found.effective > 100
        for name in NAMES:
            value = getattr(found, name)
            assert value.high - value.low < 0.4
            assert value.low - 0.05 < getattr(true, name).value < value.high + 0.05, name


def test_an_answer_that_is_a_continuation(toy):
    """w = pi(y | x, z), where z is cut before its own end."""
    answer = [3, 2]
    scorer = SequenceScorer(toy, TEMPERATURE, 0)
    weight = continuation(scorer, lambda row: row["prompt_ids"], lambda row: answer, [EOS])
    with torch.no_grad():
        for row, found in zip(ROWS, measured(toy, weight=weight), strict=True):
            every = all_completions(VOCABULARY, [EOS], LENGTH, 1000)
            p, q = (np.exp([log_prob(toy, row[name], z) for z in every]) for name in ("prompt_ids", "told_prompt_ids"))
            begun = [z[:-1] if z[-1] == EOS else z for z in every]
            w = np.exp([log_prob(toy, [*row["prompt_ids"], *z], answer) for z in begun])
            expected = whole(p, q, w)
            assert found.right_policy == pytest.approx((p * w).sum(), rel=1e-4)
            for name in NAMES:
                assert getattr(found, name).value == pytest.approx(getattr(expected, name).value, abs=1e-4), name


def test_scorers_of_one_model_keep_their_own_temperatures_and_leave_a_trainers_head_alone(toy):
    toy = copy.deepcopy(toy)
    prompts, completions = [ROWS[0]["prompt_ids"]], [[3, 2, EOS]]
    add_head_function(toy, 0.5, float32=True)  # as a trainer does
    one, other = SequenceScorer(toy, TEMPERATURE, 0), SequenceScorer(toy, 2.0, 0)
    with torch.no_grad():
        for scorer in (one, other):
            logits = toy(torch.tensor([prompts[0] + completions[0]])).logits[0].float() / scorer.temperature
            taken = logits.log_softmax(-1)[len(prompts[0]) - 1 : -1].gather(1, torch.tensor(completions[0])[:, None])
            assert scorer(prompts, completions)[0] == pytest.approx(taken.sum().item(), abs=1e-5)
    assert (toy.head_temperature, toy.head_in_float32) == (0.5, True)


def test_adapters_are_scored_too(toy):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(copy.deepcopy(toy), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    prompts, completions = [ROWS[0]["prompt_ids"]], [[3, 2, EOS]]
    found = SequenceScorer(adapted, 1.0, 0)(prompts, completions)
    with torch.no_grad():
        logits = adapted(torch.tensor([prompts[0] + completions[0]])).logits[0].float().log_softmax(-1)
    taken = logits[len(prompts[0]) - 1 : -1].gather(1, torch.tensor(completions[0])[:, None])
    assert found[0] == pytest.approx(taken.sum().item(), abs=1e-5)


def test_draws_that_are_not_what_is_scored_are_refused(toy):
    engine, scorer = TransformersEngine(toy, [EOS], 0), SequenceScorer(toy, TEMPERATURE, 0)
    plan = PosteriorPlan(SamplingParams(LENGTH, temperature=TEMPERATURE))
    weight = read_out(TASK, Words())
    other = PosteriorPlan(SamplingParams(LENGTH, temperature=TEMPERATURE + 0.5))
    with pytest.raises(ConfigError, match="a scorer at temperature"):
        posterior_kl(engine, scorer, Words(), ROWS, weight, other)
    untold = [{name: value for name, value in ROWS[0].items() if not name.startswith("told")}]
    with pytest.raises(DataError, match="row 0 without told_prompt"):
        posterior_kl(engine, scorer, Words(), untold, weight, plan)
    with pytest.raises(DataError, match=r"shape \(1,\) for 85 completions"):
        posterior_kl(engine, scorer, Words(), ROWS, lambda row, completions: [0.0], plan)
    for further in ({"json_schema": "{}"}, {"cut_loops": True}):
        with pytest.raises(ConfigError, match="own log-probs"):
            PosteriorPlan(SamplingParams(LENGTH, **further))


def test_the_seed_of_a_plan_is_that_of_its_draws(toy, monkeypatch):
    monkeypatch.setattr("ixt_rl.evaluation.posterior_pass.MOST_ENUMERATED", 10)
    engine, scorer = TransformersEngine(toy, [EOS], 0), SequenceScorer(toy, TEMPERATURE, 0)

    def drawn(seed):
        plan = PosteriorPlan(SamplingParams(LENGTH, temperature=TEMPERATURE, seed=seed), 64)
        found = posterior_kl(engine, scorer, Words(), ROWS, read_out(TASK, Words()), plan)
        return [one.true_told.value for one in found]

    assert drawn(None) == drawn(17) != drawn(3) == drawn(3)


# ------------------------------------------------------------------------------------------- a run's key


def test_a_truncated_distribution_is_refused():
    with pytest.raises(ConfigError, match=r"top_p=0\.9"):
        PosteriorPlan(SamplingParams(4, top_p=0.9))
    block = {"name": "m", "type": "evaluate", "data": {"world": "addition"}, "posterior": {"samples": 8}}
    EvaluateStage.model_validate({**block, "sampling": {"max_new_tokens": 4}})
    with pytest.raises(ValidationError, match=r"posterior with sampling\.top_p=0\.9"):
        EvaluateStage.model_validate({**block, "sampling": {"max_new_tokens": 4, "top_p": 0.9}})


def test_samples_that_could_decide_no_problem_are_refused():
    block = {"name": "m", "type": "evaluate", "data": {"world": "addition"}, "sampling": {"max_new_tokens": 4}}
    with pytest.raises(ValidationError, match=r"samples=7 with least_effective=16"):
        EvaluateStage.model_validate({**block, "posterior": {"samples": 7}})
    EvaluateStage.model_validate({**block, "posterior": {"samples": 7, "least_effective": 14}})


def test_settings_of_before_are_written_as_before():
    block = {"name": "m", "type": "evaluate", "data": {"world": "addition"}, "sampling": {"max_new_tokens": 4}}
    settings = EvaluateStage.model_validate(block).model_dump(mode="json")
    assert not {"controls", "posterior"} & settings.keys()
    off = EvaluateStage.model_validate({**block, "controls": False}).model_dump(mode="json")
    assert off["controls"] is False
