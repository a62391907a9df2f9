#!/usr/bin/env bash
# transformers 5.15.0, gguf 0.19.0, torch 2.13.0: a Llama 3 read from a GGUF file has other positions than it was
# trained with.
#
# Behaviour: a GGUF file of a model with stretched rotary positions (Llama 3.1 and later) has no field for it, but a
# tensor, `rope_freqs.weight`: what each frequency is divided by. transformers has no place for that tensor and drops
# it; the model gets plain positions, and neither `missing_keys` nor `unexpected_keys` names anything.
# Seen, two layers written and read again, largest |log-prob of what was written - of what was read|: without stretched
# positions 0 at all 200; with factor 8 over 64 positions .01 at position 1, 8.8 at 50, 12.7 at most. `rope_type` is
# "default".
# Guessed before: read with its scaling, or an unexpected key.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.15.0 accelerate==1.15.0 gguf==0.19.0
cat > "$folder/seen.py" <<'PYTHON'
from pathlib import Path

import gguf
import torch
from transformers import LlamaConfig, LlamaForCausalLM

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
STRETCHED = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64}


def paired(weight, heads):
    """llama.cpp rotates neighbours, transformers halves."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write(model, folder):
    config = model.config
    folder.mkdir()
    to = gguf.GGUFWriter(folder / "model.gguf", "llama")
    to.add_vocab_size(config.vocab_size)
    to.add_context_length(config.max_position_embeddings)
    to.add_embedding_length(config.hidden_size)
    to.add_block_count(config.num_hidden_layers)
    to.add_feed_forward_length(config.intermediate_size)
    to.add_head_count(config.num_attention_heads)
    to.add_head_count_kv(config.num_key_value_heads)
    to.add_layer_norm_rms_eps(config.rms_norm_eps)
    to.add_rope_dimension_count(config.head_dim)
    to.add_rope_freq_base(10000.0)
    weights = {name: weight.detach().float().numpy() for name, weight in model.state_dict().items()}
    to.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    to.add_tensor("output_norm.weight", weights["model.norm.weight"])
    to.add_tensor("output.weight", weights["lm_head.weight"])
    for layer in range(config.num_hidden_layers):
        for ours, theirs in NAMES.items():
            weight = weights[f"model.layers.{layer}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                weight = paired(weight, config.num_attention_heads)
            to.add_tensor(f"blk.{layer}.{theirs}.weight", weight)
    rotary = model.model.rotary_emb
    if config.rope_parameters["rope_type"] != "default":
        frequencies = 10000.0 ** -(torch.arange(0, config.head_dim, 2).float() / config.head_dim)
        to.add_tensor("rope_freqs.weight", (frequencies / rotary.inv_freq).numpy())
    to.write_header_to_file()
    to.write_kv_data_to_file()
    to.write_tensors_to_file()
    to.close()


def log_probs(model):
    with torch.no_grad():
        return model(torch.arange(200)[None] % 64).logits.log_softmax(-1)[0]


apart = {}
for name, rope in {"plain": PLAIN, "stretched": STRETCHED}.items():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        initializer_range=0.3, max_position_embeddings=512, rope_parameters=rope)).eval()
    write(model, Path(name))
    read, loading = LlamaForCausalLM.from_pretrained(name, gguf_file="model.gguf", output_loading_info=True)
    apart[name] = (log_probs(model) - log_probs(read.eval())).abs().amax(1)
    kind, named = read.config.rope_parameters["rope_type"], [key for keys in loading.values() for key in keys]
    print(f"{name}: read with rope_type {kind}, keys named {named}; log-probs differ by {apart[name][1]:.1e} at 1, "
          f"{apart[name][50]:.1e} at 50, at most {apart[name].max():.1e}")
    assert kind == "default" and not named, "the behaviour has changed"
assert apart["plain"].max() < 1e-4 and apart["stretched"].max() > 1, "the behaviour has changed"
PYTHON
cd "$folder" && "$folder/venv/bin/python" "$folder/seen.py"
