"""SIP stages: passages, rewriter and judge by name, training, and continuations of held-out prefixes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ixt_rl.blocks.judges import WORLD
from ixt_rl.blocks.passages import SuffixCorpusBlock, WorldPassagesBlock
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.conditioning import encode_prompt
from ixt_rl.conditioning.control import text_ids
from ixt_rl.data.in_memory import Repeated
from ixt_rl.data.stream import DocumentStream
from ixt_rl.data.suffixes import PrefixSuffix, SuffixStream
from ixt_rl.evaluation.continuations import (
    Examiner,
    JudgeExaminer,
    WorldExaminer,
    evaluate_continuations,
)
from ixt_rl.evaluation.evaluate import SAMPLING_SEED, Mode
from ixt_rl.files import read_rows, write_json, write_rows
from ixt_rl.judging import CandidateJudge
from ixt_rl.judging.random_judge import RandomJudge
from ixt_rl.ledger import Ledger
from ixt_rl.methods.sip import SipStage, SuffixEvaluationBlock
from ixt_rl.models import eos_ids, load_model, load_tokenizer
from ixt_rl.place import follows
from ixt_rl.rewriting import Rewriter
from ixt_rl.rewriting.stored import StoredRewrites
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.run.best import best_model
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.folder import CONTINUATIONS, LEDGER, StageFolder
from ixt_rl.run.stages.adapters import lora_config
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.judges import QUALITY, candidate_judge, judge_parameters, stage_judge, suffix_rewriter
from ixt_rl.run.stages.sources import sources
from ixt_rl.run.stages.spent import ledger_columns, spent_before
from ixt_rl.run.stages.train import (
    correction,
    passes_note,
    planned_steps,
    save_model,
    share_of_batch,
    train,
    training_arguments,
    uncounted_note,
)
from ixt_rl.run.stages.wishes import mode_name
from ixt_rl.run.trainers import configured, trainer_class
from ixt_rl.trainers import SIPConfig, SIPTrainer
from ixt_rl.trainers.sip.filters import candidate_filters
from ixt_rl.types import SamplingParams
from ixt_rl.worlds import WORLDS
from ixt_rl.worlds.passages import Passage

_EVAL_SEED = 0  # held-out passages are the same for every stage and seed


def run(stage: SipStage, at: StageRun) -> None:
    """SIP or a baseline of it; writes the model, rows, samples, continuations and the ledger."""
    started, folder, seed = time.perf_counter(), at.folder, at.seed or 0
    with ExitStack() as stack:
        tokenizer = load_tokenizer(at.origin, at.model)
        items = passages(stage.data, tokenizer, seed, stage.epochs)
        judge = stack.enter_context(candidate_judge(stage, stage.judge, at)) if stage.judge else None
        rewriter = stack.enter_context(suffix_rewriter(stage, tokenizer, at)) if stage.rewriter else None
        evaluator = stack.enter_context(_evaluator(stage, tokenizer, at)) if stage.evaluation else None
        model = load_model(at.origin, at.model, train=True)
        trainer_of = trainer_class(stage)
        trainer = trainer_of(
            model,
            _arguments(stage, trainer_of, at),
            items,
            tokenizer,
            judge=judge,
            rewriter=rewriter,
            rollouts=_rollouts(stage.sampling, at, eos_ids(model, tokenizer)),
            correction=correction(at.engine) if stage.objective == "grpo" else None,
            verifier=_verifier(stage),
            peft_config=lora_config(stage.lora, model),
            **({"filters": candidate_filters(stage.filters)} if stage.filters else {}),
        )
        trainer.ledger = trainer.scoring.ledger = Ledger(
            trainer.ledger.size, judge_parameters(stage), spent_before(at.origin)
        )
        best = best_model(stage, folder, trainer, ranks=at.ranks)
        passes = passes_note(stage, trainer, at.console.note)
        with at.console.stage(stage, seed, trainer.args.max_steps) as progress:
            callback = StageCallback(
                folder,
                progress,
                flops=trainer.ledger.total,
                rollouts=lambda step: min(step * stage.batch_size, items.given) * trainer.args.num_generations,
                spent=lambda: ledger_columns(trainer.ledger),
                evaluate=partial(evaluator, trainer) if evaluator else None,
                evaluate_every=stage.evaluation.every if stage.evaluation else 1,
                best=best,
            )
            with folder.recording(
                lambda: {
                    "seconds": time.perf_counter() - started,
                    "notes": [
                        *passes,
                        *_notes(trainer, judge, rewriter),
                        *uncounted_note(trainer.ledger),
                        *(best.notes() if best else ()),
                    ],
                    **(best.result() if best else {}),
                }
            ):
                train(trainer, callback, folder)
    save_model(trainer, tokenizer, folder, best)
    write_json(folder.path / LEDGER, trainer.ledger.totals())


def _rollouts(sampling: SamplingBlock, at: StageRun, ends: tuple[int, ...]) -> EngineRollouts:
    return EngineRollouts(
        at.engines.get(sampling, at.origin, ends),
        sampling.batch_size,
        parity_limit=at.engine.parity_limit,
        stop=sampling.stop,
        shared=at.ranks.shared,
    )


def _arguments(stage: SipStage, trainer_of: type[SIPTrainer], at: StageRun) -> SIPConfig:
    return configured(
        stage,
        trainer_of,
        **training_arguments(stage.optim, planned_steps(stage, at.folder), at.seed or 0, at, stage.checkpoint_every),
        objective=stage.objective,
        sources=None if stage.sources is None else list(stage.sources),
        num_generations=stage.group_size,
        beta=stage.beta,
        reference=stage.reference,
        reference_sync_steps=stage.reference_sync_steps,
        judge_parts=stage.judge_parts,
        judge_patience=stage.judge_patience,
        max_completion_length=stage.sampling.max_new_tokens,
        temperature=stage.sampling.temperature,
        top_p=stage.sampling.top_p,
        top_k=stage.sampling.top_k,
        min_p=stage.sampling.min_p,
        **share_of_batch(stage.batch_size, stage.micro_batch_size, at.launch.ranks),
        gradient_checkpointing=stage.gradient_checkpointing,
    )


def _verifier(stage: SipStage) -> Callable[[list[str], list[str], list[str]], list[float | None]] | None:
    """What a world knows of any text; files have no verifier."""
    if not isinstance(stage.data, WorldPassagesBlock):
        return None
    world = WORLDS[stage.data.world]()

    def right(prefixes: list[str], originals: list[str], texts: list[str]) -> list[float | None]:
        return [world.measure(*texts_of)["right"] for texts_of in zip(prefixes, originals, texts, strict=True)]

    return right


# ------------------------------------------------------------------------------------------ passages


def passages(
    data: WorldPassagesBlock | SuffixCorpusBlock, tokenizer: Any, seed: int, epochs: int | None = None
) -> Repeated[PrefixSuffix] | SuffixStream:
    """The training passages, those of a world repeated or a stream of files; `epochs`: passes until they end."""
    if isinstance(data, SuffixCorpusBlock):
        return _stream(data, tokenizer, seed, epochs)
    found = WORLDS[data.world]().passages("train", data.passages, seed)
    end = (tokenizer.eos_token_id,)
    made = [
        PrefixSuffix(
            tuple(encode_prompt(tokenizer, one.prefix)),
            (*text_ids(tokenizer, one.suffix), *end),
            f"{data.world} {index}",
        )
        for index, one in enumerate(found)
    ]
    return Repeated(made, seed, epochs)


def held_out(stage: SipStage, section: SuffixEvaluationBlock, tokenizer: Any) -> list[tuple[list[int], Passage]]:
    """Prefixes for evaluation, as ids and as text beside their original suffixes."""
    if section.data is None:
        assert isinstance(stage.data, WorldPassagesBlock)
        found = WORLDS[stage.data.world]().passages("eval", section.prefixes, _EVAL_SEED)
        return [(list(encode_prompt(tokenizer, one.prefix)), one) for one in found]
    stream = iter(_stream(section.data, tokenizer, _EVAL_SEED))
    items = [next(stream) for _ in range(section.prefixes)]
    decode = partial(tokenizer.decode, skip_special_tokens=True)
    return [(list(one.prefix_ids), Passage(decode(one.prefix_ids), decode(one.suffix_ids))) for one in items]


def _stream(data: SuffixCorpusBlock, tokenizer: Any, seed: int, epochs: int | None = None) -> SuffixStream:
    return SuffixStream(
        DocumentStream(sources(data, read_feedback=False), seed, epochs),
        tokenizer,
        suffix_tokens=data.suffix_tokens,
        min_prefix_tokens=data.min_prefix_tokens,
        max_prefix_tokens=data.max_prefix_tokens,
    )


def _notes(
    trainer: SIPTrainer, judge: CandidateJudge | RandomJudge | None, rewriter: Rewriter | StoredRewrites | None
) -> list[str]:
    """What went wrong with judge and rewriter, and what was done about it."""
    notes = []
    scoring = trainer.scoring
    if scoring.retries:
        notes.append(f"judge or rewriter was down: asked again {scoring.retries} times, waited {scoring.waited:.0f} s")
    for asked in (getattr(judge, "judge", None), rewriter):
        notes += getattr(getattr(asked, "backend", None), "notes", [])
    if isinstance(judge, CandidateJudge) and judge.judge.tally.looped:
        notes.append(f"judge: {judge.judge.tally.looped} replies looped and were cut early: undecided")
    if isinstance(judge, CandidateJudge) and judge.tally.undecided:
        notes.append(
            f"judge: {judge.tally.undecided} of {judge.tally.candidates} candidates undecided, left out of their groups"
        )
    if isinstance(rewriter, Rewriter) and rewriter.tally.skipped:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(rewriter.tally.skipped.items()))
        notes.append(f"rewriter: no rewrite for {rewriter.tally.skipped.total()} of {rewriter.tally.asked}: {reasons}")
    return notes


# ---------------------------------------------------------------------------------------- evaluation

Evaluate = Callable[[SIPTrainer], tuple[dict[str, float], list[dict[str, Any]]]]


@contextmanager
def _evaluator(stage: SipStage, tokenizer: Any, at: StageRun) -> Iterator[Evaluate]:
    section, folder = stage.evaluation, at.folder
    assert section is not None
    with ExitStack() as stack:
        examiner: Examiner
        if section.judge is None or section.judge.model == WORLD:
            assert isinstance(stage.data, WorldPassagesBlock)
            examiner = WorldExaminer(WORLDS[stage.data.world]())
        else:
            judge = stack.enter_context(stage_judge(stage, section.judge, at))
            points = {axis: weight for axis, weight in section.judge.axes.items() if axis != QUALITY}
            examiner = JudgeExaminer(
                CandidateJudge(judge, points) if points else None,
                CandidateJudge(judge, {QUALITY: 1.0}) if QUALITY in section.judge.axes else None,
            )
        yield partial(_measure, stage, held_out(stage, section, tokenizer), examiner, _opponent(stage, folder), folder)


def _measure(
    stage: SipStage,
    prefixes: Sequence[tuple[list[int], Passage]],
    examiner: Examiner,
    opponent: Mapping[str, Sequence[str]] | None,
    folder: StageFolder,
    trainer: SIPTrainer,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    section = stage.evaluation
    assert section is not None
    whole = stage.keep_best is not None  # values of one metric are compared: always of the same prefixes
    last = whole or trainer.state.global_step >= trainer.state.max_steps
    chosen = prefixes if last else prefixes[: section.curve_prefixes]
    ids, found = [ids for ids, _ in chosen], [passage for _, passage in chosen]
    sampled = partial(
        SamplingParams, stage.sampling.max_new_tokens, seed=SAMPLING_SEED, stop=tuple(stage.sampling.stop)
    )
    modes = [Mode(mode_name(t), ids, sampled(temperature=t), keep=10) for t in section.temperatures]
    metrics, texts, samples = trainer.rollouts.evaluated(
        trainer,
        lambda engine: evaluate_continuations(engine, trainer.processing_class, found, modes, examiner, opponent),
    )
    if last:
        rows = [
            {"mode": mode, "prefix": passage.prefix, "original": passage.suffix, "text": text}
            for mode, of_mode in texts.items()
            for passage, text in zip(found, of_mode, strict=True)
        ]
        write_rows(folder.path / CONTINUATIONS, rows)
    return metrics, samples


def _opponent(stage: SipStage, folder: StageFolder) -> dict[str, list[str]] | None:
    """The final continuations of the stage to compare with, by mode, of the same seed; None: compare with originals."""
    assert stage.evaluation is not None
    if stage.evaluation.against is None or follows():  # rank 0 measures
        return None
    place: Path = folder.path.parent.parent / stage.evaluation.against / folder.path.name / CONTINUATIONS
    texts: dict[str, list[str]] = {}
    for row in read_rows(place):
        texts.setdefault(row["mode"], []).append(row["text"])
    return texts
