"""How documents are shown: with or without their feedback, where it stands, and what is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ixt_rl.conditioning.feedback import AnyFeedbackTemplate
from ixt_rl.conditioning.sequences import (
    Position,
)
from ixt_rl.errors import ConfigError

Turns = Literal["all", "last"]
"""Which of the assistant's replies in a conversation are trained."""


@dataclass(frozen=True)
class Conditioning:
    """How documents are shown.

    Args:
        template: writes the feedback; None: plain next-token prediction.
        position: feedback before its document, or after it.
        dropout: share of annotated documents shown without their feedback, drawn anew each time one is seen.
        fraction: share of documents that count as annotated, chosen by a hash of their content: always the same ones.
        train_feedback: whether feedback tokens are in the loss (pretraining: yes; SFT: no). In a chat they never are.
        chat: feedback is the system message, and only the reply is trained (SFT).
        train_turns: of a conversation, `all` of the assistant's replies are trained, or the `last`.
        chat_template_kwargs: variables of the chat template, such as `enable_thinking`.
        max_reply_tokens: longer replies to prompts are cut, and have no end; None: none is.

    Raises:
        ConfigError: a share outside [0, 1], an unknown position, or a chat with feedback after the reply.
    """

    template: AnyFeedbackTemplate | None = None
    position: Position = "before"
    dropout: float = 0.0
    fraction: float = 1.0
    train_feedback: bool = True
    chat: bool = False
    train_turns: Turns = "all"
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    max_reply_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("dropout", "fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name}={getattr(self, name)!r}",
                    reason="it is a share of documents",
                    remedy="give a number from 0 to 1",
                )
        if self.position not in get_args(Position):
            raise ConfigError(
                f"position={self.position!r}",
                reason="feedback stands before or after its document",
                remedy="one of " + ", ".join(get_args(Position)),
            )
        if self.train_turns not in get_args(Turns):
            raise ConfigError(
                f"train_turns={self.train_turns!r}",
                reason="it says which of the assistant's replies are trained",
                remedy="one of " + ", ".join(get_args(Turns)),
            )
        if self.chat and self.position == "after":
            raise ConfigError(
                "chat=True with position='after'",
                reason="the feedback of a chat is its system message, which comes first",
                remedy="set position to before, or chat to false",
            )
