"""The prompts of a stage whose problems come from several sources."""

from __future__ import annotations

from typing import Any

import numpy as np

from ixt_rl.blocks.data import ProblemMixtureBlock
from ixt_rl.blocks.rows import source_names
from ixt_rl.data.mixture import drawn
from ixt_rl.errors import DataError
from ixt_rl.methods.online import OnlineStage


def prompts_in_proportion(
    stage: OnlineStage, rows: list[dict[str, Any]], seed: int
) -> tuple[np.ndarray | None, list[str]]:
    """(places in `rows` of the prompts of all updates, in their order; what to say of it); (None, []) of one source.

    Args:
        stage: with its number of updates.
        rows: those of each source side by side, in the sources' order; `source` is the name of theirs.
        seed: of the run.

    Raises:
        DataError: a source of which no row is left.
    """
    if not isinstance(stage.data, ProblemMixtureBlock):
        return None, []
    assert stage.steps is not None  # `lasting` has counted epochs
    names, weights = source_names(stage.data.sources), [source.weight for source in stage.data.sources]
    sizes = [sum(row["source"] == name for row in rows) for name in names]
    for name, size in zip(names, sizes, strict=True):
        if not size:
            raise DataError(
                f"source {name} of stage {stage.name}: no problem is left",
                reason="all of its rows were left out, so that its share of a batch cannot be filled",
                remedy="leave the source out, or less of its rows (sampling.on_long, difficulty)",
            )
    count = stage.rollouts_until(stage.steps) // stage.group_size
    order = drawn(sizes, weights, count * (1 + stage.max_rounds), seed)  # those that are drawn again follow
    taken = np.bincount(np.repeat(np.arange(len(names)), sizes)[order[:count]], minlength=len(names))
    said = [
        f"{name} {weight / sum(weights):.0%} of the prompts, {count / size:.2g} passes over {size} problems"
        for name, weight, count, size in zip(names, weights, taken, sizes, strict=True)
    ]
    return order, [f"sources: {'; '.join(said)}"]
