"""What a model that is spread over ranks cannot do, by strategy, refused before anything loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ixt_rl.blocks.launch import LaunchBlock
from ixt_rl.config.problems import Refused
from ixt_rl.errors import ConfigError
from ixt_rl.methods.rlp import RlpStage

SHARDED = ("zero3", "fsdp2")
"""Strategies under which no rank has all weights."""


def refused_by_strategy(launch: LaunchBlock, stages: Sequence[Any]) -> Iterator[Refused]:
    """What a stage asks of weights that its ranks do not have whole."""
    if launch.ranks == 1:
        return
    for index, stage in enumerate(stages):
        for key, value, strategies, reason, remedy in _refused(stage):
            if launch.strategy in strategies:
                error = ConfigError(
                    f"{key}{value} of stage {stage.name} with launch.strategy: {launch.strategy}",
                    reason=reason,
                    remedy=f"{remedy}, or launch.strategy: {'ddp' if 'zero2' in strategies else 'zero2 or ddp'}",
                )
                yield ("stages", index, *key.split(".")), error


def _refused(stage: Any) -> Iterator[tuple[str, str, Sequence[str], str, str]]:
    """(key, its value, strategies that cannot have it, reason, remedy) of what a stage asks for."""
    if getattr(stage, "keep_best", None) is not None:
        yield (
            "keep_best", "", ("zero2", *SHARDED),
            "the best model is read back into the trainer, past DeepSpeed's and FSDP's own copies of its weights",
            "leave keep_best out (the last model is handed on)",
        )  # fmt: skip
    if getattr(getattr(stage, "optim", None), "name", None) == "adafactor":
        yield (
            "optim.name", ": adafactor", ("zero2", *SHARDED),
            "its sums are over rows and columns of whole weights, of which a rank updates a part",
            "set optim.name: adamw, or another that goes number by number",
        )  # fmt: skip
    quantized = getattr(getattr(stage, "lora", None), "quantize", None)
    if quantized:
        yield (
            "lora.quantize", f": {quantized}", SHARDED,
            "weights in 4 bits are whole on every rank: their scales are no parameters that could be spread",
            "leave quantize out",
        )  # fmt: skip
    if getattr(stage, "reference", None) == "synced":
        yield (
            "reference", ": synced", SHARDED,
            "a checkpoint holds the policy, and not the pieces of a reference that has moved",
            "set reference: frozen",
        )  # fmt: skip
    block = getattr(stage, "block", None)
    source = getattr(getattr(stage.own if block else None, "posterior", None), "source", None)
    if source in ("ema", "lagged"):
        yield (
            f"{block}.posterior.source", f": {source}", ("zero3",),
            "it would have to gather every parameter when it moves",
            f"set {block}.posterior.source: frozen or live",
        )  # fmt: skip
    if isinstance(stage, RlpStage):
        yield (
            "type", ": rlp", ("zero3",),
            "its average of the weights would have to gather every parameter when it moves",
            "use another method",
        )  # fmt: skip
