"""The first row of problems in files, looked at before anything loads. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ixt_rl.blocks import checks
from ixt_rl.blocks.data import problem_files
from ixt_rl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ixt_rl.methods.registry import AnyStage


def check_first_rows(stage: AnyStage) -> None:
    """Refuses names of fields that the files of a stage's problems do not have; asks nothing of the hub.

    Raises:
        ConfigError: the first row of a file on this machine lacks a field that the stage names, or cannot be read.
    """
    difficulty = getattr(stage, "difficulty", None)
    rate = [difficulty.field] if difficulty is not None and difficulty.field is not None else []
    evaluation = getattr(stage, "evaluation", None)
    for where, data, further in (
        ("data", getattr(stage, "data", None), rate),
        ("evaluation.data", getattr(evaluation, "data", None), []),
    ):
        for block in problem_files(data):
            if block.path is None or not checks.on_this_machine(block.path):
                continue
            from ixt_rl.data.questions import check_first_row  # numpy, which most run files do not need here

            try:
                check_first_row(block, further)
            except DataError as error:
                raise ConfigError(f"{where}: {error.what}", reason=error.reason, remedy=error.remedy) from None
