"""What an update of a stage asks for: its largest micro-batch, what it samples, tokens by the ledger's phases."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from ixt_rl.blocks.data import WorldDataBlock
from ixt_rl.blocks.model import ModelBlock
from ixt_rl.blocks.passages import SuffixCorpusBlock, WorldPassagesBlock
from ixt_rl.blocks.preferences import PairCorpusBlock
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.blocks.sip_choices import UNJUDGED, candidate_sources, rollouts_of_a_prompt
from ixt_rl.blocks.told import ToldBlock
from ixt_rl.config.ranks import rows_at_once
from ixt_rl.methods.documents import DocumentStage
from ixt_rl.methods.dpo import DpoStage
from ixt_rl.methods.grpo import GrpoStage
from ixt_rl.methods.latro import LatroStage
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.pretrain import PretrainStage
from ixt_rl.methods.rlcsd import RlcsdStage
from ixt_rl.methods.rlp import RlpStage
from ixt_rl.methods.self_distillation import DistilledStage
from ixt_rl.methods.self_reward import SelfRewardStage
from ixt_rl.methods.sip import SipBlock
from ixt_rl.methods.stage import Stage
from ixt_rl.methods.star import StarStage
from ixt_rl.planning.memory import Training
from ixt_rl.planning.shapes import ModelShape

_STATES = {"adamw": 8.0, "adafactor": 0.05, "sgd": 0.0, "adagrad": 4.0, "rmsprop": 4.0}
"""Bytes a trained parameter; Adafactor keeps sums of rows and columns alone."""

_ADDITION_TOKENS, _WORLD_PROMPT = 40, 128
"""Of worlds: tokens of a row of addition's pairs, and of the longest prompts."""

_PROMPT, _LABEL_TOKENS = 200, 300  # a prompt's mean length, and a judge's answer beside what it reads


@dataclass(frozen=True)
class Assumed:
    """What a run file cannot say, and a plan has to take for given.

    Args:
        prompt_tokens: mean length of a prompt; None: 200 of a problem, half of the longest of a document's prefix.
        completion_tokens: mean length of a completion; None: half of `max_new_tokens`.
        kept: share of the rationales that InTRO and RAFT keep.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    kept: float = 0.5

    def prompt(self, most: int) -> int:
        return min(most, self.prompt_tokens or _PROMPT)

    def prefix(self, most: int) -> int:
        return min(most, self.prompt_tokens or max(1, most // 2))

    def completion(self, most: int) -> int:
        return min(most, self.completion_tokens or max(1, most // 2))

    @property
    def described(self) -> str:
        """In words."""
        completion = "half of max_new_tokens" if self.completion_tokens is None else f"{self.completion_tokens} tokens"
        prompt = f"{_PROMPT} (prefixes: half of the longest)" if self.prompt_tokens is None else f"{self.prompt_tokens}"
        return f"prompts of {prompt} tokens, completions of {completion}, {self.kept:.0%} of them kept"


@dataclass(frozen=True)
class Work:
    """An update of a stage, over all devices together.

    Args:
        stage: whose.
        job: of one device that trains alone (`on`: of one of several); None: nothing is trained.
        tokens: by phase of the ledger, sampling apart.
        rollouts: rows sampled before an update.
        asked: rows that are asked of the engine at a time, of evaluations or for all updates that they serve.
        prompt, new: mean tokens of a prompt and of a completion.
        longest: tokens of the longest row that is sampled.
        judged: tokens that a judge and a rewriter read and write, with the parameters that are known of them.
        notes: what is not counted, and what was taken for given.
    """

    stage: Stage
    job: Training | None
    tokens: dict[str, int] = field(default_factory=dict)
    rollouts: int = 0
    asked: int = 0
    prompt: int = 0
    new: int = 0
    longest: int = 0
    judged: tuple[tuple[int, int | None], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int | None:
        """Updates; None where `epochs` says it, or nothing is trained."""
        return getattr(self.stage, "steps", None)

    def on(self, ranks: int) -> Work:
        """The same on so many ranks: the micro-batch is one of them's, which has an equal part of every batch."""
        stage: Any = self.stage
        assert self.job is not None
        batch = getattr(stage, "rollouts_per_step", None) or stage.batch_size
        micro = getattr(stage, "micro_batch_size", None)
        texts = self.job.rows // (micro or batch)  # of a row of the batch
        return replace(self, job=replace(self.job, rows=texts * rows_at_once(batch, micro, ranks)))

    def at_once(self, ranks: int) -> int:
        """Rows that one of so many ranks samples at once where the trained model itself samples."""
        stage: Any = self.stage
        return min(stage.sampling.batch_size, math.ceil(self.asked / ranks))


def numbers_of(model: ModelBlock) -> int:
    """Bytes of the numbers that passes compute in."""
    return 2 if model.dtype in ("bfloat16", "float16") else 4


