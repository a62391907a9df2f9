"""A tiny Llama as a GGUF file, with the traps that released files have; written by the package `gguf`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = [("Ġ", "Ġ"), ("ĠĠ", "Ġ"), ("h", "i")]
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in MERGES)]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HEADS, KV_HEADS = 4, 2
NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, head_dim=8, max_position_embeddings=256, tie_word_embeddings=True,
        initializer_range=0.2, rope_theta=5000.0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def write(path: Path, model: LlamaForCausalLM, *, leave_out: str = "", **fields: Any) -> Path:
    """Writes a file of `model`.

    Args:
        leave_out: a tensor that is not written.
        fields: `architecture`, `license`, `pre` (its rule for cutting text), `rope_factor`, `rope_freqs` (a tensor of
            factors), `texts` (by the name of a further field, what it holds).
    """
    import gguf

    writer = gguf.GGUFWriter(path, fields.get("architecture", "llama"))
    config = model.config
    writer.add_name("Tiny Llama")
    writer.add_license(fields.get("license", "mit"))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(TOKENS))
    if "rope_factor" in fields:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(fields["rope_factor"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(fields.get("pre", "smollm"))
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    for kind, index in {"bos": 1, "eos": 2, "unk": 0, "pad": 2}.items():
        getattr(writer, f"add_{kind}_token_id")(index)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, text in fields.get("texts", {}).items():
        writer.add_string(name, text)
    for name, tensor in tensors(model).items():
        if name != leave_out:
            writer.add_tensor(name, tensor)
    if "rope_freqs" in fields:
        writer.add_tensor("rope_freqs.weight", np.ones(config.head_dim // 2, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(model: LlamaForCausalLM) -> dict[str, np.ndarray]:
    """Weights by GGUF's names; rows of queries and keys are in GGUF's order, which pairs neighbours for rotation."""
    found = {"token_embd.weight": model.model.embed_tokens.weight, "output_norm.weight": model.model.norm.weight}
    for index, layer in enumerate(model.model.layers):
        found |= {f"blk.{index}.{theirs}.weight": layer.get_submodule(ours).weight for ours, theirs in NAMES.items()}
    arrays = {name: tensor.detach().numpy() for name, tensor in found.items()}
    for name, array in arrays.items():
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(name.split(".")[2] if name.startswith("blk") else "")
        if heads:
            rows, columns = array.shape
            halves = array.reshape(heads, 2, rows // heads // 2, columns)
            arrays[name] = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
    return arrays


def write_other(
    path: Path,
    model: Any,
    architecture: str,
    numbers: dict[str, float],
    *,
    tokens: tuple[list[str], list[int]] = (TOKENS, [3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL))),
    pre: str | None = None,
    ids: dict[str, int] | None = None,
    add_bos: bool | None = None,
    template: str = TEMPLATE,
    splits: int = 1,
) -> Path:
    """Writes a file of a model whose rows GGUF keeps in transformers' order.

    Args:
        numbers: further fields of the architecture, whole numbers as such.
        tokens: with the type of each.
        pre, ids, add_bos: the tokenizer's rule for cutting text, its special tokens by GGUF's names, and whether BOS
            comes first; None: not in the file.
        splits: of how many files it says that it is one.
    """
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    config = model.config
    fields = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        **numbers,
    }
    for name, value in fields.items():
        (writer.add_uint32 if isinstance(value, int) else writer.add_float32)(f"{architecture}.{name}", value)
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens[0])
    writer.add_token_types(tokens[1])
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    for kind, index in (ids or {"eos": 2}).items():
        writer.add_uint32(f"tokenizer.ggml.{kind}_token_id", index)
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    writer.add_chat_template(template)
    if splits > 1:
        writer.add_uint16("split.count", splits)
    (arch,) = (one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
