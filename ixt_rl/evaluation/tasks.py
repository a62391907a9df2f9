"""A stage's problems with everything that prompts and measures them: worlds and files, one interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ixt_rl.blocks.data import PrefixDataBlock, ProblemMixtureBlock, WorldDataBlock
from ixt_rl.blocks.rows import source_names
from ixt_rl.conditioning.own_template import OwnPromptTemplate
from ixt_rl.conditioning.prompts import OF_MESSAGES, PromptTemplate, load_template
from ixt_rl.conditioning.told import COLUMNS, IsWrong, NothingToTell, Telling, differs, told_others
from ixt_rl.data.fields import question_text
from ixt_rl.data.mixture import alike, interleaved
from ixt_rl.data.prefixes import load_prefixes
from ixt_rl.data.questions import load_problems
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.rewards.calling import reward_arguments
from ixt_rl.types import Feedback, Grade
from ixt_rl.worlds import WORLDS
from ixt_rl.worlds.documents import target_of
from ixt_rl.worlds.text_grade import grader_of

if TYPE_CHECKING:
    from ixt_rl.blocks.data import FileDataBlock
    from ixt_rl.blocks.template import PromptBlock
    from ixt_rl.rewards import MathReward

Template = PromptTemplate | OwnPromptTemplate

Measure = Callable[[Sequence[dict[str, Any]], Sequence[Sequence[int]], Sequence[str]], list[dict[str, float | None]]]
"""(rows, completion ids, completion texts), one of each a completion -> its named values; None does not count.

Many are asked for at once, because a judge on a server answers many at once."""

EVAL_SEED = 99
TOLD_POOL = 200
"""Problems of a world whose answers are told where a wrong or a random one is asked for."""


@dataclass(frozen=True)
class Task:
    """Rows carry `question`, `answer`, `prompt` (x) and `told_prompt` (x (+) y, if the template tells it), and
    `told_columns`.

    Args:
        train_rows: `(count, seed) -> rows`, drawn anew for a world, the file's rows otherwise.
        eval_rows: `count -> rows`, disjoint from training; None: all that a file has (a world has no end).
        measure: what evaluation reports of completions.
        grader: a world's full grade; None for files.
        target: what a world's judge says of a solution of that level to a question; None where there is no such judge.
        chat_template_kwargs: variables of the chat template that prompts are rendered with.
        extracted: the final answer that is judged of a completion's text, or None; None where none is extracted.
        golds: of a file's gold answers, counts by kind and of those dropped; empty where none are judged.
        notes: what was left out of the data, in words.
        sources: names of a mixture's sources, whose rows say in `source` which one they come from; else empty.
        told_columns: of the rows, those with further told prompts (`conditioning.told`).
    """

    train_rows: Callable[[int, int], list[dict[str, Any]]]
    eval_rows: Callable[[int | None], list[dict[str, Any]]]
    measure: Measure
    grader: Callable[[dict[str, Any], Sequence[int]], Grade] | None
    target: Callable[[str, int], Feedback] | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    extracted: Callable[[str], str | None] | None = None
    golds: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    sources: Sequence[str] = ()
    told_columns: Sequence[str] = ()

    @property
    def gold_kinds(self) -> dict[str, Any]:
        """What a stage's result says of the golds; nothing where none are judged."""
        return {"golds": dict(self.golds)} if self.golds else {}


def make_task(
    data: WorldDataBlock | FileDataBlock | ProblemMixtureBlock | PrefixDataBlock,
    template: str | PromptBlock | None,
    judge: Callable[..., Any] | None = None,
    tokenizer: Any = None,
    *,
    measured_only: bool = False,
    told: Sequence[Telling] = (),
) -> Task:
    """The task of a stage's `data` and `template`.

    Args:
        data: a world, a file of problems or several, or prefixes of documents.
        template: prompts; None for the world's, `math`, or for prefixes the text as it is.
        judge: reward function that measures completions of file data; default: `MathReward()`. Prefixes need one.
        tokenizer: the policy's; prefixes are cut in its tokens, completions graded in a world of text, and templates
            may not spell out its control tokens.
        measured_only: no row of the data is trained on, so that a file with `eval_rows: 0` is measured whole.
        told: kinds of further told prompts that rows shall have: told a `wrong` answer, a `random` one, or nothing in
            the told prompt's `form` (columns `told_wrong_prompt`, ...; see `conditioning.told`).

    Raises:
        ConfigError: prefixes without a judge, or with a template.
        DataError: the file cannot be used (see `load_rows`), a gold answer cannot be parsed, or there is no other
            answer that a row could be told.
    """
    if isinstance(data, PrefixDataBlock):
        task, rendering = _prefix_task(data, template, judge, tokenizer, told)
    elif isinstance(data, WorldDataBlock):
        task, rendering = _world_task(data, template, tokenizer, told)
    elif isinstance(data, ProblemMixtureBlock):
        task, rendering = _mixture_task(data, template, judge, measured_only, told)
    else:
        task, rendering = _file_task(data, template, judge, measured_only, told)
    if tokenizer is not None:
        rendering.check(tokenizer)
    return replace(task, told_columns=[COLUMNS[kind] for kind in told])


