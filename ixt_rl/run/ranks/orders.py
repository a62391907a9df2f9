"""What the first rank tells the others to do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Begin:
    """The run begins.

    Args:
        dtype: of the model, which `auto` became.
        threads: of torch, on every rank.
    """

    dtype: str
    threads: int


@dataclass(frozen=True)
class TakePart:
    """A stage that all ranks run.

    Args:
        stage: its name.
        seed: of the run; None for a stage before anything that draws by it.
        origin: folder or hub id of the model that it starts from.
        folder: where the first rank writes.
        fingerprint: of the stage.
        checkpoint: to go on from; None: it starts.
    """

    stage: str
    seed: int | None
    origin: str
    folder: Path
    fingerprint: str
    checkpoint: Path | None


@dataclass(frozen=True)
class Sample:
    """Part of an engine's call, which follows as a broadcast."""


@dataclass(frozen=True)
class Take:
    """Something that the first rank has found or measured; it follows as a broadcast."""


@dataclass(frozen=True)
class GiveUp:
    """The first rank met an error, which it reports."""


@dataclass(frozen=True)
class End:
    """The run is over."""


Order = Begin | TakePart | Sample | Take | GiveUp | End
