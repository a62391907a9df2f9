"""Prompts as vLLM's requests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ixt_rl.errors import ConfigError
from ixt_rl.rollout.engine import MAX_SEED, check_prompt, check_schema, check_seeds, check_stop
from ixt_rl.types import SamplingParams

MAX_TEMPERATURE = 2.0  # vLLM refuses more


@dataclass(frozen=True)
class VllmRequest:
    """One prompt to sample `n` times: a group.

    Args:
        key: the caller's name of the group; unique among those unfinished.
        prompt_ids: the prompt.
        sampling: how to sample; its own seed is not looked at.
        n: completions.
        seed: of the first sample, below 2^62; the k-th has `seed + k`.
    """

    key: int
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    n: int
    seed: int

    @property
    def tokens(self) -> int:
        """Tokens this can take: the prompt once, and `n` completions of full length."""
        return len(self.prompt_ids) + self.n * self.sampling.max_new_tokens


def make_requests(
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParams,
    n: int,
    max_model_len: int,
    vocab_size: int,
    *,
    seeds: Sequence[int] | None = None,
    constrains: bool = False,
) -> list[VllmRequest]:
    """One request a prompt, keyed by its index and seeded by `seeds[index]`, or else by (sampling.seed, index):
    the same wherever and whenever it runs.

    Raises:
        DataError: a prompt that is empty, has an id outside the vocabulary, or leaves no room for a completion.
        ConfigError: sampling parameters or seeds that vLLM does not take, or a schema or stop strings where it is not
            `constrains`.
    """
    if not 0 <= sampling.temperature <= MAX_TEMPERATURE:
        raise ConfigError(
            f"temperature={sampling.temperature}",
            reason=f"vLLM samples at temperatures from 0 to {MAX_TEMPERATURE:g}",
            remedy="choose one in that range, or use the transformers engine",
        )
    if n < 1 or sampling.max_new_tokens < 1:
        raise ConfigError(
            f"n={n}, max_new_tokens={sampling.max_new_tokens}",
            reason="there is nothing to sample",
            remedy="ask for at least one completion of at least one token",
        )
    check_seeds(seeds, len(prompts))
    remedy = "give VLLMEngine or RayPool `tokenizer`, the folder of the model's own"
    check_schema(sampling, constrains, remedy)
    check_stop(sampling, constrains, remedy)
    if seeds is None:
        seed = int(torch.randint(MAX_SEED, ())) if sampling.seed is None else sampling.seed
        seeds = [_prompt_seed(seed, index) for index in range(len(prompts))]
    requests = []
    for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        ids = tuple(map(int, prompt))
        check_prompt(f"prompt {index}", ids, sampling.max_new_tokens, max_model_len, vocab_size)
        requests.append(VllmRequest(index, ids, sampling, n, seed))
    return requests


def _prompt_seed(seed: int, index: int) -> int:
    digest = hashlib.blake2b(f"{seed},{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2  # leaves room for the samples' own increments
