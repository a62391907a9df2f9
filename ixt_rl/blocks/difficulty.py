"""Which problems an RL stage trains on, by how often they are solved."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from ixt_rl.blocks.strict import Finite, Strict
from ixt_rl.errors import ConfigError


class DifficultyBlock(Strict):
    """Problems that are trained on: those whose pass rate lies within bounds; the ones for evaluation all stay."""

    field: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="field of the rows that holds the rate, or any other number; `a.b` is the entry b of field a"
    )
    rollouts: Annotated[int, Field(gt=0, le=10**4)] | None = Field(
        None,
        description="in place of a field: completions of each problem, sampled once before training by the policy that "
        "the stage starts from",
    )
    at_least: Finite | None = Field(None, description="the least that is kept; null: no bound")
    at_most: Finite | None = Field(None, description="the most that is kept; null: no bound")

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.field is None) == (self.rollouts is None):
            raise ConfigError(
                "difficulty with " + ("neither `field` nor `rollouts`" if self.field is None else "both"),
                reason="rates are read from the rows, or measured before training",
                remedy="give `field` with its name, or `rollouts` with how many completions each problem gets",
            )
        return self

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        low, high = self.at_least, self.at_most
        if low is None and high is None:
            raise ConfigError(
                "difficulty without at_least and at_most",
                reason="nothing would be left out",
                remedy="give one, or both",
            )
        if low is not None and high is not None and low > high:
            raise ConfigError(
                f"at_least={low:g} with at_most={high:g}", reason="nothing lies between them", remedy="swap the two"
            )
        outside = [bound for bound in (low, high) if bound is not None and not 0 <= bound <= 1]
        if self.rollouts is not None and outside:
            raise ConfigError(
                f"a bound of {outside[0]:g} with rollouts: {self.rollouts}",
                reason="what is measured is a share, from 0 to 1",
                remedy="write 0.5 for a half",
            )
        return self

    def holds(self, rate: float) -> bool:
        """Whether a rate lies within the bounds, both included."""
        return (self.at_least is None or rate >= self.at_least) and (self.at_most is None or rate <= self.at_most)

    @property
    def words(self) -> str:
        """The bounds, as messages say them."""
        low, high = self.at_least, self.at_most
        if low is None:
            return f"at most {high:g}"
        return f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
