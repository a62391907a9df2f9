"""Problems by how often they are solved: which of them a stage trains on.

    by a field    the rows say it
    measured      rate = right / decided over n completions of the policy that the stage starts from; one is right
                  where every reward that decides reaches `keep_reward` (grpo: 1), undecided where one of them is

A problem without a decided completion has no rate: it is left out, and counted apart. What was measured stays in
`difficulty.jsonl` of the stage's folder, a row a problem, and is not measured again by a run that goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ixt_rl.blocks.data import FileDataBlock, ProblemMixtureBlock
from ixt_rl.blocks.difficulty import DifficultyBlock
from ixt_rl.blocks.keeping import deciding
from ixt_rl.conditioning.prompts import row_ids
from ixt_rl.errors import DataError
from ixt_rl.files import append_rows, read_rows, write_rows
from ixt_rl.ledger import Ledger
from ixt_rl.methods.online import OnlineStage
from ixt_rl.rewards.calling import reward_arguments
from ixt_rl.rollout.engine import MAX_SEED, RolloutEngine
from ixt_rl.rollout.stops import text_before_stop
from ixt_rl.rollout.trl_adapter import call_seed
from ixt_rl.run.folder import DIFFICULTY
from ixt_rl.run.stages.rewards import Rewards, count_judges, guarded, in_step_parts
from ixt_rl.trainers.baselines import least_kept
from ixt_rl.types import Rollout, SamplingParams

AT_ONCE = 1024
"""Completions that are sampled, judged and written together: what a kill costs at most."""

_SEEDS = 11  # tells these draws from all others of a run

Row = dict[str, Any]


@dataclass(frozen=True)
class Chosen:
    """The problems that are left.

    Args:
        rows: of the stage's, in their order.
        notes: how many of how many, in words.
        spent: tokens of the measurement, as `Ledger.tokens` counts them.
        sampled: completions of the measurement.
    """

    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    spent: Counter[str] = field(default_factory=Counter)
    sampled: int = 0


def reading_rates(data: Any, block: DifficultyBlock | None) -> Any:
    """A stage's `data`, whose rows also bring the field that holds the rate."""
    if block is None or block.field is None:
        return data
    if isinstance(data, ProblemMixtureBlock):
        return data.model_copy(update={"sources": [reading_rates(source, block) for source in data.sources]})
    assert isinstance(data, FileDataBlock)  # the stage takes no other
    return data.model_copy(update={"columns": list(dict.fromkeys([*data.columns, block.field]))})


def by_field(block: DifficultyBlock, rows: list[Row], stage: str) -> Chosen:
    """The rows whose field lies within the bounds.

    Raises:
        DataError: a value that is no number, or no row is left.
    """
    assert block.field is not None
    rates = []
    for row in rows:
        value = row[block.field]
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise DataError(
                f"difficulty.field {block.field!r} is {value!r} of {row['question']!r:.80}",
                reason="bounds are compared with a number",
                remedy="name a field of numbers, or set data.on_missing: drop for rows that have none",
            )
        rates.append(float(value))
    return _within(block, rows, rates, stage, f"by {block.field}")


