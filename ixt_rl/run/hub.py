"""Whether a run needs the hub: only its model and data may come from there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from ixt_rl.blocks.checks import on_this_machine
from ixt_rl.blocks.data import FileDataBlock, PrefixDataBlock
from ixt_rl.blocks.documents import SourceBlock
from ixt_rl.blocks.model import ModelBlock
from ixt_rl.blocks.rows import FileRowsBlock
from ixt_rl.config.schema import RunConfig


def asks_hub(config: RunConfig) -> bool:
    """Whether the model, or data of any stage or evaluation, is no file on this machine."""
    return not all(on_this_machine(path) for path in _named(config))


def _named(value: Any) -> Iterator[str]:
    """Paths and hub ids of models and data, wherever they stand in a section."""
    if isinstance(value, list):
        for entry in value:
            yield from _named(entry)
    elif isinstance(value, BaseModel):
        if (
            isinstance(value, ModelBlock | FileDataBlock | PrefixDataBlock | SourceBlock | FileRowsBlock)
            and value.path is not None
        ):
            yield from [value.path] if isinstance(value.path, str) else value.path
        for name in type(value).model_fields:
            yield from _named(getattr(value, name))
