"""DPO on pairs: TRL's loss is the formula on our ids and log-probs, a resumed run is the straight one, options."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import transformers
import trl
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from ixt_rl.conditioning import Conditioner, Conditioning
from ixt_rl.data.preferences import PreferencePair
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels.preference import dpo_loss
from ixt_rl.trainers import DPOConfig, DPOTrainer
from ixt_rl.trainers.dpo import REFUSED, pair_ids
from ixt_rl.types import Document
from tests.unit.conditioning.chats import CHATML, chat_tokenizer

# Options of trl.DPOConfig, beyond transformers' own, that reach TRL code which the trainer still runs.
HONOURED = {
    "model_init_kwargs", "trust_remote_code", "disable_dropout", "loss_type", "loss_weights", "ld_alpha", "beta",
    "f_divergence_type", "f_alpha_divergence_coef", "label_smoothing", "use_weighting", "discopop_tau",
    "activation_offloading", "router_aux_loss_coef", "pad_to_multiple_of",
}  # fmt: skip


@pytest.fixture(scope="module")
def conditioner() -> Conditioner:
    wanted = Conditioning(chat=True, train_turns="last", max_reply_tokens=6)
    return Conditioner(chat_tokenizer(CHATML, "<|im_end|>"), wanted)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, conditioner) -> Path:
    """Of a tiny model: TRL reads the reference from where the policy came from."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(conditioner.tokenizer), attention_dropout=0.1, **size)
    LlamaForCausalLM(config).save_pretrained(tmp_path_factory.mktemp("tiny"))
    return Path(tmp_path_factory.getbasetemp()) / "tiny0"


def pairs(count: int = 6) -> list[PreferencePair]:
    return [
        PreferencePair(Document(f"yes {n}", prompt=f"is it {n}"), Document("no, not at all", prompt=f"is it {n}"))
        for n in range(count)
    ]


def trainer(folder: Path, out: Path, conditioner: Conditioner, **options) -> DPOTrainer:
    given = {"max_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "logging_steps": 1, **options}
    args = DPOConfig(
        output_dir=str(out), use_cpu=True, bf16=False, report_to="none", gradient_checkpointing=False,
        disable_tqdm=True, **given,
    )  # fmt: skip
    model = LlamaForCausalLM.from_pretrained(folder, dtype="float32")
    return DPOTrainer(model, args, pairs(), conditioner.tokenizer, conditioner=conditioner)


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
