"""Lengths of prompts and completions against a model's positions, before it loads. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ixt_rl.blocks.checks import folder_positions
from ixt_rl.blocks.data import PrefixDataBlock
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.config.problems import Refused, keys_of
from ixt_rl.errors import ConfigError

if TYPE_CHECKING:
    from ixt_rl.blocks.model import ModelBlock
    from ixt_rl.methods.registry import AnyStage


def model_positions(model: ModelBlock) -> int | None:
    """Positions of the run's model as far as they are known before it loads."""
    if model.new is not None:
        return model.new.max_positions
    return None if model.path is None else folder_positions(model.path)


def refused_by_positions(stage: AnyStage, positions: int) -> Iterator[Refused]:
    """Lengths of a stage that the model has no positions for, by their keys below the stage.

    Prompts of the greatest length that is let through must leave room for a completion. A limit at its default is not
    looked at: what it lets through is checked when the data is there.
    """
    found: dict[str, ConfigError] = {}  # the first of each key
    for where, name, prompt, completion_name, completion in _lengths(stage):
        if completion >= positions:
            key, value = f"{where}.{completion_name}", f"{where}.{completion_name}={completion}"
            reason = f"the model has {positions} positions: there is no room for a prompt"
            remedy = f"lower it below {positions}"
        elif prompt is not None and prompt + completion > positions:
            key, value = name, f"{name}={prompt} with {where}.{completion_name}={completion}"
            reason = f"the model has {positions} positions for a prompt and its completion"
            remedy = f"lower {name} to {positions - completion}, or {completion_name}"
        else:
            continue
        found.setdefault(key, ConfigError(f"stage {stage.name!r} has {value}", reason=reason, remedy=remedy))
    yield from ((keys_of(key), error) for key, error in found.items())


def _lengths(stage: AnyStage) -> Iterator[tuple[str, str, int | None, str, int]]:
    """(block, key of the longest prompt, that length or None, key of a completion's length, that length)."""
    sampling, data = getattr(stage, "sampling", None), getattr(stage, "data", None)
    if sampling is not None:
        limit = _said(sampling, "max_prompt_tokens", SamplingBlock)
        yield "sampling", "sampling.max_prompt_tokens", limit, "max_new_tokens", sampling.max_new_tokens
    evaluation = getattr(stage, "evaluation", None)
    answered = getattr(evaluation, "max_new_tokens", None) if getattr(stage, "measures_problems", True) else None
    if answered is not None:
        yield "evaluation", "", None, "max_new_tokens", answered
    for where, source in (("data", data), ("evaluation.data", getattr(evaluation, "data", None))):
        suffix = getattr(source, "suffix_tokens", None)
        if source is None or suffix is None:
            continue
        limit = _said(source, "max_prefix_tokens", type(source))
        if sampling is not None:
            yield "sampling", f"{where}.max_prefix_tokens", limit, "max_new_tokens", sampling.max_new_tokens
        if not isinstance(
            source, PrefixDataBlock
        ):  # there the suffix is an answer, and stands in no sequence of the policy
            yield where, f"{where}.max_prefix_tokens", limit, "suffix_tokens", suffix


def _said(block: Any, key: str, model: type[Any]) -> int | None:
    """The value of a key; None where it is the default, as a file with every default filled in has it too."""
    value = getattr(block, key)
    return None if value == model.model_fields[key].default else value
