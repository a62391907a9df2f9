"""RAFT and RAFT++ (arXiv 2504.11343): next-token prediction on the kept rollouts."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from ixt_rl.blocks.keeping import KeepBlock, kept_by
from ixt_rl.blocks.strict import PositiveFloat
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.runners import ONLINE
from ixt_rl.methods.spec import Block, MethodReport, MethodSpec


class RaftBlock(KeepBlock):
    """RAFT: NLL on kept rationales; with `importance_ratio`, RAFT++ (arXiv 2504.11343)."""

    importance_ratio: bool = False
    epsilon: PositiveFloat = 0.2


class RaftStage(OnlineStage):
    """RAFT: next-token prediction on kept rationales; RAFT++ weighs them by a clipped ratio."""

    type: Literal["raft"]
    raft: RaftBlock = RaftBlock()
    block: ClassVar[str] = "raft"

    @property
    def weighs_by_ratio(self) -> bool:
        return self.raft.importance_ratio

    @property
    def uses_ratio(self) -> bool:
        return self.raft.importance_ratio


def options(stage: RaftStage) -> dict[str, Any]:
    """`RAFTConfig`'s."""
    found = {"importance_ratio": stage.raft.importance_ratio, **kept_by(stage.rewards, stage.raft)}
    return found | ({"epsilon": stage.raft.epsilon} if stage.raft.importance_ratio else {})


def label(block: Block) -> str:
    return "RAFT++" if (block.get("raft") or {}).get("importance_ratio") else "RAFT"


SPEC = MethodSpec(
    type="raft",
    stage=RaftStage,
    runner=ONLINE,
    trainer="ixt_rl.trainers.raft:RAFTTrainer",
    options=options,
    needs=frozenset({"engine"}),
    block="raft",
    report=MethodReport(label=label, learns_from="rollouts"),
)
