"""What a rank does that another one leads: the stages it is told to take part in, and nothing to the run's folder."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import set_num_threads

from ixt_rl.blocks.rows import with_folders
from ixt_rl.config.schema import RunConfig
from ixt_rl.import_path import load
from ixt_rl.methods.registry import spec_of
from ixt_rl.offline import offline
from ixt_rl.quiet import quiet_transformers
from ixt_rl.run.console import RunConsole
from ixt_rl.run.folder import RunFolder, StageFolder
from ixt_rl.run.hub import asks_hub
from ixt_rl.run.precision import with_dtype
from ixt_rl.run.ranks.orders import Begin, End, TakePart
from ixt_rl.run.ranks.team import Ranks
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.engines import Engines
from ixt_rl.run.strategy import forget_strategy


class OtherRanksFolder(StageFolder):
    """A stage's folder on ranks that do not lead: model and checkpoints are the stage's, whatever else is written goes
    into a folder of this rank's own.

    Args:
        order: which stage.
        type: of the stage.
        own: the folder of this rank.
    """

    def __init__(self, order: TakePart, type: str, own: Path):
        super().__init__(own, order.stage, type, order.seed or 0, order.fingerprint)
        self.whole, self._checkpoint = order.folder, order.checkpoint

    @property
    def model(self) -> Path:
        return self.whole / "model"

    @property
    def checkpoints(self) -> Path:
        return self.whole / "checkpoints"

    @property
    def best(self) -> Path:
        return self.whole / super().best.name

    def last_checkpoint(self, say: Callable[[str], object] = str) -> Path | None:
        """As rank 0 has found it."""
        return self._checkpoint


def follow(config: RunConfig, ranks: Ranks) -> None:
    """Takes part in the stages of the run that rank 0 leads, until it is over.

    Args:
        config: the same on all ranks.

    Raises:
        RankFailed: rank 0 has met an error, or ended.
    """
    order = ranks.hear()
    if isinstance(order, End):
        return
    assert isinstance(order, Begin), order
    config = with_dtype(config, order.dtype)
    set_num_threads(order.threads)
    with offline(not asks_hub(config)), _quiet():
        while isinstance(order := ranks.hear(), TakePart):
            with tempfile.TemporaryDirectory(prefix="ixt-rl-rank-") as own:
                _take_part(config, order, Path(own), ranks)
    assert isinstance(order, End), order


def _take_part(config: RunConfig, order: TakePart, own: Path, ranks: Ranks) -> None:
    stage = with_folders(config.named[order.stage], RunFolder(Path(config.output_dir), config.name).rows_of(config))
    spec = spec_of(stage)
    at = StageRun(
        order.seed,
        order.origin,
        config.model,
        config.engine,
        config.launch,
        config.self_checks,
        Engines(config.engine, config.model.dtype),
        OtherRanksFolder(order, stage.type, own),
        RunConsole(quiet=True),
        ranks,
    )
    forget_strategy()
    with ranks.named():
        load(spec.runner)(stage, at)
        ranks.together()


@contextmanager
def _quiet() -> Iterator[None]:
    """What libraries print is rank 0's to show; what this one warns of is of the rank's own rows."""
    import datasets

    quiet_transformers()
    datasets.disable_progress_bars()
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"ixt_rl\.")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
