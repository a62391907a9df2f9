"""Prefixes and suffixes: of worlds, of files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from ixt_rl.blocks.documents import FileCorpusBlock
from ixt_rl.blocks.strict import (
    Rows,
    Strict,
    Tokens,
)
from ixt_rl.errors import ConfigError


class WorldPassagesBlock(Strict):
    """Documents of a world, cut where the world says: a prefix, and how its author went on."""

    world: Literal["chain", "almanac"]
    passages: Rows = Field(4000, description="how many; they are read again when they end")


class SuffixCorpusBlock(FileCorpusBlock):
    """Documents of files, cut in token space: the last `suffix_tokens` tokens, or any in a row, are the suffix."""

    suffix_tokens: Tokens = 128
    min_prefix_tokens: Tokens = 1
    max_prefix_tokens: Tokens = Field(1920, description="longer prefixes lose their beginning")
    cut: Literal["end", "anywhere"] = Field(
        "end",
        exclude_if=lambda value: value == "end",
        description="the suffix is the document's end; or stands anywhere in it, at another place in every pass",
    )

    @model_validator(mode="after")
    def _no_conversations(self) -> SuffixCorpusBlock:
        for source in self.sources:
            if source.messages is not None:
                raise ConfigError(
                    f"messages={source.messages!r} in documents that are cut into prefix and suffix",
                    reason="a conversation is no one text",
                    remedy="name the column of a document with `text`, or train conversations with type: sft",
                )
        return self


def _tag(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", {})
    return "world" if "world" in keys else "files"


Passages = Annotated[
    Annotated[WorldPassagesBlock, Tag("world")] | Annotated[SuffixCorpusBlock, Tag("files")], Discriminator(_tag)
]
