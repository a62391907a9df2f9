"""Reward functions of a stage, each behind the guard."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ixt_rl.blocks.data import WorldDataBlock, problem_files
from ixt_rl.blocks.judges import AsksJudgeBlock
from ixt_rl.blocks.keeping import deciding, reward_names
from ixt_rl.blocks.rewards import MathRewardBlock, WorldRewardBlock
from ixt_rl.errors import ConfigError
from ixt_rl.judging import AnswerOpinion, FunctionBackend, Judge, JudgeReward, Reply, VerdictReward, load_rubric
from ixt_rl.judging.continuation import continuation_reward
from ixt_rl.judging.opening import load_function, open_judge, parse_judge
from ixt_rl.ledger import Ledger
from ixt_rl.methods.online import OnlineStage
from ixt_rl.place import follows
from ixt_rl.rewards import GuardedReward, MathReward, RewardBudget, format_reward, length_reward
from ixt_rl.rewards.calling import RewardFunction, in_parts
from ixt_rl.rewards.math.verifier import completion_text
from ixt_rl.rewriting import RewriteReward
from ixt_rl.run.folder import FAILURES
from ixt_rl.run.ranks.reward import AskedByRankZero
from ixt_rl.run.ranks.team import ALONE, Ranks
from ixt_rl.types import SamplingParams
from ixt_rl.under_way import WatchUnderWay
from ixt_rl.worlds import WORLDS
from ixt_rl.worlds.text_grade import is_of_text

_SAYS_RIGHT = ("math", "python", "judge", "continuation", "verdict", "rewrite")
_REWRITE_COLUMNS = ("prefix", "suffix", "original", "good")


@dataclass(frozen=True)
class Rewards:
    """A stage's rewards, made once.

    Args:
        functions: in the stage's order.
        guarded: the same behind the guard, as training calls them.
        measure: the one that says right or wrong, as evaluation of files calls it; None where none does.
    """

    functions: list[Callable[..., Any]]
    guarded: list[GuardedReward]
    measure: Callable[..., Any] | None

    def result(self) -> tuple[int, list[str]]:
        """(calls that failed, what to say of them and of what judges' servers do not take)."""
        failed = [reward for reward in self.guarded if reward.failures]
        notes = [f"{r.__name__}: {r.failures} of {r.samples} calls failed, last: {r.last_error}" for r in failed]
        of_judges = [note for judge in judges(self.functions) for note in judge.notes]
        return sum(reward.failures for reward in failed), [*notes, *of_judges]


def open_rewards(stage: OnlineStage, folder: Path, ranks: Ranks = ALONE, watch: WatchUnderWay | None = None) -> Rewards:
    """The stage's rewards, their judges started (on rank 0 alone); samples that fail go to files in `folder`, and
    `watch` is told what the judges write."""
    functions = reward_functions(stage)
    for judge in judges(functions):
        judge.backend.watch = watch
    behind: list[Any] = guarded(stage, functions, folder / FAILURES, ranks)
    if ranks.size > 1:
        behind = [AskedByRankZero(r, ranks) if judges([f]) else r for r, f in zip(behind, functions, strict=True)]
    return Rewards(
        functions,
        behind,
        measuring(stage, functions, folder / "evaluation_failures.jsonl"),
    )


def reward_functions(stage: OnlineStage) -> list[Callable[..., Any]]:
    """The stage's reward functions, in its order."""
    return [_function(spec, stage) for spec in stage.rewards]


def guarded(
    stage: OnlineStage, functions: list[Callable[..., Any]], failures_path: Path, ranks: Ranks = ALONE
) -> list[GuardedReward]:
    """Each function behind the guard; failed samples go to `failures_path`, those of all `ranks` by the first of them.
    Where a judge is asked, the first rank alone calls."""
    budget = RewardBudget(stage.reward_errors.max_share, stage.reward_errors.max_total)
    return [
        GuardedReward(
            function, name, budget, failures_path, stage.reward_errors.deadline_s,
            of_all=(ALONE if judges([function]) else ranks).gathered, writes=ranks.leads,
        )
        for function, name in zip(functions, reward_names(stage.rewards), strict=True)
    ]  # fmt: skip


def judge_of(stage: OnlineStage, functions: list[Callable[..., Any]]) -> Callable[..., Any] | None:
    """The reward that says right or wrong, which evaluation of files uses too: of those that decide what is kept (grpo:
    that would by default) the first, else the first there is."""
    section = stage.kept_by
    first = deciding(stage.rewards, section.keep if section else None)
    for place in [*first, *range(len(functions))]:
        if stage.rewards[place].type in _SAYS_RIGHT:
            return functions[place]
    return None


def measuring(stage: OnlineStage, functions: list[Callable[..., Any]], failures: Path) -> Callable[..., Any] | None:
    """`judge_of` as evaluation calls it: what fails, or outlasts its deadline, is undecided, and saved in `failures`.

    It is asked for as many samples at once as a step has, which is what deadlines are for. An evaluation says which
    share is undecided: the total of failures alone is limited. `MathReward` has deadlines of its own.
    """
    judge = judge_of(stage, functions)
    if judge is None or isinstance(judge, MathReward):
        return judge
    name = f"{reward_names(stage.rewards)[functions.index(judge)]}, in evaluation"
    budget = RewardBudget(max_share=1.0, max_total=stage.reward_errors.max_total)
    return in_step_parts(stage, GuardedReward(judge, name, budget, failures, stage.reward_errors.deadline_s))


def in_step_parts(stage: OnlineStage, reward: RewardFunction) -> RewardFunction:
    """`reward`, asked for as many samples at once as training samples at once: `reward_errors` is for as many."""
    return in_parts(reward, stage.rollouts_until(1))


def _function(spec, stage: OnlineStage) -> Callable[..., Any]:
    if isinstance(spec, WorldRewardBlock):
        assert isinstance(stage.data, WorldDataBlock)
        return world_reward(stage.data)
    if spec.type == "math":
        return math_reward(spec)
    if spec.type == "format":
        return format_reward(spec.pattern)
    if spec.type == "length":
        return length_reward(spec.soft, spec.hard)
    if spec.type == "judge":
        return JudgeReward(started_judge(spec), load_rubric(spec.rubric))
    if spec.type == "continuation":
        return continuation_reward(spec.words)
    if spec.type == "verdict":
        _require_columns(stage, "verdict", ())
        return VerdictReward(load_rubric(spec.rubric), unreadable=spec.unreadable, limit=stage.sampling.max_new_tokens)
    if spec.type == "rewrite":
        _require_columns(stage, "rewrite", _REWRITE_COLUMNS)
        judge = started_judge(spec, spec.repeats)
        return RewriteReward(judge, unreadable=spec.unreadable, limit=stage.sampling.max_new_tokens)
    return python_reward(spec.path)


def math_reward(spec: MathRewardBlock) -> MathReward:
    """The reward for mathematical answers, with its judge started if it names one."""
    judge = AnswerOpinion(started_judge(spec.judge), load_rubric(spec.judge.rubric)) if spec.judge else None
    return MathReward(
        deadline_s=spec.deadline_s, workers=spec.workers, extract=spec.extract, last_line=spec.last_line,
        tolerance=spec.tolerance, on_bad_gold=spec.on_bad_gold, judge=judge,
    )  # fmt: skip


def world_reward(data: WorldDataBlock) -> Callable[..., list[float]]:
    """1 where the world finds the answer right in the stage's view, else 0."""
    world: Any = WORLDS[data.world](data.view)

    def reward(prompts, completions, completion_ids, question, **kwargs) -> list[float]:
        if is_of_text(world):
            texts = map(completion_text, completions)
            return [float(world.grade_text(q, text).checked) for q, text in zip(question, texts, strict=True)]
        return [float(world.grade(q, ids).checked) for q, ids in zip(question, completion_ids, strict=True)]

    return reward


def started_judge(section: AsksJudgeBlock, repeats: int = 1) -> Judge:
    """The judge that a reward names, started; it is closed when the process ends.

    Raises:
        ConfigError, BackendMissing: it cannot be started.
    """
    sampling = SamplingParams(section.max_new_tokens, section.temperature, seed=0)
    spec = parse_judge(section.judge, section.options, parameters=section.judge_parameters)
    if follows():
        return Judge(FunctionBackend(_not_asked, name=section.judge), sampling, repeats=repeats)
    spec.check(sampling)
    opened = open_judge(spec, sampling)
    atexit.register(opened.__exit__)
    return Judge(opened.backend, sampling, repeats=repeats, parameters=spec.model_parameters())


def _not_asked(fields: Mapping[str, str]) -> None:
    """Stands where rank 0 asks for all."""


def count_judges(functions: Sequence[Callable[..., Any]], ledger: Ledger) -> None:
    """From now on, what the judges behind these rewards read and write is in the ledger, by their own size."""
    for judge in judges(functions):
        judge.on_reply = partial(_count, ledger, judge)


def judges(functions: Sequence[Callable[..., Any]]) -> list[Judge]:
    """The judges behind rewards."""
    opinions = [getattr(getattr(function, "third_opinion", None), "judge", None) for function in functions]
    found = [getattr(asking, "judge", None) for asking in (*functions, *opinions)]
    return [judge for judge in found if isinstance(judge, Judge)]


def _count(ledger: Ledger, judge: Judge, reply: Reply) -> None:
    ledger.asked(reply.prompt_tokens + reply.completion_tokens, judge.parameters)


def _require_columns(stage: OnlineStage, reward: str, columns: tuple[str, ...]) -> None:
    """Raises ConfigError unless the stage's rows come from a file, with these columns."""
    kind = "judge" if reward == "verdict" else "rewriter"
    files = problem_files(stage.data)
    if not files:
        raise ConfigError(
            f"stage {stage.name}: a `{reward}` reward without a file of rows",
            reason="what is right stands in its rows",
            remedy=f"give data.path the rows that `ixt-rl examples {kind}` wrote",
        )
    lacking = next((one for one in files if set(columns) - {*one.columns}), None)
    if lacking is not None:
        missing = [name for name in columns if name not in lacking.columns]
        raise ConfigError(
            f"stage {stage.name}: data.columns={lacking.columns} of {lacking.called} with a `{reward}` reward",
            reason=f"it reads {', '.join(missing)} of each row, too",
            remedy=f"set data.columns: [{', '.join(columns)}]",
        )


def python_reward(path: str) -> Callable[..., Any]:
    """The function named by `FILE.py:FUNCTION` or `package.module:FUNCTION`; a file may import what lies beside it.

    Raises:
        ConfigError: the file cannot be imported, or has no such function.
    """
    return load_function(path, "reward")
