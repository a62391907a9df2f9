"""The ground of every block: no unknown key, no coercion; the types of numbers and names. No torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, description="letters, digits, . _ -; a file name"),
]
PositiveInt = Annotated[int, Field(gt=0, le=2**31 - 1)]
NonNegativeInt = Annotated[int, Field(ge=0, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1, description="what numpy takes")]
Steps = Annotated[int, Field(gt=0, le=10**8)]
BatchSize = Annotated[int, Field(gt=0, le=10**6)]
Tokens = Annotated[int, Field(gt=0, le=10**7)]
Rows = Annotated[int, Field(gt=0, le=10**7, description="made or read as a whole")]
Workers = Annotated[int, Field(gt=0, le=1024, description="threads, processes, actors")]
Parameters = Annotated[int, Field(ge=0, le=10**15)]
Seconds = Annotated[float, Field(gt=0, le=10**7, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """No unknown keys, no type coercion (2.5 is no int, "3" is no number), immutable once validated."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)
