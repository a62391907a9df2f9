"""GPG (arXiv 2504.02546): the plain policy gradient with a group's mean as baseline."""

from __future__ import annotations

from typing import Literal

from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec


class GpgStage(OnlineStage):
    """GPG: the plain policy gradient with a group's mean as baseline, rescaled for groups that teach nothing."""

    type: Literal["gpg"]

    @property
    def weighs_by_ratio(self) -> bool:
        return False

    @property
    def uses_ratio(self) -> bool:
        return False


def label(block: Block) -> str:
    return "GPG"


SPEC = MethodSpec(
    type="gpg",
    stage=GpgStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.gpg:GPGTrainer",
    needs=frozenset({"engine"}),
    report=MethodReport(
        label=label,
        learns_from="rollouts",
        glossary={"gpg/alpha": "groups over groups that teach something, by which GPG's advantages are multiplied"},
    ),
)
