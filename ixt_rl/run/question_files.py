"""Files of what judges and rewriters are asked, read before the first stage of a run begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from ixt_rl.blocks.judges import JudgeBlock, RewriterBlock
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging.candidates import load_axes
from ixt_rl.judging.rubric import load_rubric
from ixt_rl.methods.registry import AnyStage
from ixt_rl.methods.rewrite import RewriteStage
from ixt_rl.rewriting.prompt import load_rewrite


def check_question_files(stages: Iterable[AnyStage]) -> None:
    """Refuses rubrics and prompts that are none, of all stages before the first one runs.

    Raises:
        ConfigError: names the stage, the file, and what is wrong with it.
    """
    for stage in stages:
        try:
            for block in _blocks(stage):
                _read(block)
        except (DataError, ConfigError) as error:
            raise ConfigError(f"stages.{stage.name}: {error.what}", reason=error.reason, remedy=error.remedy) from None


def _read(block: BaseModel) -> None:
    rubric = getattr(block, "rubric", None)
    if isinstance(rubric, str):
        load_rubric(rubric)
    if isinstance(block, JudgeBlock):
        load_axes(block.axes)
    if isinstance(block, RewriterBlock | RewriteStage):
        load_rewrite(block.prompt)


def _blocks(value: Any) -> Iterator[BaseModel]:
    """A block and all blocks in it."""
    if isinstance(value, list):
        for entry in value:
            yield from _blocks(entry)
    elif isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from _blocks(getattr(value, name))
