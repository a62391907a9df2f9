"""Self-improving pretraining (SIP, arXiv 2601.21343), and its baselines."""

from __future__ import annotations

import operator
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.best import BestBlock
from ixt_rl.blocks.candidate_filters import BUILT_IN, FilterBlock, check_filters
from ixt_rl.blocks.duration import PassesBlock
from ixt_rl.blocks.judges import RANDOM, WORLD, JudgeBlock, RewriterBlock
from ixt_rl.blocks.model import LoraBlock
from ixt_rl.blocks.optim import OptimBlock
from ixt_rl.blocks.passages import Passages, SuffixCorpusBlock, WorldPassagesBlock
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.blocks.sip_choices import (
    UNJUDGED,
    Objective,
    ReferenceKind,
    candidate_sources,
    check_reference,
    rollouts_of_a_prompt,
)
from ixt_rl.blocks.strict import (
    BatchSize,
    Name,
    NonNegativeFloat,
    Parameters,
    PositiveFloat,
    PositiveInt,
    Rows,
    Strict,
)
from ixt_rl.errors import ConfigError
from ixt_rl.methods.spec import MethodReport, MethodSpec
from ixt_rl.methods.stage import Stage
from ixt_rl.types import SOURCES

INIT = "init"
"""`likelihood` of the model that the stage starts from."""


def check_likelihood(path: str, info: ValidationInfo) -> str:
    """`init`, or a model as `model.path` names one."""
    return path if path == INIT else checks.check_model_path(path, info)


class SuffixEvaluationBlock(Strict):
    """Measured on prefixes that no training saw, by an independent judge."""

    every: PositiveInt = 50
    at_start: bool = Field(True, exclude_if=lambda value: value, description="also before the first update")
    prefixes: Rows = Field(300, description="at the end of the stage")
    curve_prefixes: PositiveInt = Field(100, description="at evaluations on the way, the first of `prefixes`")
    temperatures: list[NonNegativeFloat] = Field([0.0, 1.0], description="0 is greedy")
    against: Name | None = Field(
        None, description="stage whose continuations of the same prefixes ours are compared with; default: originals"
    )
    data: SuffixCorpusBlock | None = Field(None, description="held-out documents; default: those of the stage's world")
    holdout: PositiveInt | Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="files only, in place of data: documents of each source (a whole number: its first ones; below 1: "
        "a share, by their content) that are never trained; their suffixes' loss and perplexity are measured, too",
    )
    likelihood: Annotated[str, AfterValidator(check_likelihood)] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="a frozen model that reads each continuation after the true text: a folder, a hub id, or `init`, "
        "the model that the stage starts from",
    )
    judge: JudgeBlock | None = Field(
        None, description="default: the world's verifier; on files, where `likelihood` is given, nobody"
    )

    @model_validator(mode="after")
    def _reads(self) -> SuffixEvaluationBlock:
        if self.judge is not None and self.judge.model == RANDOM:
            raise ConfigError(
                f"evaluation.judge.model: {RANDOM}",
                reason="nothing is measured by who reads nothing",
                remedy="name another judge, or leave it out",
            )
        return self

    @model_validator(mode="after")
    def _something(self) -> SuffixEvaluationBlock:
        if not self.temperatures:
            raise ConfigError("temperatures=[]", reason="nothing would be measured", remedy="give one, 0 for greedy")
        return self


