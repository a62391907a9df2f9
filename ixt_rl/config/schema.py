"""The strict schema of a run: one YAML file, a list of stages. Imports no torch.

What a stage can be stands in `ixt_rl/methods`, the blocks that they have in `ixt_rl/blocks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.blocks.launch import LaunchBlock
from ixt_rl.blocks.model import ModelBlock, SelfChecksBlock
from ixt_rl.blocks.save import SaveBlock
from ixt_rl.blocks.strict import (
    Name,
    Seed,
    Strict,
    Workers,
)
from ixt_rl.config.at_odds import (
    below,
    beyond_openrlhf,
    beyond_the_engine,
    beyond_the_model,
    beyond_the_ranks,
    names_twice,
    results_not_there,
    rows_not_there,
    stages_not_there,
)
from ixt_rl.config.expectations import ClaimBlock, ExpectationBlock
from ixt_rl.config.first_rows import check_first_rows
from ixt_rl.config.overlap import refused_by_unseen
from ixt_rl.config.paper import PaperBlock
from ixt_rl.config.problems import BlocksAtOdds, Refused
from ixt_rl.config.suites_of_stages import check_suites
from ixt_rl.errors import ConfigError
from ixt_rl.methods.registry import AnyStage, spec_of
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
    claims: list[ClaimBlock] = Field([], description="what a paper says, or you, shown beside what was measured here")
    paper: PaperBlock | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="the table of a paper that the run stands for (configs/papers); changes nothing of it",
    )

    @model_validator(mode="after")
    def _agree(self) -> RunConfig:
        """What blocks refuse of each other, all of it at once; names first, since the rest goes by them."""
        for found in (names_twice(self.stages, self.seeds), self._not_there(), self._at_odds()):
            if refused := list(found):
                raise BlocksAtOdds(refused)
        return self

    def _not_there(self) -> Iterator[Refused]:
        yield from stages_not_there(self.stages)
        yield from results_not_there(self.stages, "expect", self.expect)
        yield from results_not_there(self.stages, "claims", self.claims)
        yield from rows_not_there(self.stages, self.paper)

    def _at_odds(self) -> Iterator[Refused]:
        yield from beyond_the_model(self.model, self.stages)
        yield from beyond_the_engine(self.engine, self.stages)
        yield from beyond_the_ranks(self.launch, self.engine, self.stages)
        yield from beyond_openrlhf(self.model.dtype, self.launch.ranks, self.stages)
        for index, stage in enumerate(self.stages):
            yield from below(index, refused_by_unseen(stage, self.made_by(stage), self.named))
        if self.save is not None and not any(spec_of(stage).makes_model for stage in self.stages):
            yield (
                ("save",),
                ConfigError(
                    "save without a stage that trains",
                    reason="the run makes no model",
                    remedy="add one, or leave save out",
                ),
            )

    @property
    def unread(self) -> list[tuple[Strict, str, str, str]]:
        """What other choices leave unread: (block, its key, its path in the file, what does not read it)."""
        found: list[tuple[Strict, str, str, str]] = [
            (self.engine, key, f"engine.{key}", f"engine.type: {self.engine.type}")
            for key in self.engine.unread_sections
        ]
        found += [
            (self.engine, key, f"engine.{key}", f"a run of which no stage {does} what an engine sampled")
            for key, does in (("correction", "weighs here"), ("staleness", "trains here on"))
            if key not in self.engine.unread_sections and not any(key in stage.reads_of_engine for stage in self.stages)
        ]
        for stage in self.stages:
            found += [(block, key, f"stages.{stage.name}.{path}", why) for block, key, path, why in stage.unread]
        return found

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
