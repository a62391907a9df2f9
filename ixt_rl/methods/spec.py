"""What a method says of itself: its keys, its trainer, how keys become options, what a report shows of it.

Upper rooms are named as text (`package.module:NAME`) and looked up when a run needs them, so that reading a run file
imports neither torch nor a trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ixt_rl.methods.stage import Stage

StageClass = type[Stage]

Block = Mapping[str, Any]
"""A stage of config.yaml as plain values; of an old run, keys may be missing."""

Seen = Literal["rollouts", "documents", "continuations", "nothing"]
"""What a stage learns from, as far as a report tells stages apart."""

Role = Literal["arm", "base", "measured", "rows"]
"""What a stage is in a run: an arm that is compared, the base that arms start from, a measurement, a maker of rows."""


@dataclass(frozen=True)
class Panel:
    """A curve of a method's own in the report.

    Args:
        title: what it shows; a title with "share" gets an axis from 0 to 1.
        lines: (metric of the training rows, dash as matplotlib writes it, name in the legend or "").
        reference: a value to draw a dotted line at.
    """

    title: str
    lines: tuple[tuple[str, str, str], ...]
    reference: float | None = None


def unnamed(block: Block) -> str | None:
    """No label of the method's own: a report calls the stage by its name."""
    return None


@dataclass(frozen=True)
class MethodReport:
    """What a report shows of a method; data alone.

    Args:
        label: a stage's block in config.yaml -> its short name, such as `InTRO n=5`; None where the block does not say.
        learns_from: which of the report's tables and figures a stage belongs to.
        role: what it is among the run's stages.
        title: of the figure with the method's own panels.
        caption: a sentence under it.
        panels: curves that no other method has.
        glossary: metric -> what it means.
    """

    label: Callable[[Block], str | None] = unnamed
    learns_from: Seen = "nothing"
    role: Role = "arm"
    title: str = ""
    caption: str = ""
    panels: tuple[Panel, ...] = ()
    glossary: Mapping[str, str] = field(default_factory=dict)


def no_options(stage: Any) -> dict[str, Any]:
    """A method without options of its own."""
    return {}


def always(read: Callable[[str], Any]) -> bool:
    """Whatever else the stage says."""
    return True


@dataclass(frozen=True)
class MethodSpec:
    """One kind of stage.

    Args:
        type: what a run file writes.
        stage: its keys, bounds and rules; its docstring is the method's help.
        runner: `module:function` (see `ixt_rl.run.stages.context.StageRunner`).
        trainer: `module:Class`; its `config_class` takes the options.
        options: stage -> the method's own options of its trainer, by name.
        needs: what it needs beside a model: "engine" (it samples from a rollout engine).
        seeded: run once for each of the run's seeds; a stage after it is, too.
        shared: its model is kept beside all runs, which share it.
        makes_model: false for a stage that leaves the model as it was.
        makes_rows: it makes rows of rows, which later stages read by its name; no model leads to it or from it.
        precondition: `module:function` of (stage, its folder), asked whenever a run passes the stage, also where it is
            reused; raises PreconditionError where the run should not go on.
        block: key of the method's own block in the stage, "" where it has none. Another method's block may stand in a
            stage, unread, so that `stages.x.type=grpo` on the command line still works.
        takes: of two kinds with one `type`, which a stage is; reads a key of the stage.
        report: what a report shows.
        like: for `type: python`, the method whose keys, block and runner it takes.
    """

    type: str
    stage: StageClass
    runner: str
    trainer: str | None = None
    options: Callable[[Any], dict[str, Any]] = no_options
    needs: frozenset[str] = frozenset()
    seeded: bool = True
    shared: bool = False
    makes_model: bool = True
    makes_rows: bool = False
    precondition: str | None = None
    block: str = ""
    takes: Callable[[Callable[[str], Any]], bool] = always
    report: MethodReport = MethodReport()
    like: MethodSpec | None = None
