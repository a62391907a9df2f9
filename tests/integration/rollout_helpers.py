"""Tiny models on disk, prompts for them, and what the trainer's model says about sampled ids."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from ixt_rl.types import Rollout, SamplingParams

VOCAB, EOS = 64, (1, 5)
ENGINE = {"eos_ids": EOS, "dtype": "float32", "max_num_seqs": 32, "kv_cache_gib": 1 / 64, "enforce_eager": True}
TOLERANCE = 1e-3

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": 2,
    "eos_token_id": 9,  # not ours: what the folder says must not matter
    "pad_token_id": 0,
}


def new_model(name: str) -> PreTrainedModel:
    """A Qwen3 with a head of its own, or a Llama with a tied one (`split llama`: one that two processes can share);
    random weights, the same in every process."""
    torch.manual_seed(0)
    if name == "split llama":
        return LlamaForCausalLM(LlamaConfig(**{**SIZES, "num_key_value_heads": 2}, tie_word_embeddings=True)).eval()
    if name == "qwen3 moe":
        experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
        return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **experts, head_dim=32, tie_word_embeddings=False)).eval()
    if name == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=32, tie_word_embeddings=False)).eval()
    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)).eval()


def save(model: PreTrainedModel, folder: Path) -> str:
    model.save_pretrained(folder)
    return str(folder)


def change(model: PreTrainedModel, seed: int = 1) -> None:
    """Moves every weight by half its spread or 0.05: far more than a step at learning rate 1e-2 does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            scale = float(weight.std()) / 2 or 0.05  # norms are all ones
            weight.add_(torch.randn(weight.shape, generator=generator) * scale)


def prompts(count: int, longest: int = 60, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(10, VOCAB) for _ in range(rng.randrange(4, longest))] for _ in range(count)]


def sampling(max_new_tokens: int = 24, **changes) -> SamplingParams:
    return SamplingParams(**{"max_new_tokens": max_new_tokens, "seed": 3, **changes})


@torch.no_grad()
def gap(model: PreTrainedModel, rollouts: list[Rollout], temperature: float = 1.0) -> float:
    """max |engine's log-prob - the model's| over all sampled ids."""
    worst = 0.0
    for rollout in rollouts:
        ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids])
        start = len(rollout.prompt_ids)
        logprobs = (model(ids).logits[0, start - 1 : -1] / temperature).log_softmax(-1)
        expected = logprobs.gather(1, ids[0, start:, None]).squeeze(1)
        worst = max(worst, float((expected - torch.tensor(rollout.logprobs)).abs().max()))
    return worst


def flat(groups: list[list[Rollout]]) -> list[Rollout]:
    return [rollout for group in groups for rollout in group]


def records(groups: list[list[Rollout]]) -> list[list[tuple]]:
    """What was sampled, by prompt and sample: prompt, completion, how it ended."""
    return [[(r.prompt_ids, r.completion_ids, r.finish_reason) for r in group] for group in groups]


def pids(pool) -> list[int]:
    """Processes of a pool's engines."""
    return [engine["pid"] for engine in pool.stats()]


def restarts(pool) -> int:
    """Engines of a pool that were replaced."""
    return sum(engine["restarts"] for engine in pool.stats())


PROMPTS, LENGTH, GROUP = prompts(64), 60, 4
"""What `undisturbed` samples: prompts, new tokens at most, rollouts a prompt."""
