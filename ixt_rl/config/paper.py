"""The table of a paper that a run file stands for: what it reports, on what. Changes nothing of the run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ixt_rl.blocks.strict import Finite, Name, NonNegativeFloat, PositiveFloat, Strict


class PaperRowBlock(Strict):
    """A row of the table.

    `model` is the one that the row is of, where the table has several; the run's own is `model.path`.
    """

    stage: Name
    method: str = Field(description="as the paper calls it")
    model: str | None = None
    expected: Annotated[dict[str, Finite], Field(min_length=1)] = Field(
        description="what the paper reports, by the names of its columns"
    )


class PaperMachineBlock(Strict):
    """A machine on which the run fits by `ixt-rl plan`, and what it says of it."""

    model: str | None = Field(None, description="default: the run's model.path")
    gpus: str = Field(description="as --gpus")
    strategy: str = Field("ddp", description="as --strategy")
    overrides: list[str] = Field([], description="of the run file, for this model on this machine")
    gib: PositiveFloat = Field(description="of a training device at most, over all stages")
    gpu_hours: NonNegativeFloat = Field(description="of all stages, a seed")


class PaperBlock(Strict):
    """A table of a paper."""

    arxiv: Annotated[str, Field(pattern=r"^\d{4}\.\d{5}$")]
    table: str
    rows: Annotated[list[PaperRowBlock], Field(min_length=1)]
    average_of: list[str] = Field(
        [], description="suites whose mean a row's `average` is, as `ixt-rl suites` calls them; empty: not said"
    )
    departures: list[str] = Field([], description="what is otherwise than in the paper, or not stated there")
    machines: list[PaperMachineBlock] = []
