"""SIP's objectives as a table: which texts of a group go into the loss, and which loss. Plain Python, no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ixt_rl.blocks.sip_choices import UNJUDGED
from ixt_rl.trainers.sip.groups import Group, Text


@dataclass(frozen=True)
class Example:
    """What one prompt puts into the loss.

    Args:
        prefix_ids: seen, not trained.
        texts: of a pair, the chosen and the rejected.
        advantages: GRPO: of each text; empty otherwise.
    """

    prefix_ids: tuple[int, ...]
    texts: tuple[Text, ...]
    advantages: tuple[float, ...] = ()


@dataclass(frozen=True)
class Objective:
    """One way to learn from a group.

    Args:
        example: what a group puts into the loss; None where there is nothing to choose, or nothing decided.
        loss: DPO over pairs, NLL over tokens, or GRPO over candidates; what it is a mean over says `count`.
    """

    example: Callable[[Group], Example | None]
    loss: Literal["pairs", "tokens", "candidates"]

    def count(self, group: Group, example: Example | None) -> int:
        """What a group adds to the loss's denominator: a pair, its trained tokens, or its decided candidates."""
        if self.loss == "candidates":
            return sum(text.copies for text, _ in group.advantages())
        if example is None:
            return 0
        return 1 if self.loss == "pairs" else sum(len(text.ids) for text in example.texts)


def best_and_worst(group: Group) -> Example | None:
    return _different(group, [group.best, group.worst])


def best(group: Group) -> Example | None:
    return _different(group, [group.best])


def weighed(group: Group) -> Example | None:
    """All decided texts by their advantage; those of advantage 0 have no gradient."""
    found = [(text, advantage) for text, advantage in group.advantages() if advantage]
    texts, advantages = zip(*found, strict=True) if found else ((), ())
    return Example(group.prefix_ids, texts, advantages) if texts else None


def written_by(*sources: str) -> Callable[[Group], Example | None]:
    """The texts of these sources, judged by nobody."""
    return lambda group: _different(group, [group.written_by(source) for source in sources])


OBJECTIVES: dict[str, Objective] = {
    "dpo": Objective(best_and_worst, "pairs"),
    "rf-nll": Objective(best, "tokens"),
    "grpo": Objective(weighed, "candidates"),
    "nll": Objective(written_by(*UNJUDGED["nll"]), "tokens"),
    "sft-rewrite": Objective(written_by(*UNJUDGED["sft-rewrite"]), "tokens"),
    "sft-rollout": Objective(written_by(*UNJUDGED["sft-rollout"]), "tokens"),
    "dpo-rewrite": Objective(written_by(*UNJUDGED["dpo-rewrite"]), "pairs"),
}
"""By the name that a config gives them."""


def _different(group: Group, wanted: Sequence[Text | None]) -> Example | None:
    """These texts, if all are there and no two are the same."""
    different = {text.ids: text for text in wanted if text is not None}
    return Example(group.prefix_ids, tuple(different.values())) if len(different) == len(wanted) else None
