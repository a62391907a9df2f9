"""What every stage has, and what the rest of the library asks it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from ixt_rl.blocks.strict import Name, Strict

FROM_MODEL = "model"
"""`init` of a stage that starts from the run's `model` block, whatever stands before it."""

Unread = tuple[Strict, str, str, str]
"""(block, its key, the key's path below the stage, what does not read it)."""


class Stage(Strict):
    """What every stage has."""

    name: Name
    type: str
    init: Name | None = Field(
        None,
        description="the stage whose model this one takes, or `model` for that of the run's model block; "
        "default: the stage before",
    )

    ratio_of_one_network: ClassVar[bool] = False
    """Whether the loss compares two passes of the network, so that dropout would make it noise."""

    in_process_only: ClassVar[str] = ""
    """Why it samples from the trainer's own model alone; "" where any engine serves."""

    @property
    def unread(self) -> list[Unread]:
        """What other choices of the stage leave unread."""
        return []

    @property
    def reads_of_engine(self) -> tuple[str, ...]:
        """Those of `engine.correction` and `engine.staleness` that say how it trains on rollouts."""
        return ()

    @property
    def surprises(self) -> list[str]:
        """What is not wrong, and may surprise."""
        return []

    @property
    def reads_model(self) -> bool:
        """Whether its outcome depends on the model that it starts from."""
        return True

    @property
    def reuses_rollouts(self) -> bool:
        """Whether rollouts serve updates after the policy has moved."""
        return False

    @property
    def renders_chats(self) -> bool:
        """Whether its prompts go through the tokenizer's chat template, as far as its block says."""
        return False

    @property
    def compared_with(self) -> str | None:
        """The stage whose continuations its own are set against."""
        return None
