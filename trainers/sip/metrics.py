"""What is logged of SIP's groups and losses; names follow from those of the sources. Plain Python, no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan

from ixt_rl.trainers.sip.changes import CHANGES
from ixt_rl.trainers.sip.groups import Group, Text
from ixt_rl.trainers.sip.objectives import Example
from ixt_rl.types import SOURCES

_SKIPS = ("skipped/no_rewrite", "skipped/tie", "skipped/undecided")


@dataclass
class Shares:
    """What is logged of groups: lists of values by metric, each with one value a group or a candidate.

    Names, with s a source:

        chosen/s, rejected/s            share of s; a text that several sources wrote counts for each in equal parts
        chosen_raw/s, rejected_raw/s    the same without merging: the share of s among candidates with that score
        chosen_alone/s                  the text was written by s and by nobody else
        score/s, score/best             mean score; undecided ones do not count
        ties/all, ties/best             all scores equal, nothing to choose; several texts have the highest
        candidates/identical            candidates equal to another one of their group
        candidates/undecided            candidates without a score
        perfect/any_rollout             groups with a rollout of score 1, among those with a decided rollout; on a
                                        pairwise axis it is better than every other text, which ties make rare
        judge/spread                    standard deviation of a score over the judge's repeats, where it says so
    """

    sources: Sequence[str] = SOURCES
    values: dict[str, list[float]] = field(init=False)

    def __post_init__(self) -> None:
        self.values = {name: [] for name in share_names(self.sources)}

    def see(self, group: Group, trained: bool) -> None:
        """Counts a judged group; its best and worst only if they are trained on."""
        if group.fallback:  # nobody was asked of it
            if trained and group.best is not None:
                self._shares("chosen", group, group.best)
            return
        for text in group.texts:
            for source, written in text.written.items():
                self.values[f"score/{source}"] += [nan if text.score is None else text.score] * written
            self.values["candidates/undecided"] += [float(text.score is None)] * text.copies
            spread = getattr(text.candidate.verdict, "spread", None)
            self.values["judge/spread"].append(nan if spread is None else spread)
        copies = sum(text.copies for text in group.texts)
        self.values["candidates/identical"].append(1 - len(group.texts) / copies)
        self.values["ties/all"].append(float(group.tied))
        rollouts = [text.score for text in group.decided if text.written["rollout"]]
        self.values["perfect/any_rollout"].append(float(1.0 in rollouts) if rollouts else nan)
        if group.best is not None:
            self.values["score/best"].append(group.best.score if group.best.score is not None else nan)
            self.values["ties/best"].append(float(len(_equals(group, group.best)) > 1))
        for name, extreme in (("chosen", group.best), ("rejected", group.worst)):
            if trained and extreme is not None:
                self._shares(name, group, extreme)

    def _shares(self, name: str, group: Group, text: Text) -> None:
        rivals = sum((rival.written for rival in _equals(group, text)), Counter())
        for source in self.sources:
            self.values[f"{name}/{source}"].append(float(source in text.written) / len(text.written))
            self.values[f"{name}_raw/{source}"].append(rivals[source] / rivals.total())
            if name == "chosen":
                self.values[f"chosen_alone/{source}"].append(float([*text.written] == [source]))


@dataclass
class Verified:
    """What a verifier that no training listens to says of groups, logged as means:

    verified/s               correctness of the candidates of source s
    verified/chosen          of the text that is trained on, or preferred; rejected: of the other one
    verified/any_rollout     groups in which some rollout is right
    errors/teacher_kept      of the groups whose original is wrong, those whose rewrite is wrong too
    errors/teacher_made      of the groups whose original is right, those whose rewrite is wrong
    errors/judge             of the groups with something right to choose, those whose chosen text is wrong
    """

    sources: Sequence[str] = SOURCES
    values: dict[str, list[float]] = field(init=False)

    def __post_init__(self) -> None:
        self.values = {name: [] for name in verified_names(self.sources)}

    def see(self, group: Group, right: Sequence[float | None], trained: Text | None = None) -> None:
        """Counts a group; `right` is each text's correctness, None where it is not known.

        `trained`: the text that is trained where no judge chose one.
        """
        known = [nan if one is None else one for one in right]
        by_ids = {text.ids: one for text, one in zip(group.texts, known, strict=True)}
        for text in group.texts:
            for source, written in text.written.items():
                self.values[f"verified/{source}"] += [by_ids[text.ids]] * written
        rollouts = [by_ids[text.ids] for text in group.texts if text.written["rollout"]]
        self.values["verified/any_rollout"].append(float(1.0 in rollouts) if rollouts else nan)
        for name, extreme in (("chosen", group.best or trained), ("rejected", group.worst)):
            self.values[f"verified/{name}"].append(nan if extreme is None else by_ids[extreme.ids])
        self._errors(group, by_ids)

    def _errors(self, group: Group, by_ids: Mapping[tuple[int, ...], float]) -> None:
        """Which errors of the original and of the candidates go on into what is trained."""
        original, rewrite = (group.written_by(source) for source in ("original", "rewrite"))
        before, after = (nan if text is None else by_ids[text.ids] for text in (original, rewrite))
        if not isnan(before) and not isnan(after):
            self.values["errors/teacher_made" if before == 1.0 else "errors/teacher_kept"].append(float(after < 1.0))
        if group.best is not None and 1.0 in by_ids.values() and not isnan(by_ids[group.best.ids]):
            self.values["errors/judge"].append(float(by_ids[group.best.ids] < 1.0))


def choices(
    groups: Sequence[Group],
    examples: Sequence[Example | None],
    judged: bool,
    needed: Sequence[str],
    sources: Sequence[str],
) -> dict[str, list[float]]:
    """Values by metric of an update's groups and what was made of them; a fallback is in `filtered/all` alone.

    Args:
        judged: whether a judge chose; its shares are logged then.
        needed: sources without whose text a baseline has nothing to train.
        sources: all that there are names for.
    """
    shares = Shares(sources)
    skips: dict[str, list[float]] = {name: [] for name in _SKIPS}
    for group, example in zip(groups, examples, strict=True):
        skipped, absent = example is None and not group.fallback, False
        if judged:
            shares.see(group, example is not None)
        else:
            absent = not group.fallback and any(group.written_by(source) is None for source in needed)
        skips["skipped/no_rewrite"].append(float(absent))
        skips["skipped/tie"].append(float(skipped and not absent and group.tied))
        skips["skipped/undecided"].append(float(skipped and not absent and not group.tied))
    return {**skips, **shares.values}


def verified(
    groups: Sequence[Group],
    examples: Sequence[Example | None],
    right: Sequence[float | None],
    sources: Sequence[str],
) -> dict[str, list[float]]:
    """Values by metric of what a verifier says of every text of the groups, in their order."""
    found, of_texts = Verified(sources), iter(right)
    for group, example in zip(groups, examples, strict=True):
        found.see(group, [next(of_texts) for _ in group.texts], None if example is None else example.texts[0])
    return found.values


def all_sources(named: Sequence[str]) -> tuple[str, ...]:
    """The sources that metrics are named after: those that always are, then further ones of `named`."""
    return (*SOURCES, *(source for source in named if source not in SOURCES))


def metric_names(sources: Sequence[str] = SOURCES) -> tuple[str, ...]:
    """What is averaged beside the loss. See `Shares`, `Verified` and `changes`; `skipped/*` are shares of prompts,
    `s/missing` the share for which source s, which was asked, had nothing; `rollout/*` are means over rollouts,
    `train/logp` is the mean log-prob of a trained token, and `dpo/*` are those of `PairStats`."""
    return (
        *share_names(sources),
        *verified_names(sources),
        *CHANGES,
        *_SKIPS,
        *(f"{source}/missing" for source in sources if source not in ("original", "rollout")),
        *("rollout/tokens", "rollout/ended", "sampler/logp_abs", "train/logp"),
        *("dpo/margin", "dpo/accuracy", "dpo/chosen", "dpo/rejected"),
    )


def verified_names(sources: Sequence[str] = SOURCES) -> list[str]:
    """All metrics of `Verified`."""
    named = [f"verified/{name}" for name in (*sources, "chosen", "rejected", "any_rollout")]
    return [*named, "errors/teacher_kept", "errors/teacher_made", "errors/judge"]


def share_names(sources: Sequence[str] = SOURCES) -> list[str]:
    """All metrics of `Shares`."""
    kinds = ("chosen", "chosen_raw", "chosen_alone", "rejected", "rejected_raw", "score")
    single = (
        "ties/all",
        "ties/best",
        "candidates/identical",
        "candidates/undecided",
        "perfect/any_rollout",
        "judge/spread",
    )
    return [*(f"{kind}/{source}" for kind in kinds for source in sources), "score/best", *single]


def _equals(group: Group, text: Text) -> list[Text]:
    return [rival for rival in group.texts if rival.score == text.score]
