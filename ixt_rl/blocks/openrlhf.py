"""A stage that OpenRLHF trains: where its Python is, how many processes it has, and flags of its own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from ixt_rl.blocks.engine import CorrectionBlock
from ixt_rl.blocks.openrlhf_flags import FREE, REFUSED, SET
from ixt_rl.blocks.strict import Strict, Workers
from ixt_rl.errors import ConfigError, did_you_mean, show

Flag = bool | int | float | str

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _flags(value: dict[str, Flag]) -> dict[str, Flag]:
    for name, given in value.items():
        what = f"flags: {name}={show(given)}"
        if name in SET:
            reason, remedy = f"{SET[name]} sets it", "leave it out of flags"
            raise ConfigError(what, reason=reason, remedy=remedy)
        if name in REFUSED:
            raise ConfigError(what, reason=REFUSED[name], remedy="leave it out")
        if name not in FREE:
            raise ConfigError(
                what,
                reason="train_ppo_ray of OpenRLHF 0.11 has no such flag that may be set here",
                remedy=did_you_mean(name, list(FREE)) + f"set some of: {', '.join(FREE)}",
            )
        wanted = FREE[name]
        if type(given) is not wanted and not (wanted is float and type(given) is int):
            raise ConfigError(
                what,
                reason="train_ppo_ray would not take that value",
                remedy=f"write {_KINDS[wanted]}",
            )
    return value


class OpenrlhfBlock(Strict):
    """How OpenRLHF runs a stage (`backend: openrlhf`): processes, correction, flags."""

    python: str | None = Field(
        None,
        description="the Python of its environment; default: IXT_RL_OPENRLHF_PYTHON, else .openrlhf-env/bin/python, "
        "else this one",
    )
    actors: Workers = Field(1, description="devices of a node that the policy trains on, a process each")
    nodes: Workers = Field(1, description="nodes of a running Ray cluster (RAY_ADDRESS) with so many actors each")
    engines: Workers = Field(1, description="vLLM engines, on devices of their own")
    zero_stage: Literal[1, 2, 3] = Field(2, description="of DeepSpeed: what is sharded over actors")
    correction: CorrectionBlock | None = Field(
        CorrectionBlock(), description="of tokens by the ratio of the policy to the engine that sampled; null: none"
    )
    flags: Annotated[dict[str, Flag], AfterValidator(_flags)] = Field(
        {}, description="flags of train_ppo_ray that no key of the run file sets, without the dashes"
    )

    @property
    def ranks(self) -> int:
        """Processes that the policy trains in."""
        return self.actors * self.nodes


class BackendBlock(Strict):
    """What trains a stage: a trainer of this library, or another project's engine."""

    backend: Literal["openrlhf"] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="openrlhf: its train_ppo_ray, with the method in its actors; null: a trainer of this library",
    )
    openrlhf: OpenrlhfBlock | None = Field(
        None, exclude_if=lambda value: value is None, description="settings of `backend: openrlhf`"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_block(cls, value: Any) -> Any:
        asked = isinstance(value, dict) and value.get("backend") == "openrlhf" and value.get("openrlhf") is None
        return {**value, "openrlhf": {}} if asked else value

    @model_validator(mode="after")
    def _chosen(self) -> BackendBlock:
        if self.openrlhf is not None and self.backend is None:
            raise ConfigError(
                "an openrlhf block without backend",
                reason="a trainer of this library would not read it",
                remedy="set backend: openrlhf, or leave the block out",
            )
        return self
