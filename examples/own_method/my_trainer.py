"""InTRO with a factor of its own, and an option for it: `run.yaml` beside this file trains with it.

The factor is the ratio of posterior and policy to a power, (q / p)^power, so that 1 is InTRO and 0 weighs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ixt_rl.errors import ConfigError
from ixt_rl.trainers import InTROConfig, InTROTrainer, Where


@dataclass
class SoftInTROConfig(InTROConfig):
    """`InTROConfig`, and how much of the ratio counts.

    Args:
        power: of the ratio, from 0 to 1.
    """

    power: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.power <= 1:
            raise ConfigError(f"power={self.power}", reason="it is a share of the ratio", remedy="give 0 to 1")


class SoftInTRO(InTROTrainer):
    """InTRO whose factor is min((q / p)^power, clip)."""

    config_class: ClassVar[type] = SoftInTROConfig

    def factor(self, logp: Tensor, logq: Tensor, where: Where) -> Tensor:
        return ((logq - logp) * self.args.power).exp().clamp(max=self.args.spec.limit)
