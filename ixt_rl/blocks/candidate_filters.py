"""Which candidates of SIP may be judged: filters by name, with their thresholds, and functions of one's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from ixt_rl.blocks.python_name import check_names, check_python_name
from ixt_rl.blocks.strict import Share, Strict, Tokens
from ixt_rl.errors import ConfigError, did_you_mean

NGram = Annotated[int, Field(ge=1, le=1000, description="tokens of an n-gram")]


class EmptyFilterBlock(Strict):
    """Texts of nothing but white space."""

    type: Literal["empty"]


class TooShortFilterBlock(Strict):
    """Texts of fewer than `min_tokens` tokens, special ones not counted."""

    type: Literal["too_short"]
    min_tokens: Tokens = 8


class TruncatedFilterBlock(Strict):
    """Rollouts that were cut off at `max_new_tokens`."""

    type: Literal["truncated"]


class RepetitionFilterBlock(Strict):
    """Texts that repeat themselves: more than `max_share` of their n-grams were there before."""

    type: Literal["repetition"]
    ngram: NGram = 4
    max_share: Share = 0.3


class CopiedPrefixFilterBlock(Strict):
    """Texts that copy the prefix: more than `max_share` of their n-grams are in it."""

    type: Literal["copied_prefix"]
    ngram: NGram = 8
    max_share: Share = 0.3


_GIVEN = ("prefix", "original", "text", "source", "prefix_ids", "ids", "finish_reason")
"""What a function is called with, by name."""


def _check_filter(text: str, info: ValidationInfo) -> str:
    """As `check_python_name`; a function whose arguments are in plain sight takes what filters are called with."""
    text = check_python_name(text, info)
    check_names(text, info, _GIVEN, "(text, **_), which returns True where the candidate may be judged")
    return text


class PythonFilterBlock(Strict):
    """A function of one's own."""

    type: Literal["python"]
    path: Annotated[str, AfterValidator(_check_filter)] = Field(
        description="FILE.py:FUNCTION or package.module:FUNCTION; of prefix, text, source and more; True: may be judged"
    )


_Filter = Annotated[
    EmptyFilterBlock
    | TooShortFilterBlock
    | TruncatedFilterBlock
    | RepetitionFilterBlock
    | CopiedPrefixFilterBlock
    | PythonFilterBlock,
    Field(discriminator="type"),
]

BUILT_IN = ("empty", "too_short", "truncated", "repetition", "copied_prefix")
"""Filters by name."""


def _written_short(value: Any) -> Any:
    """`repetition` and `FILE.py:NAME` as the blocks they stand for."""
    if not isinstance(value, str):
        return value
    if ":" in value:
        return {"type": "python", "path": value}
    if value not in BUILT_IN:
        raise ConfigError(
            repr(value),
            reason="there is no filter of that name",
            remedy=f"{did_you_mean(value, [*BUILT_IN])}one of {', '.join(BUILT_IN)}, or FILE.py:FUNCTION",
        )
    return {"type": value}


FilterBlock = Annotated[_Filter, BeforeValidator(_written_short)]


def filter_name(block: Any) -> str:
    """What logs call a filter: its type, or the function's name."""
    return block.path.rpartition(":")[2] if isinstance(block, PythonFilterBlock) else block.type


def check_filters(filters: list[Any], sources: list[str]) -> None:
    """Refuses filters of one name, and such that have nothing to filter.

    Raises:
        ConfigError: they do not go together, or with the sources.
    """
    names = [filter_name(block) for block in filters]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"filters: {twice} twice",
            reason="logs call them by that name",
            remedy="leave one out, or rename a function",
        )
    if filters and sources == ["original"]:
        raise ConfigError(
            f"filters with sources: {sources}",
            reason="the document's own suffix is never filtered",
            remedy="leave filters out",
        )
