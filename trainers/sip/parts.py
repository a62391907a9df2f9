"""What a SIP trainer is given beside its config: refused where it would be missing, or not be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ixt_rl.errors import ConfigError, DataError, did_you_mean
from ixt_rl.kernels.correction import Correction
from ixt_rl.trainers.sip.config import SIPConfig
from ixt_rl.trainers.sip.groups import Proposed
from ixt_rl.trainers.sip.scoring import CandidateScorer, CandidateWriter

OWN = ("original", "rollout")
"""Sources that the trainer has itself."""


def check_parts(
    args: SIPConfig,
    judge: CandidateScorer | None,
    rewriter: CandidateWriter | None,
    correction: Correction | None,
) -> None:
    """Refuses judge, rewriter and correction that do not go with the config.

    Raises:
        ConfigError: one is missing, or would not be used.
    """
    needs = {
        "judge": (judge, args.judged, f"objective={args.objective!r}"),
        "rewriter": (rewriter, "rewrite" in (args.sources or ()), f"sources={args.sources}"),
    }
    for name, (given, needed, why) in needs.items():
        if (given is not None) != needed:
            raise ConfigError(
                f"{'no ' if needed else 'a '}{name} with {why}",
                reason="its answers are needed" if needed else "its answers would not be used",
                remedy=f"give SIPTrainer a {name}" if needed else f"leave {name} out, or change the config",
            )
    if correction is not None and args.objective != "grpo":
        raise ConfigError(
            f"a correction with objective={args.objective!r}",
            reason="only grpo weighs rollouts by how likely they were sampled",
            remedy="leave correction out",
        )


def asked_sources(
    named: Sequence[str],
    registered: Mapping[str, CandidateWriter],
    given: Mapping[str, CandidateWriter],
    rewriter: CandidateWriter | None,
    complete: bool,
) -> dict[str, CandidateWriter]:
    """The sources to ask for candidates, by name, in the config's order.

    Args:
        named: `SIPConfig.sources`.
        registered: those of the trainer's class, which `named` chooses from.
        given: those of its construction, all of which `named` has.
        rewriter: is called `rewrite`.
        complete: whether there are no others; where `propose` is overridden it may have candidates of its own.

    Raises:
        ConfigError: a source has the name of another, would not be used, or is not there.
    """
    for name in given:
        taken = name in (*OWN, "rewrite")
        if taken or name not in named:
            raise ConfigError(
                f"a source {name!r} with sources={[*named]}",
                reason="a source of the trainer has that name" if taken else "its candidates would not be used",
                remedy="give it another name" if taken else f"set SIPConfig(sources={[*named, name]})",
            )
    known = {**registered, **given} | ({} if rewriter is None else {"rewrite": rewriter})
    unknown = [name for name in named if name not in (*known, *OWN)]
    if unknown and complete:
        raise ConfigError(
            f"sources={[*named]}",
            reason=f"there is no source {unknown[0]!r}",
            remedy=did_you_mean(unknown[0], [*OWN, "rewrite", *known])
            + f"give the trainer sources={{{unknown[0]!r}: function}}",
        )
    return {name: known[name] for name in named if name in known}


def check_proposed(proposed: Any, sources: Sequence[str]) -> Sequence[Proposed]:
    """What a trainer's `propose` gave for one prompt.

    Args:
        proposed: to be checked.
        sources: those that metrics have names for.

    Raises:
        DataError: these are no candidates, or those of a source without a name.
    """
    for one in proposed:
        if not isinstance(one, Proposed):
            raise DataError(
                f"propose gave {one!r:.80}",
                reason="it gives a list of candidates for each prompt, equal ones not merged",
                remedy="make each by `Proposed(self.candidate(source, ids))`",
            )
        if one.candidate.source not in sources:
            raise DataError(
                f"propose gave a candidate of source {one.candidate.source!r}",
                reason=f"metrics have names for {', '.join(sources)}, on all ranks alike",
                remedy="name it in SIPConfig(sources=[...])",
            )
    return proposed
