"""DPO on pairs: TRL's loss is the formula on our ids and log-probs, a resumed run is the straight one, options."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import transformers
import trl
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from ixt_rl.conditioning import Conditioner
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels.preference import dpo_loss
from ixt_rl.trainers import DPOConfig, DPOTrainer
from ixt_rl.trainers.dpo import REFUSED, pair_ids
from tests.unit.trainers.dpo_helpers import chat_conditioner, make_trainer, pairs, tiny_folder

# Options of trl.DPOConfig, beyond transformers' own, that reach TRL code which the trainer still runs.
HONOURED = {
    "model_init_kwargs", "trust_remote_code", "disable_dropout", "loss_type", "loss_weights", "ld_alpha", "beta",
    "f_divergence_type", "f_alpha_divergence_coef", "label_smoothing", "use_weighting", "discopop_tau",
    "activation_offloading", "router_aux_loss_coef", "pad_to_multiple_of",
}  # fmt: skip


@pytest.fixture(scope="module")
def conditioner() -> Conditioner:
    return chat_conditioner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, conditioner) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), conditioner)


def trainer(folder: Path, out: Path, conditioner: Conditioner, **options) -> DPOTrainer:
    return make_trainer(folder, out, conditioner, **options)


def summed(model, prompt: list[int], reply: list[int]) -> torch.Tensor:
    logp = model(torch.tensor([[*prompt, *reply]])).logits[0].double().log_softmax(-1)
    return logp[len(prompt) - 1 : -1].gather(1, torch.tensor(reply)[:, None]).sum()


def test_a_pair_is_the_ids_that_sft_trains(conditioner):
    found = pair_ids(conditioner, pairs()[3])
    decode = conditioner.tokenizer.decode
    assert decode(found["prompt_ids"]).endswith("is it 3<|im_end|>\n<|im_start|>assistant\n")
    assert decode(found["chosen_ids"]) == "yes 3<|im_end|>"
    assert decode(found["rejected_ids"]) == "no, no"  # cut to six tokens, without an end


def test_the_loss_is_the_formula_on_plain_logits(folder, tmp_path, conditioner):
    made = trainer(folder, tmp_path, conditioner, beta=0.3)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    rows = [made.train_dataset[place] for place in range(3)]
    made.model.eval()
    with torch.no_grad():
        found = made.compute_loss(made.model, made.data_collator(rows))
        reference = LlamaForCausalLM.from_pretrained(folder, dtype="float32").eval()
        sums = [
            [torch.stack([summed(model, row["prompt_ids"], row[side]) for row in rows]) for side in SIDES]
            for model in (made.model, reference)
        ]
        losses, stats = dpo_loss(*sums[0], 0.3, *sums[1])
    assert float(stats.margin.abs().max()) > 0.01  # away from the reference
    assert float(found) == pytest.approx(float(losses.mean()), abs=1e-5)


SIDES = ("chosen_ids", "rejected_ids")
MEASURED = (
    "loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens",
    *(f"{of}/{side}" for of in ("rewards", "logits", "logps") for side in ("chosen", "rejected")), "rewards/margins",
    "rewards/accuracies",
)  # fmt: skip


def test_a_resumed_run_is_the_straight_one(folder, tmp_path, conditioner):
    options = {"save_strategy": "steps", "save_steps": 2}
    straight = trainer(folder, tmp_path / "straight", conditioner, **options)
    straight.train()
    stopped = trainer(folder, tmp_path / "stopped", conditioner, **options)
    stopped.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-2"))
    for name, weight in straight.model.state_dict().items():
        assert torch.equal(weight, stopped.model.state_dict()[name]), name
    assert stopped.ledger.tokens == straight.ledger.tokens
    assert stopped.ledger.tokens["train"] == stopped.ledger.tokens["score"] > 0
    begun, ended = load_file(folder / "model.safetensors"), straight.model.state_dict()
    assert any(not torch.equal(begun[name], ended[name]) for name in begun)


def test_every_update_has_as_many_pairs_as_its_batch_however_it_is_split(folder, tmp_path, conditioner):
    """Also where the pairs end amid an update, and where a batch has more than there are."""
    for count, steps in ((5, 3), (3, 2)):
        options = {"count": count, "max_steps": -1, "num_train_epochs": 2}
        made = [
            trainer(
                folder, tmp_path / f"{rows}-{count}", conditioner, per_device_train_batch_size=rows,
                gradient_accumulation_steps=parts, **options,
            )
            for rows, parts in ((4, 1), (2, 2), (1, 4))
        ]  # fmt: skip
        assert [one.args.max_steps for one in made] == [steps] * 3
        keys = [tuple(row["prompt_ids"]) for row in made[0].train_dataset]
        assert len(keys) == 4 * steps
        assert all(len(set(keys[first : first + count])) == count for first in (0, count)), "each pair once a pass"
        for one in made:
            one.train()
            assert one.ledger.tokens == made[0].ledger.tokens
        logs = [[row for row in one.state.log_history if "loss" in row] for one in made]
        assert logs[0][0]["loss"] == pytest.approx(math.log(2), abs=1e-6), "dropout, or not one network"
        for row, *others in zip(*logs, strict=True):
            for other in others:
                for name in MEASURED:
                    assert other[name] == pytest.approx(row[name], rel=1e-4), name


def test_every_option_of_trl_is_on_one_side():
    base = {f.name for f in dataclasses.fields(transformers.TrainingArguments)}
    options = {f.name for f in dataclasses.fields(trl.DPOConfig)} - base
    assert options - set(REFUSED) - HONOURED == set()
    assert not set(REFUSED) & HONOURED
    assert set(REFUSED) <= options


@pytest.mark.parametrize(
    "options",
    [{"max_length": 9}, {"precompute_ref_log_probs": True}, {"dataset_num_proc": 2}, {"sync_ref_model": True}],
)
def test_what_would_do_nothing_is_refused(tmp_path, options):
    with pytest.raises(ConfigError) as error:
        DPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)
    assert next(iter(options)) in str(error.value)


def test_no_pair_is_refused(folder, tmp_path, conditioner):
    args = DPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, max_steps=1)
    with pytest.raises(DataError, match="0 preference pairs"):
        DPOTrainer(LlamaForCausalLM.from_pretrained(folder), args, [], conditioner.tokenizer, conditioner=conditioner)
