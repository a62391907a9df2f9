"""DPO's loss: closed forms, gradients, and TRL's own DPOTrainer on the same model and pairs."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from ixt_rl.errors import ConfigError
from ixt_rl.kernels.preference import dpo_loss, sequence_logprobs
from tests.unit.trainers.helpers import WORLD, tiny

PAIRS = [((10, 1, 2), (3, 4, 11), (5, 11)), ((10, 7), (1, 11), (2, 2, 2, 11)), ((10, 8, 9, 3), (6, 7, 8, 9, 11), (0,))]


def sums(model, completions) -> torch.Tensor:
    """Log-probs of whole completions, one forward pass each, full log-softmaxes."""
    out = []
    for (prompt, *_), completion in zip(PAIRS, completions, strict=True):
        logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        out.append(logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None]).sum())
    return torch.stack(out)


def gradient(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


class Ready(DPOTrainer):
    """TRL's trainer on rows that are token ids already."""

    def _prepare_dataset(self, dataset, *args):
        return dataset


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_loss_and_gradient_are_those_of_trl(tmp_path, beta):
    model, reference = tiny(seed=0), tiny(seed=1)
    rows = [{"prompt_ids": list(p), "chosen_ids": list(c), "rejected_ids": list(r)} for p, c, r in PAIRS]
    args = DPOConfig(str(tmp_path), beta=beta, report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False)
    theirs = Ready(
        copy.deepcopy(model), copy.deepcopy(reference), args, train_dataset=Dataset.from_list(rows),
        processing_class=WORLD.tokenizer(),
    )  # fmt: skip
    theirs.model.train()
    expected = theirs.compute_loss(theirs.model, theirs.data_collator(rows))
    expected.backward()
    with torch.no_grad():
        held = [sums(reference, [pair[side] for pair in PAIRS]) for side in (1, 2)]
    losses, stats = dpo_loss(*(sums(model, [pair[side] for pair in PAIRS]) for side in (1, 2)), beta, *held)
    losses.mean().backward()
    assert losses.mean().item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient(model), gradient(theirs.model), rtol=1e-4, atol=1e-6)
    assert gradient(model).abs().max() > 1e-3
    for ours, name in ((stats.accuracy, "rewards/accuracies"), (stats.margin, "rewards/margins"),
                       (stats.chosen, "rewards/chosen"), (stats.rejected, "rewards/rejected")):  # fmt: skip
        assert ours.mean().item() == pytest.approx(theirs._metrics["train"][name][0], rel=1e-4, abs=1e-5), name


def test_closed_forms():
    one, other = torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -5.0])
    losses, stats = dpo_loss(one, other, 0.5)
    assert losses[0].item() == pytest.approx(math.log(2))  # equal log-probs
    assert losses[1].item() == pytest.approx(math.log(1 + math.exp(-1.5)))
    assert stats.margin.tolist() == [0.0, 1.5]
    assert stats.accuracy.tolist() == [0.0, 1.0]
    held, _ = dpo_loss(one, other, 0.5, one, other)  # the policy is the reference
    assert held.tolist() == pytest.approx([math.log(2)] * 2)
    swapped, _ = dpo_loss(other, one, 0.5)
    assert (swapped - losses).tolist() == pytest.approx([0.0, 1.5])  # log-odds of the two orders
    far, _ = dpo_loss(torch.tensor([-1e4]), torch.tensor([0.0]), 1.0)
    assert far.item() == pytest.approx(1e4)


def test_gradient_checks():
    values = [torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    for value in values[:2]:
        value.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: dpo_loss(a, b, 0.3, *values[2:])[0], values[:2])
    rows = torch.tensor([0, 2, 0, 2])
    assert torch.autograd.gradcheck(lambda a: sequence_logprobs(a, rows, 3), values[0])


def test_losses_are_summed_in_single_precision():
    logp = torch.full((4096,), -0.01, dtype=torch.bfloat16)
    exact = float(logp[0]) * 4096
    assert sequence_logprobs(logp, torch.zeros(4096, dtype=torch.long), 1).item() == pytest.approx(exact, rel=1e-5)
    losses, _ = dpo_loss(logp[:2], logp[:2] - 1, 0.1)
    assert losses.dtype == torch.float32


def test_rows_without_tokens_have_log_prob_0():
    assert sequence_logprobs(torch.tensor([-1.0, -2.0]), torch.tensor([2, 2]), 3).tolist() == [0.0, 0.0, -3.0]


@pytest.mark.parametrize(("beta", "reference"), [(0.0, ()), (-1.0, ()), (0.1, (torch.zeros(1),))])
def test_what_makes_no_sense_is_refused(beta, reference):
    with pytest.raises(ConfigError) as error:
        dpo_loss(torch.zeros(1), torch.zeros(1), beta, *reference)
    assert error.value.remedy
