"""Rows that one stage of a run makes and a later one reads. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ixt_rl.blocks.rows import blocks_with_rows
from ixt_rl.config.problems import Refused, keys_of
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.methods.registry import spec_of

if TYPE_CHECKING:
    from ixt_rl.methods.registry import AnyStage


def refused_by_rows_of_stages(stage: AnyStage, earlier: Sequence[AnyStage]) -> Iterator[Refused]:
    """Rows, or a model, that no earlier stage makes, by their keys below the stage: a `from` that names none that makes
    rows, an `init` that names one that makes them and no model."""
    makers = [other.name for other in earlier if spec_of(other).makes_rows]
    for where, block in blocks_with_rows(stage):
        name = block.from_
        if name is not None and name not in makers:
            made = next((other for other in earlier if other.name == name), None)
            yield (
                keys_of(where),
                ConfigError(
                    f"stage {stage.name!r} has {where}: {name!r}",
                    reason=f"that is a stage of type {made.type}, which makes no rows"
                    if made is not None
                    else "it must name an earlier annotate or rewrite stage: " + (", ".join(makers) or "there is none"),
                    remedy=did_you_mean(name, makers) + "name such a stage, or give a path",
                ),
            )
    if stage.init in makers:
        yield (
            ("init",),
            ConfigError(
                f"stage {stage.name!r} has init: {stage.init!r}",
                reason="that stage makes rows and no model",
                remedy="name a stage that trains, or leave init out: rows are named where data are, by `from`",
            ),
        )


def rows_taken(stage: AnyStage, named: Mapping[str, AnyStage]) -> list[AnyStage]:
    """The stages whose rows a stage reads, those behind them included: what they read themselves."""
    found: list[AnyStage] = []
    for _, block in blocks_with_rows(stage):
        maker = named[str(block.from_)]
        found += [one for one in (maker, *rows_taken(maker, named)) if one not in found]
    return found