class SipBlock(PassesBlock):
    """What a SIP stage has beside name, type and init."""

    data: Passages
    objective: Objective = Field(
        "dpo", description="dpo, rf-nll, grpo; without a judge, to compare: nll, sft-rewrite, sft-rollout, dpo-rewrite"
    )
    sources: list[Name] | None = Field(
        None,
        description="candidates: original, rewrite, rollout, and those in `sources` of a trainer of one's own "
        "(type: python); default: original and rollout, or the baseline's",
    )
    filters: list[FilterBlock] = Field(
        [],
        exclude_if=operator.not_,
        description="which candidates, the document's own suffix apart, may be judged: by name "
        f"({', '.join(BUILT_IN)}), FILE.py:FUNCTION, or a block with thresholds",
    )
    group_size: Annotated[int, Field(ge=0, le=10**6)] | None = Field(
        None, description="K, rollouts of a prefix; default: 16, baselines 1"
    )
    beta: PositiveFloat = Field(0.1, description="of DPO")
    reference: ReferenceKind = Field("frozen", description="DPO's")
    reference_sync_steps: PositiveInt | None = Field(None, description="`synced` only: updates between two copies")
    rewriter: RewriterBlock | None = None
    judge: JudgeBlock | None = None
    judge_parameters: Parameters | None = Field(
        None, description="parameters of the judge, for FLOPs; default: read from its folder, of others uncounted"
    )
    rewriter_parameters: Parameters | None = Field(
        None, description="parameters of the rewriter, for FLOPs; default: read from its folder, of others uncounted"
    )
    judge_parts: BatchSize = Field(
        1, description="parts of an update's prefixes: one is judged while the next is sampled"
    )
    judge_patience: Annotated[float, Field(ge=0, le=10**7)] = Field(
        600.0, description="seconds to wait in all for a judge or rewriter that is down, before the run stops"
    )
    batch_size: BatchSize = Field(16, description="prefixes of each update")
    micro_batch_size: BatchSize | None = Field(None, description="prefixes in one forward pass; default: all")
    sampling: SamplingBlock
    optim: OptimBlock
    evaluation: SuffixEvaluationBlock | None = SuffixEvaluationBlock()
    lora: LoraBlock | None = None
    gradient_checkpointing: bool = False
    checkpoint_every: PositiveInt | None = None

    @property
    def known_sources(self) -> tuple[str, ...] | None:
        """Names of candidates' sources; None where a trainer of one's own, `type: python`, may have more."""
        return SOURCES if getattr(self, "trainer", None) is None else None

    @property
    def judged(self) -> bool:
        return self.objective not in UNJUDGED

    @model_validator(mode="after")
    def _candidates(self) -> SipBlock:
        sources = candidate_sources(self.objective, self.sources, self.known_sources)
        check_filters(self.filters, sources)
        rollouts_of_a_prompt(self.objective, sources, self.group_size, "group_size")
        check_reference(self.reference, self.reference_sync_steps)
        for name, section, needed, why in (
            ("judge", self.judge, self.judged, f"objective: {self.objective}"),
            ("rewriter", self.rewriter, "rewrite" in sources, f"sources: {sources}"),
        ):
            if needed != (section is not None):
                raise ConfigError(
                    f"{'no ' if needed else 'a '}{name} with {why}",
                    reason="its answers are needed" if needed else "its answers would not be used",
                    remedy=f"give a `{name}` block" if needed else f"leave {name} out",
                )
        if self.batch_size % (self.micro_batch_size or 1):
            raise ConfigError(
                f"batch_size={self.batch_size} with micro_batch_size={self.micro_batch_size}",
                reason="an update's prefixes are computed in whole micro-batches",
                remedy=f"make batch_size a multiple of {self.micro_batch_size}",
            )
        return self

    @model_validator(mode="after")
    def _truncated_ratio(self) -> SipBlock:
        if self.objective == "grpo" and self.sampling.truncated:
            raise ConfigError(
                f"sampling: {self.sampling.truncated} with objective: grpo",
                reason="truncated sampling renormalises over the tokens it keeps, the loss does not",
                remedy="train with top_p: 1.0, top_k: 0 and min_p: 0.0, or use another objective",
            )
        return self

    @model_validator(mode="after")
    def _worlds(self) -> SipBlock:
        of_world = isinstance(self.data, WorldPassagesBlock)
        evaluation = self.evaluation
        for key, section in (("rewriter", self.rewriter), ("judge", self.judge)):
            stored = isinstance(section, RewriterBlock) and section.from_ is not None
            if section is not None and section.model == WORLD and not of_world and not stored:
                raise ConfigError(
                    f"{key}.model: {WORLD} on files",
                    reason="files have no rewriter or judge of their own",
                    remedy="name one: python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER",
                )
        if self.rewriter is not None and self.rewriter.error and self.rewriter.model != WORLD:
            raise ConfigError(
                f"rewriter.error={self.rewriter.error} with model: {self.rewriter.model}",
                reason="only a world's rewriter errs as often as it is told to",
                remedy="leave error out",
            )
        if evaluation is None:
            return self
        if evaluation.holdout is not None and (of_world or evaluation.data is not None):
            raise ConfigError(
                f"evaluation.holdout={evaluation.holdout:g} with " + ("a world" if of_world else "evaluation.data"),
                reason="it sets documents of the stage's own files aside, to measure on",
                remedy="leave holdout out" + ("" if of_world else ", or evaluation.data"),
            )
        if of_world and evaluation.data is None:
            return self
        held = evaluation.data is not None or evaluation.holdout is not None
        judge = evaluation.judge
        judged = evaluation.likelihood is not None if judge is None else judge.model != WORLD
        if not held or not judged:
            raise ConfigError(
                "evaluation on files without documents that are held out, or without a judge of its own",
                reason="files have no held-out part and no verifier of their own",
                remedy="give evaluation.data or evaluation.holdout, and evaluation.judge or evaluation.likelihood; "
                "or set evaluation: null",
            )
        return self


class SipStage(BestBlock, SipBlock, Stage):
    """Self-improving pretraining (SIP, arXiv 2601.21343) on prefixes and suffixes of documents, or a baseline of it."""

    type: Literal["sip"]
    ratio_of_one_network: ClassVar[bool] = True

    @property
    def reads_of_engine(self) -> tuple[str, ...]:
        return ("correction",) if self.objective == "grpo" else ()

    @property
    def compared_with(self) -> str | None:
        return None if self.evaluation is None else self.evaluation.against


SPEC = MethodSpec(
    type="sip",
    stage=SipStage,
    runner="ixt_rl.run.stages.sip:run",
    trainer="ixt_rl.trainers.sip.trainer:SIPTrainer",
    needs=frozenset({"engine"}),
    report=MethodReport(learns_from="continuations"),
)