def work_of(stage: Stage, model: ModelBlock, shape: ModelShape, assumed: Assumed, cpu: bool) -> Work | None:
    """What a stage asks for; None for one that makes rows, whose model is another one."""
    if isinstance(stage, OnlineStage):
        return _online(stage, model, shape, assumed, cpu)
    if isinstance(stage, SipBlock):
        return _sip(stage, model, shape, assumed, cpu)
    if isinstance(stage, DocumentStage):
        masked = not cpu and stage.packing.packed and model.attention != "flash_attention_2"
        rows = stage.micro_batch_size or stage.batch_size
        job = _job(stage, model, shape, rows, stage.packing.capacity, stage.packing.capacity, masked, cpu)
        return Work(stage, job, {"train": stage.batch_size * stage.packing.capacity}, notes=_document_notes(stage))
    if isinstance(stage, DpoStage):
        rows, pairs = 2 * (stage.micro_batch_size or stage.batch_size), stage.data.pairs
        job = _job(stage, model, shape, rows, pairs.longest, pairs.max_reply_tokens, False, cpu)
        tokens = 2 * stage.batch_size * pairs.longest
        return Work(stage, job, {"train": tokens, "score": tokens})
    if isinstance(stage, PretrainStage):
        job = _job(stage, model, shape, stage.batch_size, _ADDITION_TOKENS, _ADDITION_TOKENS, True, cpu)
        return Work(stage, job, {"train": stage.batch_size * _ADDITION_TOKENS})
    return None


def _document_notes(stage: DocumentStage) -> tuple[str, ...]:
    notes = []
    if stage.reads_feedback and not isinstance(stage.data, PairCorpusBlock):
        notes.append(
            "annotation is a job of its own (ixt-rl annotate, or a stage that makes the rows): not counted here"
        )
    if stage.openrlhf is not None:
        notes.append(
            "backend: openrlhf: planned as this library trains; its trainer has the logits of whole rows at once"
        )
    return tuple(notes)


def _job(
    stage: Any, model: ModelBlock, shape: ModelShape, rows: int, tokens: int, scored: int, masked: bool, cpu: bool
) -> Training:
    lora = getattr(stage, "lora", None)
    return Training(
        shape=shape,
        trained=shape.trained(lora),
        quantized=shape.quantized(lora),
        rows=rows,
        tokens=tokens,
        scored=scored,
        numbers=numbers_of(model),
        states=_STATES[stage.optim.name],
        copies=() if lora is not None else _copies(stage),
        averages=int(getattr(stage, "ema", None) is not None or isinstance(stage, RlpStage)),
        checkpointing=getattr(stage, "gradient_checkpointing", False),
        masked=masked and model.attention != "flash_attention_2",
        cpu=cpu,
    )


def _copies(stage: Any) -> tuple[str, ...]:
    """Whole models beside the one that trains."""
    told = _told(stage)
    if told is not None and told.posterior.source != "live":
        return (f"posterior ({told.posterior.source})",)
    if isinstance(stage, StarStage) and stage.star.sampler == "frozen":
        return ("sampler (frozen)",)
    if isinstance(stage, DistilledStage) and stage.own.teacher.source != "live":
        return (f"teacher ({stage.own.teacher.source})",)
    if isinstance(stage, DpoStage) or (isinstance(stage, LatroStage) and stage.latro.kl) or _penalised(stage):
        return ("reference (frozen)",)
    if isinstance(stage, SipBlock) and stage.objective.startswith("dpo") and stage.reference != "none":
        return (f"reference ({stage.reference})",)
    return ()


def _penalised(stage: Any) -> bool:
    """Whether GRPO's loss has a penalty for moving away from the initial model."""
    return isinstance(stage, GrpoStage) and stage.grpo.beta > 0


def _told(stage: Any) -> ToldBlock | None:
    """The block of a method with a told pass."""
    block = stage.own if isinstance(stage, OnlineStage) and stage.block else None
    return block if isinstance(block, ToldBlock) else None


def _online(stage: OnlineStage, model: ModelBlock, shape: ModelShape, assumed: Assumed, cpu: bool) -> Work:
    sampling, rollouts = stage.sampling, stage.rollouts_per_step
    prompt = assumed.prompt(_longest_prompt(stage.data, sampling))
    new = assumed.completion(sampling.max_new_tokens)
    longest = _longest_prompt(stage.data, sampling) + sampling.max_new_tokens
    rows = stage.micro_batch_size or rollouts
    twice = 2 if isinstance(stage, LatroStage) else 1  # a rationale is a row, and once more with its answer
    job = _job(stage, model, shape, twice * rows, longest, sampling.max_new_tokens, True, cpu)
    trained = rollouts if stage.kept_by is None else round(rollouts * assumed.kept)
    tokens = {"train": twice * trained * (prompt + new)}
    if scored := _scored(stage, rollouts, prompt, new):
        tokens["score"] = scored
    told = _told(stage)
    if told is not None:
        tokens["posterior"] = tokens["train"] * (2 if told.tells_wrong else 1)
        if isinstance(stage, RlcsdStage):  # once for a generation
            tokens["posterior"] //= stage.num_iterations
    elif isinstance(stage, DistilledStage):
        tokens["posterior"] = tokens["train"]
    asked = 0 if stage.evaluation is None else stage.evaluation.problems
    return Work(
        stage,
        job,
        tokens,
        rollouts=math.ceil(rollouts / stage.num_iterations),
        asked=max(rollouts * stage.steps_per_generation, asked),
        prompt=prompt,
        new=new,
        longest=longest,
        notes=("evaluations and rewards are not counted", *_whole_logits(stage), *_other_devices(stage)),
    )


