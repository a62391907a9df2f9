"""What every rollout engine does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ixt_rl.errors import ConfigError, DataError
from ixt_rl.types import Rollout, SamplingParams

MAX_SEED = 1 << 62
"""Seeds of single prompts lie below; what is left of 64 bits is room for the seeds of their samples."""


@runtime_checkable
class RolloutEngine(Protocol):
    """Samples completions. Ids in, ids out: text never passes through an engine.

    Engines that can keep completions to `SamplingParams.json_schema` have an attribute `constrains` that is True. Those
    that are given a tokenizer end completions at `SamplingParams.stop`; without one they refuse it.
    """

    policy_version: int

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Rollout]]:
        """`n` completions for each prompt, in the prompts' order.

        Args:
            prompts: token ids.
            sampling: how to sample.
            n: completions a prompt.
            seeds: one a prompt, from 0 to 2^62 - 1, in place of `sampling.seed`; the k-th sample has `seed + k`. What a
                prompt gets then depends on its own seed alone, and not on the prompts beside it, up to the rounding of
                batched arithmetic.
        """
        ...

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Moves the engine to new weights; rollouts from now on carry `version`."""
        ...

    def close(self) -> None:
        """Releases what the engine holds; it cannot be used afterwards."""
        ...


class EngineOfRankZero:
    """Stands, on the other ranks, for an engine outside the trainer's model: rank 0 has it, and calls it for all."""

    policy_version = 0

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Not here.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("rank 0 has the engine, and calls it for all ranks")

    submit = update_weights = generate

    def close(self) -> None:
        """Nothing to end."""


def check_prompt(name: str, ids: Sequence[int], max_new_tokens: int, limit: int | None, vocab_size: int) -> None:
    """Refuses a prompt that cannot be continued.

    Args:
        name: what messages call it.
        ids: its tokens.
        max_new_tokens: longest completion.
        limit: most tokens of a prompt and its completion; None: the model has no limit.
        vocab_size: of the model.

    Raises:
        DataError: it is empty, leaves no room for a completion, or has an id outside the vocabulary.
    """
    if not ids:
        raise DataError(f"{name} has no tokens", reason="there is nothing to continue", remedy="drop the row")
    if limit is not None and len(ids) + max_new_tokens > limit:
        raise DataError(
            f"{name} has {len(ids)} tokens, with max_new_tokens={max_new_tokens}",
            reason=f"the engine's limit is {limit} tokens for a prompt and its completion",
            remedy="drop or truncate long prompts, shorten completions, or (vLLM) raise max_model_len",
        )
    if min(ids) < 0 or max(ids) >= vocab_size:
        bad = next(token for token in ids if not 0 <= token < vocab_size)
        raise DataError(
            f"{name} has the id {bad}",
            reason=f"the model's ids are 0 to {vocab_size - 1}",
            remedy="use the model's own tokenizer",
        )


def sample_seeds(seeds: Sequence[int] | None, n: int) -> list[int] | None:
    """One seed a sample, of those of the prompts: the k-th sample of a prompt has `seed + k`."""
    return None if seeds is None else [seed + k for seed in seeds for k in range(n)]


def check_seeds(seeds: Sequence[int] | None, prompts: int) -> None:
    """Refuses seeds that are not one a prompt, or that no generator takes.

    Raises:
        ConfigError: what `RolloutEngine.generate` says of `seeds` does not hold.
    """
    if seeds is None:
        return
    bad = next((seed for seed in seeds if not 0 <= seed < MAX_SEED), None)
    if len(seeds) != prompts or bad is not None:
        raise ConfigError(
            f"{len(seeds)} seeds for {prompts} prompts" if bad is None else f"seed {bad}",
            reason="every prompt has a seed of its own" if bad is None else "seeds go from 0 to 2^62 - 1",
            remedy="give one seed in that range for each prompt, or none",
        )


def check_schema(sampling: SamplingParams, constrains: bool, remedy: str) -> None:
    """Refuses a schema that is no JSON object, or that the engine would not keep to.

    Args:
        sampling: what was asked for.
        constrains: whether the engine can keep to a schema.
        remedy: what to do if it cannot.

    Raises:
        ConfigError: there is a schema, and it cannot be kept to.
    """
    if sampling.json_schema is None:
        return
    shown = sampling.json_schema[:80]
    if not constrains:
        raise ConfigError(f"json_schema={shown!r}", reason="this engine samples without a grammar", remedy=remedy)
    try:
        schema = json.loads(sampling.json_schema)
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise ConfigError(
            f"json_schema={shown!r}", reason="it is not the text of a JSON object", remedy="give json.dumps(schema)"
        )


def check_stop(sampling: SamplingParams, reads: bool, remedy: str) -> None:
    """Refuses stop strings where nobody can read them.

    Args:
        sampling: what was asked for.
        reads: whether the engine has a tokenizer.
        remedy: what to do if it has none.

    Raises:
        ConfigError: there are stop strings, and no tokenizer.
    """
    if sampling.stop and not reads:
        raise ConfigError(
            f"stop={list(sampling.stop)!r}", reason="this engine has no tokenizer to read text with", remedy=remedy
        )
