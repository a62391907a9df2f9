"""How long a stage trains: a number of updates, or passes over its data."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

from ixt_rl.blocks.strict import PositiveFloat, PositiveInt, Steps, Strict
from ixt_rl.errors import ConfigError


def _or_epochs(schema: dict[str, Any]) -> None:
    """For editors: `steps` may be left out."""
    schema["required"].remove("steps")


class DurationBlock(Strict):
    """Either `steps` or `epochs`."""

    model_config = ConfigDict(json_schema_extra=_or_epochs)

    epochs: PositiveFloat | None = Field(
        None, description="files only, in place of steps: passes over the problems that are trained on"
    )
    steps: Steps | None = Field(description="updates; null, or left out, where epochs are given")

    @model_validator(mode="before")
    @classmethod
    def _no_steps_with_epochs(cls, value: Any) -> Any:
        return {"steps": None, **value} if isinstance(value, dict) and value.get("epochs") is not None else value

    @field_validator("steps", mode="before")
    @classmethod
    def _steps_without_epochs(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("epochs", True) is None:
            raise PydanticKnownError("int_type")
        return value

    @model_validator(mode="after")
    def _one_length(self) -> DurationBlock:
        if self.steps is not None and self.epochs is not None:
            raise ConfigError(
                f"steps={self.steps} and epochs={self.epochs:g}",
                reason="either says how long a stage trains",
                remedy="give steps or epochs, and leave the other out",
            )
        return self


class PassesBlock(DurationBlock):
    """A `DurationBlock` of whole passes over a stream that may be larger than memory."""

    epochs: PositiveInt | None = Field(
        None, description="in place of steps: passes over all documents that are trained on; they are counted before"
    )