def measured(
    stage: OnlineStage,
    rows: list[Row],
    rewards: Rewards,
    folder: Path,
    tokenizer,
    open_engine: Callable[[], RolloutEngine],
    seed: int,
    say: Callable[[str], None],
    prompt_tokens: int | None = None,
    chat_template_kwargs: Any = None,
) -> Chosen:
    """The rows whose measured rate lies within the bounds; what was measured before a stop is read.

    Args:
        stage: its `difficulty` has `rollouts`.
        rows: with `prompt`, as the stage trains on them.
        rewards: those of the stage.
        folder: of the stage.
        open_engine: makes what samples from the stage's first policy; not called where all is measured.
        seed: of the run.
        say: told how much there is to measure.
        prompt_tokens: longer prompts lose their beginning; None: none does.
        chat_template_kwargs: of the prompts.

    Raises:
        DataError: no row is left.
        RewardError: a reward failed beyond its budget.
    """
    block, file = stage.difficulty, folder / DIFFICULTY
    assert block is not None and block.rollouts is not None
    at_once = max(1, AT_ONCE // block.rollouts)
    found = _measured_before(file, rows, block.rollouts, at_once)
    if len(found) < len(rows):
        say(f"difficulty: {block.rollouts} completions of each of {len(rows) - len(found)} problems are sampled")
        engine = open_engine()
        judge = _Judge(stage, rewards, folder, tokenizer)
        for start in range(len(found), len(rows), at_once):
            part = rows[start : start + at_once]
            seeds = [call_seed(seed, _SEEDS, start + place) % MAX_SEED for place in range(len(part))]
            prompts = [row_ids(tokenizer, row, "prompt", prompt_tokens, chat_template_kwargs) for row in part]
            groups = engine.generate(prompts, _sampling(stage), block.rollouts, seeds)
            made = judge(part, groups, start)
            append_rows(file, made)
            found += made
    rates = [row["rate"] for row in found]
    chosen = _within(block, rows, rates, stage.name, "of the policy it starts from")
    undecided = sum(row["rollouts"] - row["decided"] for row in found)
    notes = [f"difficulty: {undecided} of {len(rows) * block.rollouts} completions undecided, in no rate"]
    spent: Counter[str] = Counter()
    for row in found:
        spent.update(row["spent"])
    return Chosen(chosen.rows, [*chosen.notes, *(notes if undecided else [])], spent, len(rows) * block.rollouts)


def _sampling(stage: OnlineStage) -> SamplingParams:
    """As training samples."""
    at = stage.sampling
    return SamplingParams(at.max_new_tokens, at.temperature, at.top_p, at.top_k, min_p=at.min_p, stop=tuple(at.stop))


def _measured_before(file: Path, rows: Sequence[Row], rollouts: int, at_once: int) -> list[Row]:
    """The whole parts that were measured of these very rows, from the first on; the file holds nothing else then."""
    there = read_rows(file, ("question", "rollouts", "rate", "spent"))
    same = 0
    while same < min(len(there), len(rows)):
        if (there[same]["question"], there[same]["rollouts"]) != (rows[same]["question"], rollouts):
            break
        same += 1
    whole = same if same == len(rows) else same - same % at_once
    if whole < len(there):
        write_rows(file, there[:whole])
    return there[:whole]


class _Judge:
    """Says of completions whether they are right, by the rewards that decide."""

    def __init__(self, stage: OnlineStage, rewards: Rewards, folder: Path, tokenizer):
        kept = stage.kept_by
        self.places = deciding(stage.rewards, kept.keep if kept else None)
        self.least = least_kept(kept.keep_reward if kept else 1.0)
        behind = guarded(stage, rewards.functions, folder / "difficulty_failures.jsonl")
        self.functions = [in_step_parts(stage, reward) for reward in behind]
        self.tokenizer, self.stop = tokenizer, tuple(stage.sampling.stop)
        self.ledger = Ledger(0)
        count_judges(rewards.functions, self.ledger)

    def __call__(self, rows: Sequence[Row], groups: Sequence[Sequence[Rollout]], start: int) -> list[Row]:
        """What is written of some problems; the last of them has what all of them cost."""
        copies = [(row, rollout) for row, group in zip(rows, groups, strict=True) for rollout in group]
        verdicts = iter(self._verdicts([row for row, _ in copies], [rollout for _, rollout in copies]))
        self.ledger.add("rollout", sum(len(one.prompt_ids) + len(one.completion_ids) for _, one in copies))
        made = []
        for place, (row, group) in enumerate(zip(rows, groups, strict=True)):
            said = [verdict for verdict in (next(verdicts) for _ in group) if verdict is not None]
            right = sum(said)
            made.append(
                {
                    "row": start + place,
                    "question": row["question"],
                    **({"source": row["source"]} if "source" in row else {}),
                    "rollouts": len(group),
                    "decided": len(said),
                    "right": right,
                    "rate": right / len(said) if said else None,
                    "spent": {},
                }
            )
        made[-1]["spent"] = dict(self.ledger.tokens)
        self.ledger.tokens.clear()
        return made

    def _verdicts(self, rows: Sequence[Row], rollouts: Sequence[Rollout]) -> list[bool | None]:
        """Right, wrong or undecided (None), one a completion."""
        ids = [rollout.completion_ids for rollout in rollouts]
        given = reward_arguments(rows, [text_before_stop(self.tokenizer, one, self.stop) for one in ids], ids)
        values = [self.functions[place](**given) for place in self.places]
        return [
            None if any(value is None for value in of_one) else all(value >= self.least for value in of_one)
            for of_one in zip(*values, strict=True)
        ]


def _within(block: DifficultyBlock, rows: list[Row], rates: Iterable[float | None], stage: str, how: str) -> Chosen:
    """The rows whose rate is known and within the bounds, and what to say of the others.

    Raises:
        DataError: none is.
    """
    pairs = list(zip(rows, rates, strict=True))
    known = sorted(rate for _, rate in pairs if rate is not None)
    kept = [row for row, rate in pairs if rate is not None and block.holds(rate)]
    below = sum(block.at_least is not None and rate < block.at_least for rate in known)
    without = len(pairs) - len(known)
    parts = {"below": below, "above": len(known) - below - len(kept), "without a decided completion": without}
    counted = ", ".join(f"{count} {name}" for name, count in parts.items() if count)
    if not kept:
        spread = f"; lowest {known[0]:g}, median {median(known):g}, highest {known[-1]:g}" if known else ""
        raise DataError(
            f"difficulty of stage {stage}: none of {len(rows)} problems has a rate {block.words}",
            reason=f"{how}: {counted}{spread}",
            remedy="widen difficulty.at_least and at_most, or train on other problems",
        )
    said = f"difficulty, {how}: {len(kept)} of {len(rows)} problems {block.words}"
    return Chosen(kept, [f"{said} ({counted})" if counted else said])
