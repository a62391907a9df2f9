"""What the blocks of a run file refuse of each other: every problem, with the path of its key. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ixt_rl.blocks.data import WORLDS_OF_TEXT, FileDataBlock, ProblemMixtureBlock
from ixt_rl.blocks.documents import FileCorpusBlock
from ixt_rl.blocks.earlier_names import metric_of_now
from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.blocks.launch import LaunchBlock
from ixt_rl.blocks.model import ModelBlock
from ixt_rl.blocks.preferences import PairDataBlock
from ixt_rl.config.expectations import ExpectationBlock
from ixt_rl.config.paper import PaperBlock
from ixt_rl.config.positions import model_positions, refused_by_positions
from ixt_rl.config.problems import Refused
from ixt_rl.config.ranks import refused_by_ranks
from ixt_rl.config.rows_of_stages import refused_by_rows_of_stages
from ixt_rl.config.strategies import refused_by_strategy
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.methods.sip import SipStage
from ixt_rl.methods.stage import FROM_MODEL

if TYPE_CHECKING:
    from ixt_rl.methods.registry import AnyStage


def below(index: int, refused: Iterator[Refused]) -> Iterator[Refused]:
    """What is refused of a stage, with the paths of the file."""
    yield from ((("stages", index, *path), error) for path, error in refused)


def names_twice(stages: Sequence[AnyStage], seeds: Sequence[int]) -> Iterator[Refused]:
    """Names and seeds that cannot stand for one thing."""
    seen: list[str] = []
    for index, stage in enumerate(stages):
        if stage.name in seen:
            yield (
                ("stages", index, "name"),
                ConfigError(
                    f"two stages named {stage.name!r}",
                    reason="a stage's results are filed under its name",
                    remedy="rename one",
                ),
            )
        if stage.name == FROM_MODEL:
            yield (
                ("stages", index, "name"),
                ConfigError(
                    f"a stage named {stage.name!r}",
                    reason="`init: model` means the run's model block",
                    remedy="rename the stage",
                ),
            )
        seen.append(stage.name)
    if len(set(seeds)) != len(seeds):
        yield (
            ("seeds",),
            ConfigError(
                f"seeds={seeds} holds one twice",
                reason="equal seeds give equal runs, not independent ones",
                remedy="list each seed once",
            ),
        )


def stages_not_there(stages: Sequence[AnyStage]) -> Iterator[Refused]:
    """Earlier stages that a stage names and that are not there, or not of the kind."""
    measured: list[str] = []  # on suffixes
    for index, stage in enumerate(stages):
        earlier = stages[:index]
        names = [one.name for one in earlier]
        against = stage.compared_with
        if against is not None and against not in measured:
            yield (
                ("stages", index, "evaluation", "against"),
                ConfigError(
                    f"stage {stage.name!r} has evaluation.against: {against!r}",
                    reason="it must name an earlier sip stage with an evaluation: "
                    + (", ".join(measured) or "there is none"),
                    remedy=did_you_mean(against, measured) + "leave it out to compare with the documents' own suffixes",
                ),
            )
        if isinstance(stage, SipStage) and stage.evaluation is not None:
            measured.append(stage.name)
        if stage.init not in (None, FROM_MODEL, *names):
            yield (
                ("stages", index, "init"),
                ConfigError(
                    f"stage {stage.name!r} has init: {stage.init!r}",
                    reason="it must name an earlier stage: " + (", ".join(names) or "there is none"),
                    remedy="name one of those, or leave init out",
                ),
            )
        yield from below(index, refused_by_rows_of_stages(stage, earlier))


def results_not_there(
    stages: Sequence[AnyStage], key: str, expectations: Sequence[ExpectationBlock]
) -> Iterator[Refused]:
    """Stages and metrics that `expect` or `claims` names and that there are not."""
    types = {stage.name: stage.type for stage in stages}
    for index, one in enumerate(expectations):
        for place in ("stage", "minus", "over"):
            name = getattr(one, place)
            if name and name not in types:
                yield (key, index, place), _no_stage(f"{one.metric!r} of stage {name!r}", name, list(types))
        now = metric_of_now(one.metric)
        if now != one.metric and types.get(one.stage) not in (None, "python"):
            yield (
                (key, index, "metric"),
                ConfigError(
                    f"{one.metric!r} of stage {one.stage!r}",
                    reason="the metric has another name now",
                    remedy=f"write {now}",
                ),
            )


def rows_not_there(stages: Sequence[AnyStage], paper: PaperBlock | None) -> Iterator[Refused]:
    """Stages that the table of a paper names and that there are not."""
    names = [stage.name for stage in stages]
    for index, row in enumerate(() if paper is None else paper.rows):
        if row.stage not in names:
            yield ("paper", "rows", index, "stage"), _no_stage(f"a row of stage {row.stage!r}", row.stage, names)


def _no_stage(what: str, name: str, names: list[str]) -> ConfigError:
    return ConfigError(
        what,
        reason="no stage has that name",
        remedy=did_you_mean(name, names) + "name one of: " + ", ".join(names),
    )


def beyond_the_model(model: ModelBlock, stages: Sequence[AnyStage]) -> Iterator[Refused]:
    """What stages ask of a model that it does not have: positions, a chat template, words for their text."""
    positions = model_positions(model)
    for index, stage in enumerate(stages):
        if positions is not None:
            yield from below(index, refused_by_positions(stage, positions))
        if model.new is None:
            continue
        if stage.renders_chats:
            yield (
                ("stages", index, "template"),
                ConfigError(
                    f"stage {stage.name!r} renders chats with model.new.tokenizer={model.new.tokenizer}",
                    reason="a new tokenizer has no chat template",
                    remedy="give the stage a template of plain text, such as template: math, or start from a "
                    "checkpoint whose tokenizer has one (model.path)",
                ),
            )
        if model.new.tokenizer == "world":
            yield from ((("stages", index, "data"), error) for error in _without_words(stage))


def _without_words(stage: AnyStage) -> Iterator[ConfigError]:
    """What a world's vocabulary cannot write."""
    data = getattr(stage, "data", None)
    if isinstance(data, FileDataBlock | ProblemMixtureBlock | FileCorpusBlock | PairDataBlock):
        yield ConfigError(
            f"stage {stage.name!r} reads files with model.new.tokenizer=world",
            reason="a world's vocabulary cannot write the text of a file",
            remedy="set model.new.tokenizer: bytes, or start from a checkpoint (model.path)",
        )
    world = getattr(data, "world", None)
    if world in WORLDS_OF_TEXT:
        yield ConfigError(
            f"model.new.tokenizer=world with stage {stage.name!r} on world: {world}",
            reason="its problems and documents are text: it has no vocabulary of its own",
            remedy="set model.new.tokenizer: bytes, or start from a checkpoint (model.path)",
        )


