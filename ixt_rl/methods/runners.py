"""Where the runners of stages are; they are looked up when a run starts."""

from __future__ import annotations

from typing import Any

from ixt_rl.methods.spec import MethodSpec

ONLINE = "ixt_rl.run.stages.online:run"
DOCUMENTS = "ixt_rl.run.stages.documents:run"

_OPENRLHF = {ONLINE: "ixt_rl.run.stages.openrlhf:run", DOCUMENTS: "ixt_rl.run.stages.openrlhf_documents:run"}
"""By the runner whose stages it can take."""

_TRAINERS = {ONLINE: "ixt_rl.trainers.online:OnlineTrainer"}
_OF_TRL = ("ixt_rl.trainers.sdpo:SDPOTrainer", "ixt_rl.trainers.sdft:SDFTTrainer")
"""Those that the online runner trains with, too, and that are on other classes of TRL's."""


def needed_trainer(spec: MethodSpec) -> str:
    """`module:Class` that a trainer must be, or derive from, so that the method's runner can train with it."""
    trainer = str(spec.trainer)
    return trainer if trainer in _OF_TRL else _TRAINERS.get(spec.runner, trainer)


def runner_of(spec: MethodSpec, stage: Any) -> str:
    """`module:function` that runs a stage: the method's, or that of the engine which the stage names."""
    return _OPENRLHF[spec.runner] if getattr(stage, "backend", None) == "openrlhf" else spec.runner
