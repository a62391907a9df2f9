"""The told pass: log-probs, a posterior that lags, and contrast with a wrong answer, each against its formula."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainerCallback

from ixt_rl.blocks.data import WorldDataBlock
from ixt_rl.conditioning import encode_prompt
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.tasks import make_task
from ixt_rl.kernels import chunks
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.logprobs_at import LogprobsAt
from ixt_rl.trainers import InTROTrainer
from ixt_rl.trainers.told import TOLD, WRONG, ToldPass
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

VOCABULARY = len(WORLD.tokenizer())


def told_rows(count):
    """Rows that are told a wrong answer, too."""
    return make_task(WorldDataBlock(world="addition", view="parity"), None, told=("wrong",)).train_rows(count, 0)


def told_batch(trainer, count=2, **changes):
    trainer.model.train()
    group = trainer.args.num_generations
    made = [{**row, **{k: row[v] for k, v in changes.items()}} for row in told_rows(count) for _ in range(group)]
    return trainer._generate_and_score_completions(made)


def whole_logprobs(model, prompt, z):
    """(T, V) by the model's own logits."""
    prompt = torch.tensor(prompt) if isinstance(prompt, list) else prompt
    return model(torch.cat([prompt, z])[None]).logits[0, len(prompt) - 1 : -1].log_softmax(-1)


# ----------------------------------------------------------------------------------------- log-probs


@pytest.mark.parametrize("column", [TOLD, WRONG])
def test_told_logprobs_are_those_of_the_models_own_logits(tmp_path, column):
    options = {"contrast": True, "posterior": "frozen", "temperature": 0.7}
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine(), data=told_rows(8), **options)
    batch = told_batch(trainer)
    kept = trainer.trained_rows(batch)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight.add_(0.1)  # the policy has moved; the frozen copy has not
    found = trainer.told.logps(trainer.model, batch, kept, column)
    expected = []
    for row, _, z in kept:
        prompt = encode_prompt(WORLD.tokenizer(), told_rows(2)[row // 4][column])
        logits = tiny()(torch.tensor([prompt + z])).logits[0, len(prompt) - 1 : -1]
        expected.append((logits / 0.7).log_softmax(-1).gather(1, torch.tensor(z)[:, None])[:, 0])
    assert found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found, torch.cat(expected).detach(), rtol=1e-4, atol=1e-5)


def test_logprobs_at_any_tokens_are_a_whole_log_softmax():
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape, dtype=torch.float64) for shape in ((5, 4), (7, 4), (7,)))
    head = Head(weight, bias, temperature=1.3, softcap=3.0, scale=0.9)
    whole = ((3 * torch.tanh(0.9 * (hidden @ weight.T + bias) / 3)) / 1.3).log_softmax(-1)
    at = LogprobsAt(hidden, head, torch.randint(0, 7, (5,)))
    ids = torch.randint(0, 7, (3, 4))
    torch.testing.assert_close(at(slice(1, 4), ids), whole[1:4].gather(1, ids))
    torch.testing.assert_close(at(slice(0, 5), torch.arange(2, 6)[None]), whole[:, 2:6])


# ------------------------------------------------------------------------------------------ contrast


class Three(InTROTrainer):
    """Candidates that a test can write down."""

    def choose_candidates(self, logp, taken, spec, generator):
        return three(taken)


def three(taken):
    return torch.stack([taken, (taken + 1) % VOCABULARY, (taken + 3) % VOCABULARY], 1)


def contrasted(trainer, batch, exact, clip):
    """The loss as it stands: one rationale at a time, three log-softmaxes whole, every candidate by its formula."""
    losses = []
    for at in batch["kept"].nonzero().flatten().tolist():
        z = batch["completion_ids"][at][batch["completion_mask"][at].bool()]
        x = batch["prompt_ids"][at][batch["prompt_mask"][at].bool()]
        logp, right, wrong = (
            whole_logprobs(trainer.model, p, z)
            for p in (x, batch["told_prompt_ids"][at], batch["told_wrong_prompt_ids"][at])
        )
        if exact:
            weight = logp.exp()
        else:
            ids = three(z)
            logp, right, wrong = (one.gather(1, ids) for one in (logp, right, wrong))
            weight = torch.full(ids.shape, 1 / 3)
        factor = (right - wrong).exp().clamp(max=clip)
        losses.append(-((weight * factor).detach() * logp).sum(1).mean())
    return torch.stack(losses).sum() / int(batch["kept_total"])


