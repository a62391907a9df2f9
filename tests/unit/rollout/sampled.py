"""How far samples may be from a distribution, and what checkpoints ship as generation config."""

from __future__ import annotations

import torch
from torch import Tensor

SHIPPED = {
    "Qwen2.5-Instruct": {
        "bos_token_id": 1, "pad_token_id": 1, "eos_token_id": [2, 1], "do_sample": True, "temperature": 0.7,
        "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05,
    },
    "Qwen3": {
        "bos_token_id": 1, "pad_token_id": 1, "eos_token_id": [2, 1], "do_sample": True, "temperature": 0.6,
        "top_p": 0.95, "top_k": 20,
    },
    "Llama 3.x": {
        "bos_token_id": 1, "eos_token_id": [1, 2, 3], "do_sample": True, "temperature": 0.6, "top_p": 0.9,
    },
    "Gemma 3": {
        "bos_token_id": 2, "pad_token_id": 0, "eos_token_id": [1, 6], "do_sample": True, "top_k": 64, "top_p": 0.95,
        "cache_implementation": "hybrid",
    },
    "SmolLM2": {"bos_token_id": 1, "pad_token_id": 2, "eos_token_id": 2, "max_new_tokens": 40},
    "DeepSeek-R1-Distill": {
        "bos_token_id": 1, "eos_token_id": 2, "do_sample": True, "temperature": 0.6, "top_p": 0.95,
    },
}  # fmt: skip
"""As published, with ids of a small vocabulary."""

EVERY_FIELD = {
    "max_length": 5, "max_new_tokens": 1, "min_length": 30, "min_new_tokens": 30, "early_stopping": True,
    "max_time": 0.0, "stop_strings": ["a"], "do_sample": True, "num_beams": 3, "use_mtp": True, "use_cache": False,
    "cache_implementation": "quantized", "cache_config": {"nbits": 2}, "max_cache_len": 3, "temperature": 0.5,
    "top_k": 2, "top_p": 0.4, "min_p": 0.5, "top_h": 0.3, "typical_p": 0.3, "epsilon_cutoff": 0.2, "eta_cutoff": 0.2,
    "repetition_penalty": 1.8, "encoder_repetition_penalty": 1.8, "length_penalty": 2.0, "no_repeat_ngram_size": 1,
    "bad_words_ids": [[3]], "renormalize_logits": True, "forced_bos_token_id": 5, "forced_eos_token_id": 11,
    "remove_invalid_values": True, "exponential_decay_length_penalty": (0, 3.0), "suppress_tokens": [4, 5, 6],
    "begin_suppress_tokens": [7, 8], "sequence_bias": {(9,): 10.0}, "token_healing": True, "guidance_scale": 2.0,
    "watermarking_config": {"greenlist_ratio": 0.5}, "num_return_sequences": 2, "output_attentions": True,
    "output_hidden_states": True, "output_scores": True, "output_logits": True, "return_dict_in_generate": True,
    "pad_token_id": 3, "bos_token_id": 4, "eos_token_id": [5, 6], "encoder_no_repeat_ngram_size": 1,
    "decoder_start_token_id": 4, "is_assistant": True, "num_assistant_tokens": 3,
    "num_assistant_tokens_schedule": "heuristic", "assistant_confidence_threshold": 0.9,
    "prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 2, "assistant_early_exit": 1, "assistant_lookbehind": 2,
    "target_lookbehind": 2, "assistant_ensemble_weight": 0.5, "speculation_type": "dflash", "compile_config": {},
    "disable_compile": True, "continuous_batching_config": {}, "low_memory": True, "penalty_alpha": 0.6,
    "dola_layers": "high", "diversity_penalty": 0.5, "num_beam_groups": 3, "constraints": [1],
    "force_words_ids": [[1]], "prefill_chunk_size": 1,
}  # fmt: skip
"""No field as it should be, each changing what is sampled, how it is computed or what comes back where it can."""


def ship(model, fields) -> None:
    """Gives a model a generation config that holds `fields`, checked by nobody."""
    for name, value in fields.items():
        setattr(model.generation_config, name, value)


def departs(tokens, probabilities: Tensor) -> bool:
    """Whether tokens do not follow `probabilities` [V], by chi-square; true of right samples once in 10^6 tests."""
    counts = torch.bincount(torch.as_tensor(tokens), minlength=len(probabilities)).double()
    expected = probabilities.double() * counts.sum()
    common = expected >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    expected = torch.cat([expected[common], expected[~common].sum()[None].clamp(min=1e-9)])
    if expected[-1] < 5:  # what is rare joins the last of the common ones
        observed, expected = (torch.cat([x[:-2], x[-2:].sum()[None]]) for x in (observed, expected))
    statistic = float(((observed - expected) ** 2 / expected).sum())
    # Wilson-Hilferty: the 1 - 10^-6 quantile (z = 4.75) of chi-square with this many degrees of freedom
    degrees = len(observed) - 1
    return statistic >= degrees * (1 - 2 / (9 * degrees) + 4.75 * (2 / (9 * degrees)) ** 0.5) ** 3
