"""SIP stages: passages, rewriter and judge by name, training, and continuations of held-out prefixes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from ixt_rl.blocks.passages import WorldPassagesBlock
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.files import write_json
from ixt_rl.judging import CandidateJudge
from ixt_rl.judging.random_judge import RandomJudge
from ixt_rl.ledger import Ledger
from ixt_rl.methods.sip import SipStage
from ixt_rl.models import eos_ids, load_tokenizer
from ixt_rl.rewriting import Rewriter
from ixt_rl.rewriting.stored import StoredRewrites
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.run.best import best_model
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.folder import LEDGER
from ixt_rl.run.stages.adapters import base_model, lora_config
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.judges import candidate_judge, judge_parameters, suffix_rewriter
from ixt_rl.run.stages.spent import ledger_columns, spent_before
from ixt_rl.run.stages.suffix_evaluation import suffix_evaluator
from ixt_rl.run.stages.suffix_passages import holdout, passage_notes, passages
from ixt_rl.run.stages.suites import engine_of
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
from ixt_rl.run.trainers import configured, trainer_class
from ixt_rl.trainers import SIPConfig, SIPTrainer
from ixt_rl.trainers.sip.filters import candidate_filters
from ixt_rl.worlds import WORLDS


def run(stage: SipStage, at: StageRun) -> None:
    """SIP or a baseline of it; writes the model, rows, samples, continuations and the ledger."""
    started, folder, seed = time.perf_counter(), at.folder, at.seed or 0
    with ExitStack() as stack:
        tokenizer = load_tokenizer(at.origin, at.model)
        held = holdout(stage)
        items = passages(stage.data, tokenizer, seed, stage.epochs, held)
        judge = stack.enter_context(candidate_judge(stage, stage.judge, at)) if stage.judge else None
        rewriter = stack.enter_context(suffix_rewriter(stage, tokenizer, at)) if stage.rewriter else None
        evaluator = stack.enter_context(suffix_evaluator(stage, tokenizer, at, held)) if stage.evaluation else None
        model = base_model(stage.lora, at)
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
                ledger=lambda: trainer.ledger.of_all(at.ranks.gathered),
                rollouts=lambda step: min(step * stage.batch_size, items.given) * trainer.args.num_generations,
                columns=ledger_columns,
                evaluate=partial(evaluator, trainer) if evaluator else None,
                evaluate_every=stage.evaluation.every if stage.evaluation else 1,
                evaluate_at_start=stage.evaluation is not None and stage.evaluation.at_start,
                best=best,
            )
            with folder.recording(
                lambda: {
                    "seconds": time.perf_counter() - started,
                    "notes": [
                        *passes,
                        *passage_notes(items),
                        *_notes(trainer, judge, rewriter),
                        *uncounted_note(trainer.ledger),
                        *(best.notes() if best else ()),
                    ],
                    **(best.result() if best else {}),
                }
            ):
                train(trainer, callback, folder)
    save_model(trainer, tokenizer, folder, best)
    write_json(folder.path / LEDGER, trainer.ledger.of_all(at.ranks.gathered).totals())


def _rollouts(sampling: SamplingBlock, at: StageRun, ends: tuple[int, ...]) -> EngineRollouts:
    return EngineRollouts(
        engine_of(at, sampling, ends, (), None),
        sampling.batch_size,
        parity_limit=at.engine.parity_limit,
        stop=sampling.stop,
        ranks=at.ranks,
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


def _notes(
    trainer: SIPTrainer, judge: CandidateJudge | RandomJudge | None, rewriter: Rewriter | StoredRewrites | None
) -> list[str]:
    """What went wrong with judge and rewriter, and what was done about it."""
    notes = []
    scoring = trainer.scoring
    if scoring.retries:
        notes.append(f"judge or rewriter was down: asked again {scoring.retries} times, waited {scoring.waited:.0f} s")
    notes += judge.judge.notes if isinstance(judge, CandidateJudge) else []
    notes += getattr(getattr(rewriter, "backend", None), "notes", [])
    if isinstance(judge, CandidateJudge) and judge.tally.undecided:
        notes.append(
            f"judge: {judge.tally.undecided} of {judge.tally.candidates} candidates undecided, left out of their groups"
        )
    if isinstance(rewriter, Rewriter) and rewriter.tally.skipped:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(rewriter.tally.skipped.items()))
        notes.append(f"rewriter: no rewrite for {rewriter.tally.skipped.total()} of {rewriter.tally.asked}: {reasons}")
    return notes