@pytest.mark.parametrize("candidates", [3, "exact"])
@pytest.mark.parametrize("chunk", [None, 5, 1])
def test_contrast_puts_the_wrongly_told_model_into_the_denominator(tmp_path, monkeypatch, candidates, chunk):
    if chunk is not None:
        for name, value in {"MAX_CHUNK": chunk, "CPU_TILE": 4, "CPU_BLOCK": max(1, chunk // 2)}.items():
            monkeypatch.setattr(chunks, name, value)
    trainer = make_trainer(
        "intro", tmp_path, engine=ScriptedEngine(), trainer_class=None if candidates == "exact" else Three,
        candidates=candidates, contrast=True, clip=1.1, data=told_rows(8),
    )  # fmt: skip
    batch = told_batch(trainer)
    loss, gradient = loss_and_gradient(trainer, split(batch, 2))
    trainer.model.zero_grad()
    plain = sum(contrasted(trainer, part, candidates == "exact", 1.1) for part in split(batch, 2))
    plain.backward()
    expected = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    assert loss == pytest.approx(float(plain.detach()), rel=1e-4)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("candidates", [1, 5])
def test_told_the_right_answer_as_the_wrong_one_the_factor_is_one_and_intro_is_raft(tmp_path, candidates):
    trainer = make_trainer(
        "intro", tmp_path, engine=ScriptedEngine(), contrast=True, candidates=candidates, data=told_rows(8)
    )
    batch = told_batch(trainer, told_wrong_prompt="told_prompt")
    loss, gradient = loss_and_gradient(trainer, [batch])
    taken = trainer._sums["factor/taken"]
    assert float(taken[0] / taken[1]) == pytest.approx(1, abs=1e-5)
    if candidates == 1:
        raft = make_trainer("raft", tmp_path, engine=ScriptedEngine())
        expected = loss_and_gradient(raft, [generation_batch(raft)])
        assert loss == pytest.approx(expected[0], rel=1e-5)
        torch.testing.assert_close(gradient, expected[1], rtol=1e-4, atol=1e-6)


def test_a_factor_of_ones_own_gets_the_wrongly_told_log_probs(tmp_path):
    class Half(InTROTrainer):
        def factor(self, logp, logq, where):
            return ((logq - logp) / 2).exp()

    losses = []
    for contrast in (True, False):
        trainer = make_trainer(
            "intro", tmp_path, engine=ScriptedEngine(), trainer_class=Half, contrast=contrast, data=told_rows(8)
        )
        changes = {"told_wrong_prompt": "prompt"} if contrast else {}  # told nothing, the wrong one is the policy
        losses.append(loss_and_gradient(trainer, [told_batch(trainer, **changes)]))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    torch.testing.assert_close(losses[0][1], losses[1][1], rtol=1e-4, atol=1e-6)


def test_contrast_needs_a_wrong_answer_told(tmp_path):
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine(), contrast=True)
    without = [{name: value for name, value in row.items() if name != "told_wrong_prompt"} for row in rows(2)]
    with pytest.raises(DataError, match="add a `told_wrong_prompt` column"):
        trainer.prepared(without)
    made = [{**row, "told_wrong_prompt": ""} for row in rows(1)]
    with pytest.raises(DataError, match="told_wrong_prompt='' of the prompt"):
        ToldPass.prepared(trainer.told, made)


# -------------------------------------------------------------------------------------------- lagged


class Remembers(TrainerCallback):
    def __init__(self, trainer):
        self.trainer, self.policy, self.posterior = trainer, [], []

    def on_step_end(self, args, state, control, **kwargs):
        for found, model in ((self.policy, self.trainer.model), (self.posterior, self.trainer.posterior.model)):
            found.append(torch.cat([weight.detach().flatten().clone() for weight in model.parameters()]))


def test_a_lagged_posterior_takes_over_the_policy_every_so_many_updates(tmp_path):
    options = {"posterior": "lagged", "posterior_every": 2, "max_steps": 5}
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine(), **options)
    initial = torch.cat([weight.detach().flatten().clone() for weight in trainer.model.parameters()])
    seen = Remembers(trainer)
    trainer.add_callback(seen)
    trainer.train()
    p = seen.policy
    for found, expected in zip(seen.posterior, [initial, p[1], p[1], p[3], p[3]], strict=True):
        assert torch.equal(found, expected)
    assert not torch.equal(p[1], p[3])


@pytest.mark.parametrize(
    "options",
    [
        {"posterior": "lagged"},
        {"posterior": "lagged", "posterior_every": 0},
        {"posterior": "frozen", "posterior_every": 3},
        {"posterior": "lagged", "posterior_every": 3, "posterior_decay": 0.9},
    ],
)
def test_a_posterior_and_its_number_go_together(tmp_path, options):
    with pytest.raises(ConfigError, match="give both"):
        make_trainer("intro", tmp_path, **options)
