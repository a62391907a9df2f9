#!/usr/bin/env bash
# transformers 5.15.0, accelerate 1.15.0, torch 2.13.0: the Trainer's `total_flos` of one and the same computation
# depends on whether embeddings are tied, and counts experts that no token meets.
#
# Behaviour: it is 6 x tokens x parameters, without those of embeddings. A tied head is the embedding's matrix and so
# left out, though it is multiplied as any other; and of a mixture of experts all experts count, though each token goes
# to a few. Small models with large vocabularies are tied as a rule, and their head is much of the work.
# Seen, a Qwen3 of 4 layers of 128 with 20,000 words, one update of 128 tokens, total_flos over what torch's
# FlopCounterMode counts: 1.00 untied, .24 tied; 4.4 with 16 experts of which a token meets 2.
# Guessed before: the head counts or does not count, tied or untied; experts by num_experts_per_tok.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.3.5 transformers==5.15.0 accelerate==1.15.0
cat > "$folder/seen.py" <<'PYTHON'
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM, Trainer, TrainingArguments)

ROW = {"input_ids": list(range(100, 228)), "labels": list(range(100, 228))}
SIZES = dict(
    vocab_size=20_000, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=32)
EXPERTS = dict(num_experts=16, num_experts_per_tok=2, moe_intermediate_size=384)


def share_counted(model):
    args = TrainingArguments(
        "out", max_steps=1, per_device_train_batch_size=1, use_cpu=True, report_to="none", save_strategy="no",
        disable_tqdm=True)
    trainer = Trainer(model, args, train_dataset=[ROW])
    with FlopCounterMode(display=False) as made:
        trainer.train()
    return round(trainer.state.total_flos / made.get_total_flops(), 2)


share = {
    "untied": share_counted(Qwen3ForCausalLM(Qwen3Config(**SIZES, tie_word_embeddings=False))),
    "tied": share_counted(Qwen3ForCausalLM(Qwen3Config(**SIZES, tie_word_embeddings=True))),
    "experts": share_counted(Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **EXPERTS, tie_word_embeddings=False))),
}
print(f"total_flos over the operations that were counted: {share}")
assert 0.9 < share["untied"] < 1.1 and share["tied"] < 0.5 and share["experts"] > 2, "the behaviour has changed"
PYTHON
cd "$folder" && "$folder/venv/bin/python" "$folder/seen.py"
