"""The strict schema of a run: one YAML file, a list of stages. Imports no torch.

The blocks that stages share are in `sections.py`, stages that train on documents in `documents.py`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from ixt_rl.config import checks
from ixt_rl.config.documents import PROBLEM_KEYS, DocumentFields, FeedbackFormat, FileCorpus, WorldCorpus
from ixt_rl.config.keeping import check_keep
from ixt_rl.config.overlap import check_unseen
from ixt_rl.config.positions import check_positions, model_positions
from ixt_rl.config.problems import did_you_mean
from ixt_rl.config.sections import (
    BatchSize,
    Data,
    EngineSection,
    Evaluation,
    FileData,
    Finite,
    GrpoSection,
    IntroSection,
    Lora,
    Model,
    Name,
    NonNegativeInt,
    Optim,
    PositiveInt,
    PrefixData,
    RaftSection,
    Reward,
    RewardErrors,
    RolloutSection,
    Rows,
    Seed,
    SelfChecks,
    Share,
    Steps,
    Strict,
    Template,
    TemplateName,
    Workers,
    WorldData,
    check_template_columns,
    problems_of_world,
)
from ixt_rl.config.sip import SipFields
from ixt_rl.config.wishes import check_wishes
from ixt_rl.errors import ConfigError

# ----------------------------------------------------------------------------------------- stages


FROM_MODEL = "model"
"""`init` of a stage that starts from the run's `model` block, whatever stands before it."""


class Stage(Strict):
    """What every stage has."""

    name: Name
    init: Name | None = Field(
        None,
        description="the stage whose model this one takes, or `model` for that of the run's model block; "
        "default: the stage before",
    )


class PretrainStage(Stage):
    """Next-token prediction on the prompts and rationales of the addition world; the base is shared by all runs."""

    type: Literal["pretrain"]
    data: WorldData
    steps: Steps
    batch_size: BatchSize = 64
    optim: Optim
    seed: Seed = 0

    @model_validator(mode="after")
    def _rows(self) -> PretrainStage:
        checks.needs_rows(self.steps * self.batch_size, f"steps={self.steps} with batch_size={self.batch_size}")
        return self


