"""The strict schema of a run: one YAML file, a list of stages. Imports no torch.

What a stage can be stands in `ixt_rl/methods`, the blocks that they have in `ixt_rl/blocks`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.data import WORLDS_OF_TEXT, FileDataBlock, ProblemMixtureBlock
from ixt_rl.blocks.documents import FileCorpusBlock
from ixt_rl.blocks.earlier_names import metric_of_now
from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.blocks.launch import LaunchBlock
from ixt_rl.blocks.model import ModelBlock, SelfChecksBlock
from ixt_rl.blocks.preferences import PairDataBlock
from ixt_rl.blocks.save import SaveBlock
from ixt_rl.blocks.strict import (
    Name,
    Seed,
    Strict,
    Workers,
)
from ixt_rl.config.expectations import ClaimBlock, ExpectationBlock
from ixt_rl.config.first_rows import check_first_rows
from ixt_rl.config.overlap import check_unseen
from ixt_rl.config.paper import PaperBlock
from ixt_rl.config.positions import check_positions, model_positions
from ixt_rl.config.ranks import check_ranks
from ixt_rl.config.rows_of_stages import check_rows_of_stages
from ixt_rl.config.strategies import check_strategy
from ixt_rl.config.suites_of_stages import check_suites
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.methods.registry import AnyStage, spec_of
from ixt_rl.methods.sip import SipStage
from ixt_rl.methods.stage import FROM_MODEL


def _installed(name: str, info: ValidationInfo) -> str:
    checks.needs_backend(name, f"report_to: {name}", info)
    return name


Tracker = Annotated[Literal["trackio", "tensorboard", "wandb", "mlflow"], AfterValidator(_installed)]


def _with_its_fields(stage: AnyStage, info: ValidationInfo) -> AnyStage:
    if not checks.off(info):
        check_first_rows(stage, info)
        check_suites(stage)
    return stage


class RunConfig(Strict):
    """A run: a model, and stages that each take the model of the one before (or of `init`)."""

    name: Name
    output_dir: Annotated[str, AfterValidator(checks.check_output_dir)] = Field(
        "runs", description="the run's folder is output_dir/name"
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(
        [1], description="every online stage is trained once per seed"
    )
    threads: Workers | None = Field(
        None,
        description="CPU threads of torch; default: torch's own choice, within the CPU quota, less the cores on which "
        "engines sample ahead",
    )
    launch: LaunchBlock = LaunchBlock()
    engine: EngineBlock = EngineBlock()
    model: ModelBlock
    self_checks: SelfChecksBlock = SelfChecksBlock()
    report_to: list[Tracker] = Field([], description="trackers that are told every row of metrics.jsonl, and samples")
    stages: Annotated[list[Annotated[AnyStage, AfterValidator(_with_its_fields)]], Field(min_length=1)]
    save: SaveBlock | None = Field(None, description="a card for the run's model, and a place on the hub")
    expect: list[ExpectationBlock] = Field([], description="what the report checks when the run has ended")
    claims: list[ClaimBlock] = Field([], description="what a paper says, shown beside what was measured here")
    paper: PaperBlock | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="the table of a paper that the run stands for (configs/papers); changes nothing of it",
    )

    @model_validator(mode="after")
    def _ahead(self) -> RunConfig:
        for stage in self.stages:
            if stage.in_process_only and self.engine.type != "transformers":
                raise ConfigError(
                    f"engine.type: {self.engine.type} with type: {stage.type} of stage {stage.name}",
                    reason=stage.in_process_only,
                    remedy="set engine.type: transformers",
                )
            if stage.reuses_rollouts and self.engine.staleness:
                raise ConfigError(
                    f"engine.staleness={self.engine.staleness} with steps_per_generation="
                    f"{stage.steps_per_generation}, num_iterations={stage.num_iterations} of stage {stage.name}",
                    reason="batches are sampled ahead update by update",
                    remedy="set staleness: 0, or leave the two at 1",
                )
            again = getattr(stage, "samples_again", "")
            if self.engine.staleness and again:
                raise ConfigError(
                    f"engine.staleness={self.engine.staleness} with {again} of stage {stage.name}",
                    reason="what is sampled next is known only when the groups before are judged",
                    remedy=f"set staleness: 0, or leave {again} out",
                )
        return self

    @model_validator(mode="after")
    def _ranks(self) -> RunConfig:
        check_ranks(self.launch.ranks, self.engine, self.stages)
        check_strategy(self.launch, self.stages)
        return self

    @model_validator(mode="after")
    def _elsewhere(self) -> RunConfig:
        for stage in self.stages:
            if getattr(stage, "backend", None) is None:
                continue
            if self.model.dtype != "bfloat16":
                raise ConfigError(
                    f"model.dtype={self.model.dtype} with backend: {stage.backend} of stage {stage.name}",
                    reason="its trainers hold weights in bfloat16, and its engines compute in it, whatever they are "
                    "asked for",
                    remedy="set model.dtype: bfloat16",
                )
            if self.launch.ranks > 1:
                raise ConfigError(
                    f"launch.ranks={self.launch.ranks} with backend: {stage.backend} of stage {stage.name}",
                    reason="OpenRLHF starts the processes that train",
                    remedy="leave launch out, and set openrlhf.actors of the stage",
                )
        return self

    @model_validator(mode="after")
    def _something_to_save(self) -> RunConfig:
        if self.save is not None and not any(spec_of(stage).makes_model for stage in self.stages):
            raise ConfigError(
                "save without a stage that trains",
                reason="the run makes no model",
                remedy="add one, or leave save out",
            )
        return self

    @property
    def unread(self) -> list[tuple[Strict, str, str, str]]:
        """What other choices leave unread: (block, its key, its path in the file, what does not read it)."""
        found: list[tuple[Strict, str, str, str]] = [
            (self.engine, key, f"engine.{key}", f"engine.type: {self.engine.type}")
            for key in self.engine.unread_sections
        ]
        for stage in self.stages:
            found += [(block, key, f"stages.{stage.name}.{path}", why) for block, key, path, why in stage.unread]
        return found

    @field_validator("stages")
    @classmethod
    def _positions(cls, stages: list[AnyStage], info: ValidationInfo) -> list[AnyStage]:
        model = info.data.get("model")
        positions = None if model is None else model_positions(model)
        if positions is not None:
            for stage in stages:
                check_positions(stage, positions)
        return stages

    @property
    def named(self) -> dict[str, AnyStage]:
        """The stages by name."""
        return {stage.name: stage for stage in self.stages}

    @property
    def first_world(self) -> str | None:
        """The world of the first stage that reads the run's model: a new model may have its vocabulary."""
        data = next((stage.data for stage in self.stages if not spec_of(stage).makes_rows), None)
        return getattr(data, "world", None)

    def starts_from(self, stage: AnyStage) -> AnyStage | None:
        """The stage whose model `stage` takes; None: the run's, which stages that make rows have, too."""
        if stage.init == FROM_MODEL or spec_of(stage).makes_rows:
            return None
        if stage.init is not None:
            return self.named[stage.init]
        before = self.stages[: [one.name for one in self.stages].index(stage.name)]
        return next((other for other in reversed(before) if not spec_of(other).makes_rows), None)

    def made_by(self, stage: AnyStage) -> list[AnyStage]:
        """The stages that made the model that `stage` ends with, itself first."""
        before = self.starts_from(stage)
        return [stage, *(self.made_by(before) if before is not None else [])]

    @model_validator(mode="after")
    def _stage_names(self) -> RunConfig:
        seen: list[str] = []
        measured: list[str] = []  # on suffixes
        for stage in self.stages:
            if stage.name in seen:
                raise ConfigError(
                    f"two stages named {stage.name!r}",
                    reason="a stage's results are filed under its name",
                    remedy="rename one",
                )
            if stage.name == FROM_MODEL:
                raise ConfigError(
                    f"a stage named {stage.name!r}",
                    reason="`init: model` means the run's model block",
                    remedy="rename the stage",
                )
            _check_against(stage.compared_with, stage.name, measured)
            if isinstance(stage, SipStage) and stage.evaluation is not None:
                measured.append(stage.name)
            if stage.init not in (None, FROM_MODEL, *seen):
                raise ConfigError(
                    f"stage {stage.name!r} has init: {stage.init!r}",
                    reason="it must name an earlier stage: " + (", ".join(seen) or "there is none"),
                    remedy="name one of those, or leave init out",
                )
            check_rows_of_stages(stage, self.stages[: len(seen)])
            seen.append(stage.name)
            if self.model.new and stage.renders_chats:
                raise ConfigError(
                    f"stage {stage.name!r} renders chats with model.new.tokenizer={self.model.new.tokenizer}",
                    reason="a new tokenizer has no chat template",
                    remedy="start from a checkpoint whose tokenizer has one (model.path), or give the stage a template "
                    "of plain text (an sft stage on prompts: template: math)",
                )
            if (
                self.model.new
                and self.model.new.tokenizer == "world"
                and isinstance(
                    getattr(stage, "data", None),
                    FileDataBlock | ProblemMixtureBlock | FileCorpusBlock | PairDataBlock,
                )
            ):
                raise ConfigError(
                    f"stage {stage.name!r} reads files with model.new.tokenizer=world",
                    reason="a world's vocabulary cannot write the text of a file",
                    remedy="set model.new.tokenizer: bytes, or start from a checkpoint (model.path)",
                )
            world = getattr(getattr(stage, "data", None), "world", None)
            if self.model.new and self.model.new.tokenizer == "world" and world in WORLDS_OF_TEXT:
                raise ConfigError(
                    f"model.new.tokenizer=world with stage {stage.name!r} on world: {world}",
                    reason="its problems and documents are text: it has no vocabulary of its own",
                    remedy="set model.new.tokenizer: bytes, or start from a checkpoint (model.path)",
                )
        for expectation in [*self.expect, *self.claims]:
            key = "claims" if isinstance(expectation, ClaimBlock) else "expect"
            for name in filter(None, (expectation.stage, expectation.minus, expectation.over)):
                if name not in seen:
                    raise ConfigError(
                        f"{key}: {expectation.metric!r} of stage {name!r}",
                        reason="no stage has that name",
                        remedy=did_you_mean(name, seen) + "name one of: " + ", ".join(seen),
                    )
            now = metric_of_now(expectation.metric)
            if now != expectation.metric and self.named[expectation.stage].type != "python":
                raise ConfigError(
                    f"{key}: {expectation.metric!r} of stage {expectation.stage!r}",
                    reason="the metric has another name now",
                    remedy=f"write {now}",
                )
        for row in () if self.paper is None else self.paper.rows:
            if row.stage not in seen:
                raise ConfigError(
                    f"paper: a row of stage {row.stage!r}",
                    reason="no stage has that name",
                    remedy=did_you_mean(row.stage, seen) + "name one of: " + ", ".join(seen),
                )
        for stage in self.stages:
            check_unseen(stage, self.made_by(stage), self.named)
        if len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(
                f"seeds={self.seeds} holds one twice",
                reason="equal seeds give equal runs, not independent ones",
                remedy="list each seed once",
            )
        return self


def _check_against(name: str | None, stage: str, measured: list[str]) -> None:
    """Raises ConfigError unless `name` is None or an earlier stage whose continuations are kept."""
    if name is not None and name not in measured:
        raise ConfigError(
            f"stage {stage!r} has evaluation.against: {name!r}",
            reason="it must name an earlier sip stage with an evaluation: " + (", ".join(measured) or "there is none"),
            remedy=did_you_mean(name, measured) + "leave it out to compare with the documents' own suffixes",
        )
