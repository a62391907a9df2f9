"""SIP's objectives, and which candidates go with each; plain Python, for run files and for `SIPConfig` alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.types import SOURCES, CandidateSource

Objective = Literal["dpo", "rf-nll", "grpo", "nll", "sft-rewrite", "sft-rollout", "dpo-rewrite"]
ReferenceKind = Literal["frozen", "synced", "none"]

UNJUDGED: dict[str, tuple[CandidateSource, ...]] = {
    "nll": ("original",),
    "sft-rewrite": ("rewrite",),
    "sft-rollout": ("rollout",),
    "dpo-rewrite": ("rewrite", "rollout"),
}
"""The baselines, which need no judge, and the candidates that each trains on."""

_JUDGED_ROLLOUTS = 16


def candidate_sources(
    objective: str, sources: Sequence[str] | None, known: Sequence[str] | None = SOURCES
) -> list[str]:
    """Where candidates come from: those asked for, or what the objective has by default.

    Args:
        objective: of SIP.
        sources: by name; None: the default.
        known: the names that there are; None: they are not known here.

    Raises:
        ConfigError: an unknown source, one named twice, or sources that the objective cannot use.
    """
    own = UNJUDGED.get(objective)
    chosen: list[str] = [*(own or ("original", "rollout"))] if sources is None else [*sources]
    wrong = [] if known is None else [source for source in chosen if source not in known]
    if wrong or not chosen or len({*chosen}) < len(chosen):
        raise ConfigError(
            f"sources={chosen}",
            reason="candidates are of one or more of these, each named once",
            remedy="".join(did_you_mean(source, [*(known or ())]) for source in wrong[:1])
            + f"choose of {', '.join(SOURCES if known is None else known)}",
        )
    if own is not None and {*chosen} != {*own}:
        raise ConfigError(
            f"sources={chosen} with objective={objective!r}",
            reason=f"it trains on {' and '.join(own)}, and on nothing else",
            remedy="leave sources out",
        )
    if own is None and chosen in (["original"], ["rewrite"]):
        raise ConfigError(
            f"sources={chosen} with objective={objective!r}",
            reason="one candidate is nothing to choose from",
            remedy="give more sources",
        )
    return chosen


def rollouts_of_a_prompt(objective: str, sources: Sequence[str], given: int | None, name: str) -> int:
    """K, how many rollouts a prompt gets; `name` is what the caller calls it.

    Raises:
        ConfigError: too few to choose from, or more than are trained on.
    """
    judged, asked = objective not in UNJUDGED, "rollout" in sources
    number = ((_JUDGED_ROLLOUTS if judged else 1) if asked else 0) if given is None else given
    alone = judged and [*sources] == ["rollout"]
    if number < (2 if alone else int(asked)) or (not asked and number) or (not judged and number > 1):
        raise ConfigError(
            f"{name}={number} with objective={objective!r} and sources={[*sources]}",
            reason="a judge chooses from two candidates or more; a baseline trains on one rollout, if on any",
            remedy=f"leave {name} out, or change sources",
        )
    return number


def check_reference(reference: str, sync_steps: int | None) -> None:
    """Raises ConfigError unless a synced reference, and no other, says how often it is synced."""
    if (reference == "synced") != (sync_steps is not None):
        raise ConfigError(
            f"reference={reference!r} with reference_sync_steps={sync_steps}",
            reason="a synced reference needs its steps, and no other has any",
            remedy="give both (reference: synced, reference_sync_steps: 100) or neither",
        )