class DocumentStage(DocumentFields, Stage):
    """Next-token prediction on documents, plain or beside feedback (IXT); from scratch or from a checkpoint.

    `pretrain` is plain, `ixt` has feedback, `sft` trains replies to prompts, with feedback (if any) in the system
    message.
    """

    type: Literal["pretrain", "ixt", "sft"]
    optim: Optim
    lora: Lora | None = None

    @property
    def is_chat(self) -> bool:
        """Whether documents are chats: sft, but for a template that is plain text."""
        if self.type != "sft" or self.template is None:
            return self.type == "sft"
        if isinstance(self.template, str):
            return checks.is_chat_template(self.template)
        return self.template.chat

    @property
    def measures_problems(self) -> bool:
        """Whether the evaluation has problems, beside documents held out or without."""
        return self.evaluation is not None and (self.evaluation.data is not None or isinstance(self.data, WorldCorpus))

    @model_validator(mode="after")
    def _fits_type(self) -> DocumentStage:
        if self.type == "pretrain" and self.feedback.template is not None:
            raise ConfigError(
                "feedback.template with type: pretrain",
                reason="plain pretraining shows no feedback",
                remedy="set type: ixt, or leave feedback out",
            )
        if self.type == "ixt" and self.feedback.template is None:
            raise ConfigError(
                "type: ixt without feedback.template",
                reason="it would be plain next-token prediction",
                remedy="set feedback.template: levels or critique, or type: pretrain",
            )
        sources = [] if isinstance(self.data, WorldCorpus) else self.data.sources
        if self.type == "sft" and not (sources and all(s.prompt or s.messages for s in sources)):
            raise ConfigError(
                "type: sft on documents without prompts",
                reason="it trains replies, and there is nothing they reply to",
                remedy="give every source a `prompt` field, or one of `messages`, or set type: pretrain or ixt",
            )
        conversations = any(s.messages for s in sources)
        defaults = DocumentStage.model_fields
        for_chats = ("template", "train_turns", "chat_template_kwargs")
        asked = [key for key in for_chats if getattr(self, key) != defaults[key].default]
        if self.type != "sft" and (conversations or asked):
            raise ConfigError(
                f"{'messages' if conversations else asked[0]} with type: {self.type}",
                reason="only replies to prompts go through a template",
                remedy="set type: sft, or leave it out",
            )
        if self.type == "sft" and not self.is_chat and (conversations or self.chat_template_kwargs):
            raise ConfigError(
                f"template without chat on {'conversations' if conversations else 'chat_template_kwargs'}",
                reason="plain prompts do not go through the tokenizer's chat template",
                remedy="leave template out, or set chat: true in it",
            )
        if isinstance(self.data, FileCorpus) and self.feedback.shuffle:
            raise ConfigError(
                "feedback.shuffle on files",
                reason="the control needs the whole corpus at hand, which only a world's is",
                remedy="leave shuffle out",
            )
        if self.batch_size % (self.micro_batch_size or 1):
            raise ConfigError(
                f"batch_size={self.batch_size} with micro_batch_size={self.micro_batch_size}",
                reason="an update's rows are computed in whole micro-batches",
                remedy=f"make batch_size a multiple of {self.micro_batch_size}",
            )
        evaluation = self.evaluation
        if evaluation is not None and evaluation.data is not None:
            _check_measurable(evaluation.data, "evaluation.data")
            if isinstance(evaluation.data, FileData):
                template = self.feedback.template
                fields = template.model_dump() if isinstance(template, FeedbackFormat) else template
                check_wishes(evaluation.wishes, fields)
        if evaluation is not None and isinstance(self.data, FileCorpus) and not (evaluation.data or evaluation.holdout):
            raise ConfigError(
                "evaluation without evaluation.data",
                reason="files of documents hold no problems to evaluate on",
                remedy="give evaluation.data a file of problems, set some documents aside with evaluation.holdout, "
                "or set evaluation: null",
            )
        if evaluation is not None and evaluation.holdout and isinstance(self.data, WorldCorpus):
            raise ConfigError(
                f"evaluation.holdout={evaluation.holdout:g} with world: {self.data.world}",
                reason="it sets documents of files aside, and a world's are written anew for every run",
                remedy="leave holdout out: a world's problems for evaluation are never among its documents",
            )
        if evaluation is not None:
            check_template_columns(evaluation.template, evaluation.data or self.data)
        return self


class EvaluateStage(Stage):
    """Measures a model, and stops the run where a precondition of the later stages does not hold."""

    type: Literal["evaluate"]
    data: Data
    template: TemplateName | Template | None = None
    rollout: RolloutSection
    problems: Rows | None = Field(None, description="default: 400 of a world, of a file all that are held out")
    min_told_gap: Share | None = Field(
        None,
        description="stop unless accuracy told the answer exceeds the plain one by this much: strict accuracy in a "
        "world, checked accuracy on a file",
    )

    @model_validator(mode="before")
    @classmethod
    def _problems(cls, value: Any) -> Any:
        return problems_of_world(value, 400)

    @model_validator(mode="after")
    def _measures(self) -> EvaluateStage:
        _check_measurable(self.data, "data")
        check_template_columns(self.template, self.data)
        return self