def beyond_the_engine(engine: EngineBlock, stages: Sequence[AnyStage]) -> Iterator[Refused]:
    """Stages that the engine of the run cannot serve as it is set."""
    for stage in stages:
        if stage.in_process_only and engine.type != "transformers":
            yield (
                ("engine", "type"),
                ConfigError(
                    f"engine.type: {engine.type} with type: {stage.type} of stage {stage.name}",
                    reason=stage.in_process_only,
                    remedy="set engine.type: transformers",
                ),
            )
        if engine.staleness:
            yield from ((("engine", "staleness"), error) for error in _not_ahead(engine.staleness, stage))


def _not_ahead(staleness: int, stage: Any) -> Iterator[ConfigError]:
    """What keeps a stage from being sampled ahead."""
    if stage.reuses_rollouts:
        yield ConfigError(
            f"engine.staleness={staleness} with steps_per_generation="
            f"{stage.steps_per_generation}, num_iterations={stage.num_iterations} of stage {stage.name}",
            reason="batches are sampled ahead update by update",
            remedy="set staleness: 0, or leave the two at 1",
        )
    again = getattr(stage, "samples_again", "")
    if again:
        yield ConfigError(
            f"engine.staleness={staleness} with {again} of stage {stage.name}",
            reason="what is sampled next is known only when the groups before are judged",
            remedy=f"set staleness: 0, or leave {again} out",
        )


def beyond_the_ranks(launch: LaunchBlock, engine: EngineBlock, stages: Sequence[AnyStage]) -> Iterator[Refused]:
    """What ranks cannot share, and what they cannot hold as they hold weights."""
    yield from refused_by_ranks(launch.ranks, engine, stages)
    yield from refused_by_strategy(launch, stages)


def beyond_openrlhf(dtype: str, ranks: int, stages: Sequence[AnyStage]) -> Iterator[Refused]:
    """What the run sets and its stages of another backend cannot have."""
    for stage in stages:
        backend = getattr(stage, "backend", None)
        if backend is None:
            continue
        if dtype != "bfloat16":
            yield (
                ("model", "dtype"),
                ConfigError(
                    f"model.dtype={dtype} with backend: {backend} of stage {stage.name}",
                    reason="its trainers hold weights in bfloat16, and its engines compute in it, whatever they are "
                    "asked for",
                    remedy="set model.dtype: bfloat16",
                ),
            )
        if ranks > 1:
            yield (
                ("launch", "ranks"),
                ConfigError(
                    f"launch.ranks={ranks} with backend: {backend} of stage {stage.name}",
                    reason="OpenRLHF starts the processes that train",
                    remedy="leave launch out, and set openrlhf.actors of the stage",
                ),
            )