def _scored(stage: OnlineStage, rollouts: int, prompt: int, new: int) -> int:
    """Tokens of the passes without gradient that score rationales, before an update: those that reward (what follows a
    rationale is left out), of the model that a penalty compares with, and of the policy where rollouts outlast it."""
    passes, untold = int(_penalised(stage)) + int(stage.reuses_rollouts), 0
    if isinstance(stage, SelfRewardStage):
        passes += 3 if isinstance(stage, LatroStage) and stage.latro.kl else 1  # its penalty: policy and initial model
        untold = prompt * rollouts // stage.group_size if isinstance(stage, RlpStage) else 0
    return math.ceil((passes * rollouts * (prompt + new) + untold) / stage.num_iterations)


def _whole_logits(stage: OnlineStage) -> tuple[str, ...]:
    if not isinstance(stage, DistilledStage):
        return ()
    return ("TRL's loss makes whole logits of policy and teacher, and their gradient: not counted here",)


def _other_devices(stage: OnlineStage) -> tuple[str, ...]:
    if stage.openrlhf is None:
        return ()
    return (
        "backend: openrlhf: planned as this library trains and samples; what its actors and engines hold, on "
        "devices of their own, is not counted",
    )


def _longest_prompt(data: Any, sampling: SamplingBlock) -> int:
    of_world = isinstance(data, WorldDataBlock | WorldPassagesBlock)
    return min(sampling.max_prompt_tokens, _WORLD_PROMPT) if of_world else sampling.max_prompt_tokens


def _sip(stage: SipBlock, model: ModelBlock, shape: ModelShape, assumed: Assumed, cpu: bool) -> Work:
    sampling = stage.sampling
    sources = candidate_sources(stage.objective, stage.sources, stage.known_sources)
    rollouts = rollouts_of_a_prompt(stage.objective, sources, stage.group_size, "group_size")
    candidates = rollouts + len([source for source in sources if source != "rollout"])
    if isinstance(stage.data, SuffixCorpusBlock):
        prefix, suffix = stage.data.max_prefix_tokens, max(stage.data.suffix_tokens, sampling.max_new_tokens)
    else:
        prefix, suffix = _longest_prompt(stage.data, sampling), sampling.max_new_tokens
    texts = 2 if stage.objective.startswith("dpo") else candidates if stage.objective == "grpo" else 1
    prompts = stage.micro_batch_size or stage.batch_size
    job = _job(stage, model, shape, prompts * texts, prefix + suffix, suffix, True, cpu)
    mean = assumed.prefix(prefix)
    tokens = {"train": stage.batch_size * texts * (mean + suffix)}
    if job.copies:
        tokens["score"] = tokens["train"]
    notes = ["evaluations are not counted"]
    judged = []
    if stage.judge is not None and stage.objective not in UNJUDGED:
        asked = sum(
            _comparisons(candidates, stage.judge.against) * (mean + 2 * suffix + _LABEL_TOKENS)
            if axis == "quality"
            else candidates * (mean + suffix + _LABEL_TOKENS)
            for axis in stage.judge.axes
        )
        judged.append((stage.batch_size * asked * stage.judge.repeats, stage.judge_parameters))
    if stage.rewriter is not None:
        judged.append((stage.batch_size * (mean + 2 * suffix), stage.rewriter_parameters))
    if any(parameters is None for _, parameters in judged):
        notes.append("a judge or rewriter of unknown size is not counted (judge_parameters, rewriter_parameters)")
    return Work(
        stage,  # type: ignore[arg-type]
        job,
        tokens,
        rollouts=stage.batch_size * rollouts,
        asked=stage.batch_size * max(1, rollouts),
        prompt=mean,
        new=sampling.max_new_tokens,
        longest=prefix + sampling.max_new_tokens,
        judged=tuple(judged),
        notes=tuple(notes),
    )


def _comparisons(candidates: int, against: str) -> int:
    """Questions about the quality of so many texts: each pair in both orders, or each with the pivot."""
    return 2 * (candidates - 1 if against == "original" else candidates * (candidates - 1) // 2)