class OnlineStage(Stage):
    """Online training on the policy's own rollouts; `type` alone chooses the method."""

    type: Literal["intro", "grpo", "raft"]
    data: Data
    template: TemplateName | Template | None = Field(
        None, description="a named template or an inline one; default: the world's, or `math`"
    )
    steps: Steps
    rollouts_per_step: BatchSize = Field(description="completions sampled before each update")
    group_size: Annotated[int, Field(ge=2, le=10**6)] = Field(4, description="G, completions of one prompt")
    micro_batch_size: BatchSize | None = Field(None, description="rows in one forward pass; default: all")
    steps_per_generation: BatchSize = Field(
        1, description="updates whose rollouts are sampled together, before the first"
    )
    num_iterations: BatchSize = Field(1, description="times that each rollout is trained on")
    rollout: RolloutSection
    optim: Optim
    rewards: Annotated[list[Reward], Field(min_length=1)]
    reward_errors: RewardErrors = RewardErrors()
    evaluation: Evaluation | None = Field(
        Evaluation(), description="null: none; default: null where the data sets no rows aside (data.eval_rows)"
    )
    intro: IntroSection = IntroSection()
    raft: RaftSection = RaftSection()
    grpo: GrpoSection = GrpoSection()
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    checkpoint_every: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_rows_no_evaluation(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "evaluation" in value or not isinstance(value.get("data"), dict):
            return value
        data = value["data"]
        kind = PrefixData if "suffix_tokens" in data else FileData
        held_out = "world" in data or data.get("eval_rows", kind.model_fields["eval_rows"].default)
        return value if held_out else {**value, "evaluation": None}

    @property
    def unread_sections(self) -> list[str]:
        """Blocks of the methods that `type` did not choose."""
        return [method for method in ("intro", "grpo", "raft") if method != self.type]

    @property
    def reuses_rollouts(self) -> bool:
        """Whether rollouts serve updates after the policy has moved."""
        return self.steps_per_generation * self.num_iterations > 1

    def rollouts_until(self, step: int) -> int:
        """Completions sampled by the end of an update."""
        generations = math.ceil(step / (self.steps_per_generation * self.num_iterations))
        return generations * self.steps_per_generation * self.rollouts_per_step

    @property
    def uses_ratio(self) -> bool:
        """Whether the loss forms a ratio of two probabilities of one token."""
        return self.type in ("intro", "grpo") or self.raft.importance_ratio

    @model_validator(mode="after")
    def _batch(self) -> OnlineStage:
        for key, divisor in (
            ("group_size", self.group_size),
            ("micro_batch_size", self.micro_batch_size or 1),
        ):
            if self.rollouts_per_step % divisor:
                raise ConfigError(
                    f"rollouts_per_step={self.rollouts_per_step} with {key}={divisor}",
                    reason="a step's rollouts are whole groups, computed in whole micro-batches",
                    remedy=f"make rollouts_per_step a multiple of {divisor}",
                )
        if isinstance(self.data, WorldData):
            checks.needs_rows(
                self.rollouts_until(self.steps) // self.group_size,
                f"steps={self.steps} with rollouts_per_step={self.rollouts_per_step}, group_size={self.group_size}",
            )
        return self

    @model_validator(mode="after")
    def _reuse(self) -> OnlineStage:
        weighed = {"intro": self.intro.importance_ratio, "raft": self.raft.importance_ratio, "grpo": True}[self.type]
        if self.reuses_rollouts and not weighed:
            raise ConfigError(
                f"steps_per_generation={self.steps_per_generation}, num_iterations={self.num_iterations} "
                f"without {self.type}.importance_ratio",
                reason="rollouts would be reused after the policy has moved, uncorrected",
                remedy=f"set {self.type}.importance_ratio: true, or use each rollout for one update",
            )
        return self

    @model_validator(mode="after")
    def _truncated_ratio(self) -> OnlineStage:
        if self.uses_ratio and (self.rollout.top_p < 1 or self.rollout.top_k > 0):
            raise ConfigError(
                f"rollout.top_p={self.rollout.top_p}, rollout.top_k={self.rollout.top_k} with type: {self.type}",
                reason="truncated sampling renormalises over the tokens it keeps, the loss does not: "
                "every ratio would be biased",
                remedy="train with top_p: 1.0 and top_k: 0 (evaluation.top_p may be lower), "
                "or use type: raft without importance_ratio",
            )
        return self

    @model_validator(mode="after")
    def _rewards_fit(self) -> OnlineStage:
        for reward in self.rewards:
            if reward.type == "world" and not isinstance(self.data, WorldData):
                raise ConfigError(
                    "a `world` reward on file data",
                    reason="a file has no verifier of its own",
                    remedy="use {type: math}, or your own with {type: python, path: FILE.py:FUNCTION}",
                )
            if reward.type == "length" and reward.hard <= reward.soft:
                raise ConfigError(
                    f"length reward with soft={reward.soft}, hard={reward.hard}",
                    reason="the penalty grows from soft to hard",
                    remedy="make hard larger than soft",
                )
        check_keep(self)
        check_template_columns(self.template, self.data)
        if self.evaluation is not None:
            _check_held_out(self.data)
        return self


class SipStage(SipFields, Stage):
    """Self-improving pretraining (SIP, arXiv 2601.21343) on prefixes and suffixes of documents, or a baseline of it."""

    type: Literal["sip"]


def _stage_tag(value: Any) -> Any:
    """Which class a stage is. `pretrain` is two: on the addition world's pairs, and on documents."""
    read = value.get if isinstance(value, dict) else lambda key: getattr(value, key, None)
    kind: Any = read("type")
    data = read("data")
    if kind == "pretrain":
        world = data.get("world") if isinstance(data, dict) else getattr(data, "world", None)
        return "pretrain" if world == "addition" else "documents"
    return {"ixt": "documents", "sft": "documents", "intro": "online", "grpo": "online", "raft": "online"}.get(
        kind, kind
    )


AnyStage = Annotated[
    Annotated[PretrainStage, Tag("pretrain")]
    | Annotated[DocumentStage, Tag("documents")]
    | Annotated[EvaluateStage, Tag("evaluate")]
    | Annotated[OnlineStage, Tag("online")]
    | Annotated[SipStage, Tag("sip")],
    Discriminator(_stage_tag),
]


class Expectation(Strict):
    """A claim about the finished run, checked and reported plainly: `metric` of `stage` within a bound.

    `minus` names a stage whose value is subtracted, `over` one whose value it is divided by. `at_step` takes the
    evaluation at that step in place of the final value. With several seeds the mean over seeds is checked.
    """

    metric: str
    stage: Name
    minus: Name | None = None
    over: Name | None = None
    at_step: NonNegativeInt | None = None
    at_least: Finite | None = None
    at_most: Finite | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Expectation:
        if self.at_least is None and self.at_most is None:
            raise ConfigError(
                f"an expectation of {self.metric!r} without a bound",
                reason="there is nothing to check",
                remedy="give at_least, at_most, or both",
            )
        if self.minus is not None and self.over is not None:
            raise ConfigError(
                f"an expectation of {self.metric!r} with minus and over",
                reason="it is a difference or a ratio",
                remedy="give one of them",
            )
        return self


class Claim(Expectation):
    """A claim of a paper, set beside what this run measured; it is never a failed expectation."""

    says: str = Field(description="the claim in words, with its figure")


class RunConfig(Strict):
    """A run: a model, and stages that each take the model of the one before (or of `init`)."""

    name: Name
    output_dir: Annotated[str, AfterValidator(checks.check_output_dir)] = Field(
        "runs", description="the run's folder is output_dir/name"
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(
        [1], description="every online stage is trained once per seed"
    )
    threads: Workers | None = Field(None, description="CPU threads of torch; default: torch's own choice")
    rollout: EngineSection = EngineSection()
    model: Model
    self_checks: SelfChecks = SelfChecks()
    stages: Annotated[list[AnyStage], Field(min_length=1)]
    expect: list[Expectation] = Field([], description="what the report checks when the run has ended")
    claims: list[Claim] = Field([], description="what a paper says, shown beside what was measured here")

    @model_validator(mode="after")
    def _ahead(self) -> RunConfig:
        for stage in self.stages:
            if isinstance(stage, OnlineStage) and stage.reuses_rollouts and self.rollout.staleness:
                raise ConfigError(
                    f"rollout.staleness={self.rollout.staleness} with steps_per_generation="
                    f"{stage.steps_per_generation}, num_iterations={stage.num_iterations} of stage {stage.name}",
                    reason="batches are sampled ahead update by update",
                    remedy="set staleness: 0, or leave the two at 1",
                )
        return self

    @property
    def unread(self) -> list[tuple[Strict, str, str, str]]:
        """What other choices leave unread: (block, its key, its path in the file, what does not read it)."""
        found: list[tuple[Strict, str, str, str]] = [
            (self.rollout, key, f"rollout.{key}", f"engine: {self.rollout.engine}")
            for key in self.rollout.unread_sections
        ]
        for stage in self.stages:
            if isinstance(stage, OnlineStage):
                for key in stage.unread_sections:
                    found.append((stage, key, f"stages.{stage.name}.{key}", f"type: {stage.type}"))
            if isinstance(stage, DocumentStage) and stage.evaluation is not None and not stage.measures_problems:
                for key in PROBLEM_KEYS:
                    path = f"stages.{stage.name}.evaluation.{key}"
                    found.append((stage.evaluation, key, path, "evaluation.holdout without evaluation.data"))
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

    def made_by(self, stage: AnyStage) -> list[AnyStage]:
        """The stages that made the model that `stage` ends with, itself first."""
        found, at = [stage], self.stages.index(stage)
        while found[-1].init != FROM_MODEL and at:
            named = found[-1].init
            at = at - 1 if named is None else next(i for i, one in enumerate(self.stages) if one.name == named)
            found.append(self.stages[at])
        return found

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
            if isinstance(stage, SipStage) and stage.evaluation is not None:
                _check_against(stage.evaluation.against, stage.name, measured)
                measured.append(stage.name)
            if stage.init not in (None, FROM_MODEL, *seen):
                raise ConfigError(
                    f"stage {stage.name!r} has init: {stage.init!r}",
                    reason="it must name an earlier stage: " + (", ".join(seen) or "there is none"),
                    remedy="name one of those, or leave init out",
                )
            seen.append(stage.name)
            if self.model.new and _asks_for_chats(stage):
                raise ConfigError(
                    f"stage {stage.name!r} renders chats with model.new.tokenizer={self.model.new.tokenizer}",
                    reason="a new tokenizer has no chat template",
                    remedy="start from a checkpoint whose tokenizer has one (model.path), or give the stage a template "
                    "of plain text (an sft stage on prompts: template: math)",
                )
            if self.model.new and self.model.new.tokenizer == "world" and isinstance(stage.data, FileData | FileCorpus):
                raise ConfigError(
                    f"stage {stage.name!r} reads files with model.new.tokenizer=world",
                    reason="a world's vocabulary cannot write the text of a file",
                    remedy="set model.new.tokenizer: bytes, or start from a checkpoint (model.path)",
                )
        for expectation in [*self.expect, *self.claims]:
            key = "claims" if isinstance(expectation, Claim) else "expect"
            for name in filter(None, (expectation.stage, expectation.minus, expectation.over)):
                if name not in seen:
                    raise ConfigError(
                        f"{key}: {expectation.metric!r} of stage {name!r}",
                        reason="no stage has that name",
                        remedy=did_you_mean(name, seen) + "name one of: " + ", ".join(seen),
                    )
        for stage in self.stages:
            check_unseen(stage, self.made_by(stage))
        if len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(
                f"seeds={self.seeds} holds one twice",
                reason="equal seeds give equal runs, not independent ones",
                remedy="list each seed once",
            )
        return self


def _check_measurable(data: Any, where: str) -> None:
    """Raises ConfigError where an evaluation apart from training would measure nothing, because nobody judges it."""
    if isinstance(data, PrefixData):
        raise ConfigError(
            f"prefixes of {data.path} as {where}",
            reason="how a text goes on is measured by the judge of a reward, and there is none here",
            remedy="measure it by the `evaluation` of a stage with a {type: judge, ...} reward, or name problems",
        )


def _check_held_out(data: Any) -> None:
    """Raises ConfigError where an evaluation beside training would measure nothing, because no rows are set aside."""
    if isinstance(data, FileData | PrefixData) and not data.eval_rows:
        raise ConfigError(
            f"an evaluation with data.eval_rows={data.eval_rows}",
            reason="no rows are set aside, so that nothing would be measured",
            remedy="set data.eval_rows to how many rows are held out, or evaluation: null",
        )


def _check_against(name: str | None, stage: str, measured: list[str]) -> None:
    """Raises ConfigError unless `name` is None or an earlier stage whose continuations are kept."""
    if name is not None and name not in measured:
        raise ConfigError(
            f"stage {stage!r} has evaluation.against: {name!r}",
            reason="it must name an earlier sip stage with an evaluation: " + (", ".join(measured) or "there is none"),
            remedy=did_you_mean(name, measured) + "leave it out to compare with the documents' own suffixes",
        )


def _asks_for_chats(stage: AnyStage) -> bool:
    """Whether the stage's prompts go through the tokenizer's chat template, as far as its block says."""
    if isinstance(stage, DocumentStage):
        return stage.is_chat
    template = getattr(stage, "template", None)
    if isinstance(template, str):
        return checks.is_chat_template(template)
    return template is not None and template.chat
