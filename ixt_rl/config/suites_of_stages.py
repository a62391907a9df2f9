"""The suites that stages are measured on, looked up before anything loads. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ixt_rl.suites import load_preset, load_suite

if TYPE_CHECKING:
    from ixt_rl.methods.registry import AnyStage


def check_suites(stage: AnyStage) -> None:
    """Refuses names of suites and presets that there are not.

    Raises:
        ConfigError: such a name, or a file that is no suite or preset.
    """
    block = getattr(getattr(stage, "evaluation", None), "suites", None)
    if block is None:
        return
    for name in block.names:
        load_suite(name)
    load_preset(block.preset)
