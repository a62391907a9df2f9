"""What becomes of a run's model beyond its folder."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from ixt_rl.blocks.checks import off
from ixt_rl.blocks.strict import Strict
from ixt_rl.errors import ConfigError

_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def _pushable(repository: str, info: ValidationInfo) -> str:
    """A repository's name; where files are looked up, there is a token too. The hub is not asked."""
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(
            repr(repository), reason="a repository of the hub is owner/name", remedy="write it as owner/name"
        )
    if off(info):
        return repository
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise ConfigError(
            repr(repository),
            reason="HF_HUB_OFFLINE is set, so that nothing can be pushed to the hub",
            remedy="unset it, or leave push_to_hub out",
        )
    if get_token() is None:
        raise ConfigError(
            repr(repository),
            reason="pushing needs a token of the hub, and there is none",
            remedy="`hf auth login`, or set HF_TOKEN; or leave push_to_hub out",
        )
    return repository


class SaveBlock(Strict):
    """The run's model, that of its last stage and first seed, with a card; and on the hub."""

    model_card: bool = Field(True, description="README.md in the model's folder: base, methods, data, last evaluation")
    push_to_hub: Annotated[str, AfterValidator(_pushable)] | None = Field(
        None, description="owner/name; made as a private repository where there is none"
    )
