"""What every stage has."""

from __future__ import annotations

from pydantic import Field

from ixt_rl.blocks.strict import (
    Name,
    Strict,
)

FROM_MODEL = "model"
"""`init` of a stage that starts from the run's `model` block, whatever stands before it."""


class Stage(Strict):
    """What every stage has."""

    name: Name
    init: Name | None = Field(
        None,
        description="the stage whose model this one takes, or `model` for that of the run's model block; "
        "default: the stage before",
    )
