"""`transformers.generate` without what a checkpoint's generation_config.json would add to it.

transformers fills every field that a call leaves at None from the model's own generation config: temperature, top-p and
repetition penalty of most instruct checkpoints would change what is sampled, after the log-probs were recorded or
before. Two things keep them out: the call's config has a neutral value for every field (`NEUTRAL`), and while the call
lasts the model has a bare config, because None is the only neutral value that some fields have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

NEUTRAL: dict[str, Any] = {
    # what the logits become
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": None,
    "top_h": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": None,
    "watermarking_config": None,
    "remove_invalid_values": False,
    "renormalize_logits": False,
    # when a completion ends
    "max_length": None,  # max_new_tokens decides
    "min_length": 0,
    "min_new_tokens": None,
    "max_time": None,
    "stop_strings": None,
    # one draw a row and step: no beams, no assistant, no search of another kind
    "num_beams": 1,
    "num_return_sequences": 1,
    "early_stopping": False,
    "length_penalty": 1.0,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "constraints": None,
    "force_words_ids": None,
    "penalty_alpha": None,
    "dola_layers": None,
    "low_memory": None,
    "use_mtp": None,
    "is_assistant": None,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "assistant_early_exit": None,
    "assistant_lookbehind": 10,
    "assistant_ensemble_weight": None,
    "target_lookbehind": 10,
    "prompt_lookup_num_tokens": None,
    "max_matching_ngram_size": None,
    "speculation_type": None,
    "token_healing": False,
    # how it is computed: keys and values as they are, in a cache that grows
    "use_cache": True,
    "cache_implementation": None,
    "cache_config": None,
    "max_cache_len": None,
    "prefill_chunk_size": None,
    "compile_config": None,
    "disable_compile": None,
    "continuous_batching_config": None,
    # what is returned: ids
    "output_attentions": False,
    "output_hidden_states": False,
    "output_scores": False,
    "output_logits": False,
    "return_dict_in_generate": False,
    # what a decoder with a prompt never reads
    "bos_token_id": None,
    "decoder_start_token_id": None,
}
"""Every field of `GenerationConfig` that `plain_generation` has no argument for, at the value that changes nothing."""


def plain_generation(max_new_tokens: int, eos_ids: Sequence[int], pad_id: int, *, sample: bool) -> GenerationConfig:
    """A complete generation config: from softmax(logits) or their maximum, up to an end or `max_new_tokens`.

    Args:
        max_new_tokens: longest completion, its end included.
        eos_ids: every id that ends one.
        pad_id: what stands behind an end.
        sample: whether to draw; else the most likely token is taken.
    """
    config = GenerationConfig()
    asked = {
        "max_new_tokens": max_new_tokens,
        "do_sample": sample,
        "eos_token_id": list(eos_ids),
        "pad_token_id": pad_id,
    }
    for name, value in {**NEUTRAL, **asked}.items():
        setattr(config, name, value)  # given to the class, a neutral `top_k` would be warned of where nothing is drawn
    return config


@contextmanager
def checkpoint_defaults_off(model: torch.nn.Module) -> Iterator[None]:
    """The model, and whatever it wraps (an adapter's base), has a bare generation config; its own comes back."""
    kept = [(module, vars(module)["generation_config"]) for module in model.modules() if _has_defaults(module)]
    try:
        for module, _ in kept:
            vars(module)["generation_config"] = GenerationConfig()
        yield
    finally:
        for module, config in kept:
            vars(module)["generation_config"] = config


def _has_defaults(module: torch.nn.Module) -> bool:
    return "generation_config" in vars(module)
