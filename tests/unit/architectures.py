"""Tiny configs of every causal language model that transformers knows, for sweeps over architectures."""

from __future__ import annotations

from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

WINDOW = 8

_SAME: dict[int, str] = {
    96: "vocab_size n_vocab vocab_size_per_layer_input pronunciation_vocab_size shape_vocab_size",
    32: "hidden_size d_model n_embd dim embedding_size word_embed_proj_dim intermediate_size ffn_dim decoder_ffn_dim "
    "encoder_ffn_dim n_inner d_ff d_inner moe_intermediate_size shared_expert_intermediate_size ffn_hidden_size dff "
    "dim_ff emb_dim intermediate_size_mlp dense_intermediate_size expert_ffn_hidden_size hidden_size_per_layer_input "
    "lru_width attention_hidden_size kv_lora_rank q_lora_rank o_lora_rank moe_shared_expert_intermediate_size "
    "shared_intermediate_size feed_forward_size input_embedding_size output_embedding_size embedding_dim mamba_d_ssm "
    "pronunciation_embed_dim shape_embed_dim router_hidden_size rel_extent",
    16: "head_dim v_head_dim qk_nope_head_dim qk_rope_head_dim swa_head_dim global_head_dim mamba_d_state state_size "
    "ssm_state_size linear_key_head_dim linear_value_head_dim kv_channels index_head_dim attention_head_size dim_head "
    "mamba_d_head mamba_head_dim mamba_dt_rank time_step_rank query_pre_attn_scalar attention_head_dim d_head "
    "dim_model_base chunk_size mamba_chunk_size block_multiple_of",
    8: "rotary_dim index_topk laurel_rank adapter_rank",
    WINDOW: "sliding_window attention_chunk_size window_size sliding_window_size attention_window_size block_size "
    "local_attention index_block_size keep_window_size",
    4: "num_experts num_local_experts n_routed_experts moe_num_experts linear_num_key_heads linear_num_value_heads "
    "mamba_n_heads mamba_num_heads zero_expert_num",
    2: "num_hidden_layers n_layer n_layers decoder_layers encoder_layers num_layers num_attention_heads n_head n_heads "
    "decoder_attention_heads encoder_attention_heads num_heads num_experts_per_tok num_experts_per_token moe_topk "
    "top_k_experts eos_token_id index_n_heads swa_num_attention_heads first_k_dense_replace num_blocks",
    1: "num_key_value_heads num_kv_heads n_group topk_group bos_token_id n_shared_experts num_shared_experts",
    128: "max_position_embeddings n_positions n_ctx max_seq_len context_length max_source_positions "
    "max_target_positions",
    0: "pad_token_id",
}
SIZES = {name: value for value, names in _SAME.items() for name in names.split()}

OWN: dict[str, dict[str, Any]] = {
    "codegen": {"n_head": 4, "rotary_dim": 4},
    "dbrx": {
        "attn_config": {"kv_n_heads": 1, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32},
    },
    "diffllama": {"num_key_value_heads": 2},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2},
    "falcon": {"multi_query": True},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 2, "mamba_d_head": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.0] * 4,
        "intermediate_size": [32] * 4,
    },
    "gptj": {"n_embd": 32, "n_head": 2, "rotary_dim": 8},
    "inkling_text": {"num_key_value_heads": 2, "swa_num_key_value_heads": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"num_dense_layers": 1, "layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 1},
    "nemotron_h": {"n_groups": 1, "mamba_num_heads": 4, "mamba_head_dim": 16},
    "plbart": {"decoder_attention_heads": 2, "encoder_attention_heads": 2, "num_attention_heads": 2},
    "zamba": {
        "num_hidden_layers": 4,
        "layer_types": ["linear_attention", "hybrid"] * 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "attention_hidden_size": 64,
        "attention_head_dim": 32,
    },
    "zamba2": {
        "num_hidden_layers": 4,
        "layer_types": ["linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 32,
        "mamba_headdim": 16,
        "n_mamba_heads": 4,
        "num_mem_blocks": 1,
    },
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "local"]},
}
"""What some types need beyond `SIZES`."""


def tiny_config(model_type: str) -> PretrainedConfig:
    """A config of this type: two layers, or one of each kind, a window of `WINDOW` tokens, a vocabulary of 96."""
    default = CONFIG_MAPPING[model_type]()
    text = default.get_text_config(decoder=True)
    given = vars(text)
    fixed = {name for name in SIZES if isinstance(getattr(type(text), name, None), property)}
    sizes = {name: size for name, size in SIZES.items() if isinstance(given.get(name), int) and name not in fixed}
    if given.get("head_dim", 0) is None:
        sizes["head_dim"] = SIZES["head_dim"]
    if "kv_lora_rank" in sizes:
        sizes["num_key_value_heads"] = SIZES["num_attention_heads"]
    kinds = list(dict.fromkeys(given.get("layer_types") or ()))
    if kinds:
        sizes["layer_types"] = kinds if len(kinds) > 1 else kinds * 2
        sizes["num_hidden_layers"] = len(sizes["layer_types"])
    if default.is_encoder_decoder:
        return type(default)(**{**sizes, "is_encoder_decoder": False, "is_decoder": True})
    if hasattr(text, "is_decoder"):
        sizes["is_decoder"] = True
    return type(text)(**{**sizes, **OWN.get(model_type, OWN.get(text.model_type, {}))})
