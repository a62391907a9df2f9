#!/usr/bin/env bash
# TRL 1.16.0, transformers 5.15.0, torch 2.13.0: `disable_dropout_in_model` leaves dropout on in some architectures.
#
# Behaviour: it sets p = 0 on modules of the class nn.Dropout. Llama keeps its attention dropout as a plain number, and
# Falcon reads both of its rates from the config in each pass, so both stay random in training. GPT-Neo, whose dropout is
# all modules, becomes exact. The option `disable_dropout=True` of TRL's trainers calls this function.
# Seen: two passes in training mode over the same ids differ by .18 nats (Llama, attention_dropout .3) and by .25 nats
# (Falcon, .3 and .3); GPT-Neo by 0.
# Guessed before: all three differ by 0, because the option says that dropout is off.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.15.0 trl==1.16.0
cat > "$folder/seen.py" <<'PYTHON'
import torch
from transformers import FalconConfig, FalconForCausalLM, GPTNeoConfig, GPTNeoForCausalLM, LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import disable_dropout_in_model

SIZE = {"vocab_size": 64, "hidden_size": 32, "bos_token_id": 1, "eos_token_id": 2}
torch.manual_seed(0)
models = {
    "llama": LlamaForCausalLM(LlamaConfig(
        **SIZE, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        attention_dropout=0.3)),
    "falcon": FalconForCausalLM(FalconConfig(
        **SIZE, num_hidden_layers=2, num_attention_heads=2, attention_dropout=0.3, hidden_dropout=0.3)),
    "gpt_neo": GPTNeoForCausalLM(GPTNeoConfig(
        **SIZE, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]], max_position_embeddings=64,
        attention_dropout=0.3, embed_dropout=0.3, resid_dropout=0.3)),
}
ids = torch.randint(3, 64, (1, 12))
noise = {}
for name, model in models.items():
    disable_dropout_in_model(model)
    model.train()
    with torch.no_grad():
        first, second = (model(input_ids=ids).logits.log_softmax(dim=-1) for _ in range(2))
    noise[name] = (first - second).abs().max().item()
    print(f"{name}: two passes differ by {noise[name]:.2f} nats")
assert noise["llama"] > 0.01 and noise["falcon"] > 0.01 and noise["gpt_neo"] == 0, "the behaviour has changed"
PYTHON
"$folder/venv/bin/python" "$folder/seen.py"