@dataclass(frozen=True)
class _Rendering:
    """How rows get their prompts.

    Args:
        template: renders them.
        told: kinds of further told prompts.
        pool: rows whose answers those tell.
        is_wrong: see `told_others`.
    """

    template: Template
    told: Sequence[Telling] = ()
    pool: Sequence[dict[str, Any]] = ()
    is_wrong: IsWrong = differs

    def __call__(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows with their prompts; a question in messages is text from here on, for rewards and samples."""
        return [{**row, "question": question_text(row["question"]), **self._prompts(row)} for row in rows]

    def _prompts(self, row: dict[str, Any]) -> dict[str, Any]:
        if isinstance(self.template, PromptTemplate) and self.template.told is None:
            return {"prompt": self.template.ask(row["question"], row)}
        prompt, told = self.template.render(row["question"], row["answer"], row)
        others = told_others(row, told, self.template, self.pool, self.told, self.is_wrong)
        return {"prompt": prompt, "told_prompt": told, **others}


def _world_task(data: WorldDataBlock, template_spec, tokenizer: Any, told: Sequence[Telling]) -> tuple[Task, Template]:
    world = WORLDS[data.world](data.view)
    grade = grader_of(world, tokenizer)
    template = load_template(template_spec, world.template)
    render = _Rendering(template, told, world.rows("train", TOLD_POOL, EVAL_SEED) if told else [])

    def grader(row: dict[str, Any], completion_ids: Sequence[int]) -> Grade:
        return grade(row["question"], completion_ids)

    def measured(row: dict[str, Any], completion_ids: Sequence[int]) -> dict[str, float | None]:
        grade = grader(row, completion_ids)
        return {
            "checked": float(grade.checked),
            "strict": float(grade.strict),
            "lucky_of_checked": float(grade.lucky) if grade.checked else None,
            "reasoned": float(grade.reasoned),
            **{name: float(value) for name, value in grade.extra.items()},
        }

    task = Task(
        train_rows=lambda count, seed: render(world.rows("train", count, seed)),
        eval_rows=lambda count: render(world.rows("eval", count, EVAL_SEED)),
        measure=lambda rows, ids, texts: [measured(row, own) for row, own in zip(rows, ids, strict=True)],
        grader=grader,
        target=target_of(world) if hasattr(world, "target") else None,
        chat_template_kwargs=template.chat_template_kwargs,
    )
    return task, template


def _file_task(
    data: FileDataBlock,
    template_spec,
    judge: Callable[..., Any] | None,
    measured_only: bool,
    told: Sequence[Telling],
) -> tuple[Task, Template]:
    from ixt_rl.rewards import MathReward

    score: Callable[..., Any] = judge or MathReward()
    problems = load_problems(data, measured_only=measured_only)
    train, held_out = problems.train, problems.held_out
    first = [*train, *held_out][0]  # all rows' questions are of one kind
    template = load_template(template_spec, OF_MESSAGES if isinstance(first["question"], list) else "math")
    golds: dict[str, Any] = {}
    extracted = None
    is_wrong: IsWrong = differs
    if isinstance(score, MathReward):
        train, held_out, golds = _with_golds(train, held_out, score, data)
        extracted, is_wrong = score.extracted, _known_to_be_wrong
    render = _Rendering(template, told, [*train, *held_out], is_wrong)
    task = _scored_task(render(train), render(held_out), score, template)
    return replace(task, golds=golds, notes=problems.notes, extracted=extracted), template


def _known_to_be_wrong(answer: str, gold: Any) -> bool:
    """By the rules that math is judged by, as far as they decide at once."""
    from ixt_rl.rewards.math.compare import NeedsWorker, compare
    from ixt_rl.rewards.math.golds import parse_gold

    try:
        return compare(parse_gold(gold), answer).right is False
    except NeedsWorker:
        return False


def _mixture_task(
    data: ProblemMixtureBlock,
    template_spec,
    judge: Callable[..., Any] | None,
    measured_only: bool,
    told: Sequence[Telling],
) -> tuple[Task, Template]:
    """One task of all sources: rows for evaluation are spread evenly, so that a part of them has a part of each.

    Raises:
        DataError: prompts are text in one source and messages in another: a batch is either.
    """
    names = source_names(data.sources)
    tasks: list[Task] = []
    renderings: list[Template] = []
    train: list[list[dict[str, Any]]] = []
    held_out: list[list[dict[str, Any]]] = []
    for name, source in zip(names, data.sources, strict=True):
        with _naming(name):
            task, rendering = _file_task(source, template_spec, judge, measured_only, told)
            train.append([{**row, "source": name} for row in task.train_rows(0, 0)])
            held_out.append([{**row, "source": name} for row in task.eval_rows(None)])
        tasks.append(task)
        renderings.append(rendering)
    chats = [isinstance([*rows, *aside][0]["prompt"], list) for rows, aside in zip(train, held_out, strict=True)]
    if any(chats) and not all(chats):
        raise DataError(
            f"prompts of {names[chats.index(True)]} are messages, those of {names[chats.index(False)]} text",
            reason="the prompts of a batch are one or the other",
            remedy="give the stage a template that renders both as messages (chat: true)",
        )
    aligned = alike([*train, *held_out])
    rows, aside = [row for rows in aligned[: len(names)] for row in rows], interleaved(aligned[len(names) :])
    task = replace(
        tasks[0],
        train_rows=lambda count, seed: rows,
        eval_rows=lambda count: aside[:count],
        golds=_together([task.golds for task in tasks]),
        notes=[f"{name}: {note}" for name, task in zip(names, tasks, strict=True) for note in task.notes],
        sources=names,
    )
    return task, renderings[0]


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Where a row of a source has nothing to be told, the error says of which."""
    try:
        yield
    except NothingToTell as error:
        raise NothingToTell(
            error.kind, f"source {source}: {error.what}", reason=error.reason, remedy=error.remedy
        ) from error


def _together(golds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts of several sources' gold answers as those of one; empty where none are judged."""
    found = [one for one in golds if one]
    if not found:
        return {}
    kinds, reasons = (sum((Counter(one[name]) for one in found), Counter()) for name in ("kinds", "reasons"))
    return {"kinds": dict(kinds), "dropped": sum(one["dropped"] for one in found), "reasons": dict(reasons)}


def _with_golds(
    train: list[dict[str, Any]], held_out: list[dict[str, Any]], reward: MathReward, data: FileDataBlock
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """The rows whose gold answer can be judged, and counts by kind of gold.

    Raises:
        DataError: a gold that cannot be judged with `on_bad_gold: refuse`, or none that can.
    """
    from ixt_rl.rewards import check_golds, typed_golds

    rows = [*train, *held_out]
    if reward.on_bad_gold == "refuse":
        check_golds(rows)
    kept, _, report = typed_golds(rows)
    needed = train or held_out  # without rows to train on, those that are measured
    if not any((at < len(train)) == bool(train) for at in kept):
        raise DataError(
            f"{data.called}: none of the {len(needed)} gold answers can be judged",
            reason=report.dropped[0][2] if report.dropped else "there are no rows",
            remedy="map data.answer to the column with the final answer, or set data.answer_extract",
        )
    return [rows[at] for at in kept if at < len(train)], [rows[at] for at in kept if at >= len(train)], report.summary


def _prefix_task(
    data: PrefixDataBlock,
    template_spec,
    judge: Callable[..., Any] | None,
    tokenizer: Any,
    told: Sequence[Telling],
) -> tuple[Task, Template]:
    if judge is None or template_spec is not None:
        raise ConfigError(
            f"prefixes of {data.called} with " + ("no judge" if judge is None else "a template"),
            reason="how a text goes on is no answer to be computed" if judge is None else "a prefix is its own prompt",
            remedy="give the stage a {type: judge, ...} or {type: continuation} reward"
            if judge is None
            else "leave template out",
        )
    template, (train, held_out) = load_template("plain", "plain"), load_prefixes(data, tokenizer)
    render = _Rendering(template, told, [*train, *held_out])
    return _scored_task(render(train), render(held_out), judge), template


def _scored_task(
    train: list[dict[str, Any]],
    held_out: list[dict[str, Any]],
    score: Callable[..., Any],
    template: Template | None = None,
) -> Task:
    def measure(
        rows: Sequence[dict[str, Any]], completion_ids: Sequence[Sequence[int]], texts: Sequence[str]
    ) -> list[dict[str, float | None]]:
        values = score(**reward_arguments(rows, texts, completion_ids))
        return [
            {"checked": value, "checked_lower": value or 0.0, "undecided": float(value is None)} for value in values
        ]

    return Task(
        train_rows=lambda count, seed: train,
        eval_rows=lambda count: held_out[:count],
        measure=measure,
        grader=None,
        chat_template_kwargs=template.chat_template_kwargs if template else {},
    )
