"""Whether an evaluation would measure anything."""

from __future__ import annotations

from typing import Any

from ixt_rl.blocks.data import PrefixDataBlock, problem_files
from ixt_rl.errors import ConfigError


def check_measurable(data: Any, where: str) -> None:
    """Raises ConfigError where an evaluation apart from training would measure nothing, because nobody judges it."""
    if isinstance(data, PrefixDataBlock):
        raise ConfigError(
            f"prefixes of {data.called} as {where}",
            reason="how a text goes on is measured by the judge of a reward, and there is none here",
            remedy="measure it by the `evaluation` of a stage with a {type: judge, ...} reward, or name problems",
        )


def check_held_out(data: Any) -> None:
    """Raises ConfigError where an evaluation beside training would measure nothing, because no rows are set aside."""
    blocks = [data] if isinstance(data, PrefixDataBlock) else problem_files(data)
    if blocks and not any(block.eval_rows for block in blocks):
        raise ConfigError(
            "an evaluation with data.eval_rows=0" + (" in every source" if len(blocks) > 1 else ""),
            reason="no rows are set aside, so that nothing would be measured",
            remedy="set data.eval_rows to how many rows are held out, or evaluation: null",
        )
