"""A stage that OpenRLHF trains: where its Python is, how many processes it has, and flags of its own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ixt_rl.blocks.engine import CorrectionBlock
from ixt_rl.blocks.openrlhf_flags import Flag
from ixt_rl.blocks.openrlhf_ppo_flags import TRAIN_PPO_RAY
from ixt_rl.blocks.openrlhf_sft_flags import TRAIN_SFT
from ixt_rl.blocks.strict import Strict, Workers
from ixt_rl.errors import ConfigError


class OpenrlhfProcessesBlock(Strict):
    """Where OpenRLHF's Python is, and the processes that train."""

    python: str | None = Field(
        None,
        description="the Python of its environment; default: IXT_RL_OPENRLHF_PYTHON, else .openrlhf-env/bin/python, "
        "else this one",
    )
    actors: Workers = Field(1, description="devices of a node that the policy trains on, a process each")
    zero_stage: Literal[1, 2, 3] = Field(2, description="of DeepSpeed: what is sharded over actors")


class OpenrlhfBlock(OpenrlhfProcessesBlock):
    """How OpenRLHF runs a stage on rollouts (`backend: openrlhf`): processes, correction, flags."""

    nodes: Workers = Field(1, description="nodes of a running Ray cluster (RAY_ADDRESS) with so many actors each")
    engines: Workers = Field(1, description="vLLM engines, on devices of their own")
    correction: CorrectionBlock | None = Field(
        CorrectionBlock(), description="of tokens by the ratio of the policy to the engine that sampled; null: none"
    )
    flags: Annotated[dict[str, Flag], AfterValidator(TRAIN_PPO_RAY.check)] = Field(
        {}, description="flags of train_ppo_ray that no key of the run file sets, without the dashes"
    )

    @property
    def ranks(self) -> int:
        """Processes that the policy trains in."""
        return self.actors * self.nodes


class OpenrlhfSftBlock(OpenrlhfProcessesBlock):
    """How OpenRLHF runs a stage on documents (`backend: openrlhf`): processes of one machine, flags."""

    flags: Annotated[dict[str, Flag], AfterValidator(TRAIN_SFT.check)] = Field(
        {}, description="flags of train_sft that no key of the run file sets, without the dashes"
    )

    @property
    def ranks(self) -> int:
        """Processes that the model trains in."""
        return self.actors


class BackendChoiceBlock(Strict):
    """`backend` beside a block of its settings."""

    backend: Literal["openrlhf"] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="openrlhf: its train_ppo_ray (on documents train_sft), with what the stage trains in it; null: a "
        "trainer of this library",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_block(cls, value: Any) -> Any:
        asked = isinstance(value, dict) and value.get("backend") == "openrlhf" and value.get("openrlhf") is None
        return {**value, "openrlhf": {}} if asked else value

    @model_validator(mode="after")
    def _chosen(self) -> Self:
        choice: Any = self
        if choice.openrlhf is not None and self.backend is None:
            raise ConfigError(
                "an openrlhf block without backend",
                reason="a trainer of this library would not read it",
                remedy="set backend: openrlhf, or leave the block out",
            )
        return self


class BackendBlock(BackendChoiceBlock):
    """What trains a stage on rollouts: a trainer of this library, or another project's engine."""

    openrlhf: OpenrlhfBlock | None = Field(
        None, exclude_if=lambda value: value is None, description="settings of `backend: openrlhf`"
    )


class SftBackendBlock(BackendChoiceBlock):
    """What trains a stage on documents: a trainer of this library, or another project's."""

    openrlhf: OpenrlhfSftBlock | None = Field(
        None, exclude_if=lambda value: value is None, description="settings of `backend: openrlhf`"
    )
