"""Where the runners of stages are; they are looked up when a run starts."""

from __future__ import annotations

from ixt_rl.methods.spec import MethodSpec

ONLINE = "ixt_rl.run.stages.online:run"
DOCUMENTS = "ixt_rl.run.stages.documents:run"

_TRAINERS = {ONLINE: "ixt_rl.trainers.online:OnlineTrainer"}


def needed_trainer(spec: MethodSpec) -> str:
    """`module:Class` that a trainer must be, or derive from, so that the method's runner can train with it."""
    return _TRAINERS.get(spec.runner, str(spec.trainer))
