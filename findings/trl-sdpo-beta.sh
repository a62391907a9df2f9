#!/usr/bin/env bash
# TRL 1.16.0 (experimental SDPO), transformers 5.15.0, torch 2.13.0: SDPO's `beta` is taken and does nothing.
#
# Behaviour: `SDPOConfig` documents `beta` as the KL coefficient, and that the reference model is loaded where it is not
# 0. `SDPOTrainer` stores the number, loads no reference and adds no penalty, neither to the distillation loss nor, at
# distillation_weight 0, to the policy gradient. GRPOTrainer, whose option it is by name and words, has both.
# Seen, largest difference of a weight after three updates with beta 0 and with beta 10: 0 (SDPO, distillation alone), 0
# (SDPO, policy gradient alone), .017 (GRPO); `ref_model` is there in GRPO only.
# Guessed before: beta 10 holds all three near where they began, so that each differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.15.0 trl==1.16.0
cat > "$folder/seen.py" <<'PYTHON'
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

WORDS = {f"w{i}": i for i in range(30)} | {"<pad>": 30, "<eos>": 31}
SHARED = dict(
    output_dir="out", report_to=[], use_cpu=True, bf16=False, per_device_train_batch_size=4, num_generations=4,
    max_completion_length=4, max_steps=3, learning_rate=1e-2, save_strategy="no", logging_strategy="no",
    disable_tqdm=True)

torch.manual_seed(0)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel(WORDS, unk_token="<pad>")), pad_token="<pad>", eos_token="<eos>")
tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"
tokenizer.save_pretrained("model")
LlamaForCausalLM(LlamaConfig(
    vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
    initializer_range=0.3, eos_token_id=31, pad_token_id=30)).save_pretrained("model")


def every_other(completions, **_):
    return [float(place % 2) for place, _ in enumerate(completions)]


def trained(trainer_class, config_class, **options):
    data = Dataset.from_dict({"prompt": [[{"role": "user", "content": f"w{i} w{i + 1}"}] for i in range(8)]})
    trainer = trainer_class(
        LlamaForCausalLM.from_pretrained("model"), reward_funcs=every_other, args=config_class(**SHARED, **options),
        train_dataset=data, processing_class=tokenizer)
    trainer.train()
    weights = torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])
    return weights, getattr(trainer, "ref_model", None) is not None


apart, referred = {}, {}
for name, *kind in (
    ("SDPO, distillation alone", SDPOTrainer, SDPOConfig, {"distillation_weight": 1.0}),
    ("SDPO, policy gradient alone", SDPOTrainer, SDPOConfig, {"distillation_weight": 0.0}),
    ("GRPO", GRPOTrainer, GRPOConfig, {}),
):
    trainer_class, config_class, options = kind
    (free, _), (held, referred[name]) = (trained(trainer_class, config_class, beta=b, **options) for b in (0.0, 10.0))
    apart[name] = (free - held).abs().max().item()
    print(f"{name}: weights differ by {apart[name]:.4f}; a reference model: {referred[name]}")
grpo = apart.pop("GRPO"), referred.pop("GRPO")
assert not any(apart.values()) and not any(referred.values()) and grpo[0] > 1e-4 and grpo[1], "the behaviour has changed"
PYTHON
cd "$folder" && "$folder/venv/bin/python" "$folder/seen.py"
