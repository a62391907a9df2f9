"""The last share of training, in which documents stand without their feedback; for run files and trainers alike."""

from __future__ import annotations

from ixt_rl.errors import ConfigError


def cooldown_updates(share: float, steps: int, *, shows: bool, chat: bool, name: str = "cooldown") -> int:
    """The last of `steps` updates, whose rows show no feedback: round(share * steps), at least one; 0 for a share of 0.

    Args:
        share: of the updates (MeCo, arXiv 2501.01956: 0.1).
        steps: all updates; -1 where the documents' end decides.
        shows: whether there is feedback before that.
        chat: whether feedback is a system message.
        name: of the option, for messages.

    Raises:
        ConfigError: a share outside of [0, 1), or one of updates that nobody has counted, without feedback, in chats.
    """
    if not share:
        return 0
    drop = f"leave {name} out"
    refused = [
        (not 0 < share < 1, "the updates before it show feedback", "give a number from 0 to below 1"),
        (not shows, "no feedback is shown anyway", drop),
        (chat, "the feedback of a chat is its system message, and rows are not stripped of that", drop),
        (
            steps < 1,
            "rows without feedback are fewer, so passes over documents do not say where it begins",
            "give steps",
        ),
    ]
    for found, reason, remedy in refused:
        if found:
            raise ConfigError(f"{name}={share:g}", reason=reason, remedy=remedy)
    return max(1, round(share * steps))
