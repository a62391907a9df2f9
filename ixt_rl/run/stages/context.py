"""What the runner of a stage is given beside its block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.blocks.launch import LaunchBlock
from ixt_rl.blocks.model import ModelBlock, SelfChecksBlock
from ixt_rl.run.console import RunConsole
from ixt_rl.run.folder import StageFolder
from ixt_rl.run.ranks.team import Ranks
from ixt_rl.run.stages.engines import Engines


@dataclass(frozen=True)
class StageRun:
    """One run of a stage: with a seed, from a model, into a folder.

    Args:
        seed: of the run; None for a stage before anything that draws by it.
        origin: folder or hub id of the model that it starts from.
        model: the run's `model` block: dtype, attention.
        engine: the run's `engine` block: what samples.
        launch: the run's `launch` block; `ranks` is how many processes there are.
        self_checks: what is compared before the first update.
        engines: engines outside the trainer's model, shared by the run's stages.
        folder: where files go.
        console: what the terminal shows.
        ranks: the processes of the run, of which this is one.
    """

    seed: int | None
    origin: str
    model: ModelBlock
    engine: EngineBlock
    launch: LaunchBlock
    self_checks: SelfChecksBlock
    engines: Engines
    folder: StageFolder
    console: RunConsole
    ranks: Ranks


class StageRunner(Protocol):
    """What `MethodSpec.runner` names: runs a stage and writes its model (where it makes one), rows and samples.

    Args:
        stage: its block, of the class that the method's spec names.
        at: everything else.
    """

    def __call__(self, stage: Any, at: StageRun) -> None: ...
