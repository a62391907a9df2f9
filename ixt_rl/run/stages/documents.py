"""Stages that train on documents: pretrain, ixt and sft."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ixt_rl.blocks.data import WorldDataBlock
from ixt_rl.blocks.documents import WORLD_PROBLEMS, DocumentEvaluationBlock, FileCorpusBlock, WorldCorpusBlock
from ixt_rl.blocks.preferences import PairCorpusBlock
from ixt_rl.blocks.rows import source_names
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.conditioning import PromptTemplate
from ixt_rl.data.holdout import Holdout
from ixt_rl.evaluation.evaluate import SAMPLING_SEED, Mode, answer
from ixt_rl.evaluation.heldout import HeldOutLoss
from ixt_rl.evaluation.tasks import Task, make_task
from ixt_rl.files import write_json
from ixt_rl.ledger import Ledger
from ixt_rl.methods.documents import DocumentStage
from ixt_rl.models import eos_ids, load_tokenizer
from ixt_rl.place import follows
from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.engine import RolloutEngine, check_prompt
from ixt_rl.rollout.guidance import GuidedEngine
from ixt_rl.rollout.sync import send_policy, with_policy
from ixt_rl.rollout.trl_adapter import whole_model
from ixt_rl.run.answered import keep_answered, write_answered
from ixt_rl.run.best import best_model
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.folder import LEDGER
from ixt_rl.run.ranks.team import ALONE, Ranks
from ixt_rl.run.stages.adapters import base_model, lora_config
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.preferences import MeasuredPairs
from ixt_rl.run.stages.sources import (
    annotators,
    corpus,
    feedback_template,
    holdout,
    passed_over,
    prompt_template,
)
from ixt_rl.run.stages.spent import ledger_columns, spent_before
from ixt_rl.run.stages.suites import Metrics, SuitesInTraining, engine_of, suites_of, with_suites
from ixt_rl.run.stages.train import (
    ends_notes,
    passes_note,
    planned_steps,
    save_model,
    share_of_batch,
    train,
    training_arguments,
)
from ixt_rl.run.stages.wishes import GUIDED, mode_name, wished
from ixt_rl.run.strategy import is_sharded
from ixt_rl.run.trainers import configured, trainer_class
from ixt_rl.trainers import IXTTrainer
from ixt_rl.types import SamplingParams


def run(stage: DocumentStage, at: StageRun) -> None:
    """Next-token prediction on documents, plain or with feedback; writes the model, rows, samples and the ledger."""
    started, folder = time.perf_counter(), at.folder
    tokenizer = load_tokenizer(at.origin, at.model)
    task = document_task(stage, tokenizer)
    trainer, held = document_trainer(stage, at, tokenizer)
    evaluator = document_evaluator(stage, at, trainer, held, task)
    if evaluator is not None:
        evaluator.open(at)
    best = best_model(stage, folder, trainer, trainer.averaged, begins_without=True, ranks=at.ranks)
    passes = passes_note(stage, trainer, at.console.note)
    with at.console.stage(stage, at.seed or 0, trainer.args.max_steps) as progress:
        callback = StageCallback(
            folder,
            progress,
            ledger=lambda: trainer.ledger.of_all(at.ranks.gathered),
            columns=ledger_columns,
            evaluate=evaluator,
            evaluate_every=stage.evaluation.every if stage.evaluation else 1,
            evaluate_at_start=evaluator is not None and evaluator.begins,
            best=best,
        )
        train(trainer, callback, folder)
    save_model(trainer, tokenizer, folder, best, trainer.averaged)
    write_json(folder.path / LEDGER, trainer.ledger.of_all(at.ranks.gathered).totals())
    notes = [*passes, *document_notes(trainer, evaluator), *ends_notes(trainer), *(best.notes() if best else [])]
    folder.write_result(document_result(started, trainer, evaluator, notes) | (best.result() if best else {}))


def document_trainer(stage: DocumentStage, at: StageRun, tokenizer: Any) -> tuple[IXTTrainer, Holdout | None]:
    """The trainer of a stage, on its rows, with what led to its model in the ledger; and what is held out of them."""
    template = feedback_template(stage)
    held = holdout(stage)
    documents = corpus(stage, at.seed or 0, template, tokenizer, held)
    shown = prompt_template(stage) or PromptTemplate("{question}")
    shown.check(tokenizer)
    model = base_model(stage.lora, at)
    trainer_of = trainer_class(stage)
    args = configured(stage, trainer_of, **_options(stage, at, template, shown))
    trainer = trainer_of(model, args, documents, tokenizer, peft_config=lora_config(stage.lora, model))
    trainer.ledger = Ledger(trainer.ledger.size, annotators(stage), spent_before(at.origin))
    return trainer, held


def document_evaluator(
    stage: DocumentStage, at: StageRun, trainer: IXTTrainer, held: Holdout | None, task: Task | None
) -> Evaluator | None:
    """What measures a trainer's model, without an engine of its own as yet; `held`: documents that are held out."""
    tokenizer, loss = trainer.processing_class, None
    if held is not None:
        assert isinstance(stage.data, FileCorpusBlock)
        names = source_names(stage.data.sources)
        loss = HeldOutLoss(dict(zip(names, held.documents, strict=True)), trainer.conditioner, stage.packing.capacity)
    suites = suites_of(stage.evaluation, trainer.model, tokenizer)
    if stage.evaluation is None:
        return None
    whole = stage.keep_best is not None  # values of one metric are compared: always of the same problems
    pairs = MeasuredPairs.of_stage(stage, trainer, at.folder, prompt_template(stage))
    kept = None if whole else at.folder.path  # with keep_best the last evaluation is not the one that counts
    return Evaluator(stage.evaluation, task, trainer, tokenizer, None, loss, whole, suites, at.ranks, pairs, kept)


def document_notes(trainer: IXTTrainer, evaluator: Evaluator | None) -> list[str]:
    """What a result says of a stage's updates, problems, suites and rows."""
    args: Any = trainer.args
    plain = args.plain_updates
    found = [
        *([f"cooldown: the last {plain} of {args.max_steps} updates showed no feedback"] if plain else []),
        *(evaluator.notes if evaluator is not None else ()),
        *passed_over(trainer.rows.source.documents),
    ]
    return [*dict.fromkeys(found)]  # pairs that are left out are said once


def document_result(
    started: float, trainer: IXTTrainer, evaluator: Evaluator | None, notes: list[str]
) -> dict[str, Any]:
    """A stage's result; `started`: by the clock of `time.perf_counter`."""
    seconds = time.perf_counter() - started
    result = {"seconds": seconds, "documents": vars(trainer.rows.source.counts), "notes": notes}
    loss = None if evaluator is None else evaluator.heldout
    return result if loss is None else {**result, "heldout": loss.counts()}


def _options(stage: DocumentStage, at: StageRun, template: Any, shown: PromptTemplate) -> dict[str, Any]:
    """`IXTConfig`'s; `template` of the feedback, `shown`: how prompts are."""
    return {
        **training_arguments(stage.optim, planned_steps(stage, at.folder), at.seed or 0, at, stage.checkpoint_every),
        **share_of_batch(stage.batch_size, stage.micro_batch_size, at.launch.ranks),
        "gradient_checkpointing": stage.gradient_checkpointing,
        "feedback_template": template,
        "feedback_position": stage.feedback.position,
        "feedback_dropout": stage.feedback.dropout,
        "feedback_fraction": stage.feedback.fraction,
        "feedback_cooldown": stage.feedback.cooldown,
        "train_feedback": stage.trains_feedback,
        "chat": stage.is_chat,
        "train_turns": stage.train_turns,
        "chat_template_kwargs": {**shown.chat_template_kwargs, **stage.chat_template_kwargs} or None,
        "max_reply_tokens": stage.data.pairs.max_reply_tokens if isinstance(stage.data, PairCorpusBlock) else None,
        "max_length": stage.packing.capacity,
        "pack": stage.packing.packed,
        "buffer_rows": max(16, 2 * stage.batch_size),
        "ema_decay": stage.ema,
    }


def document_task(stage: DocumentStage, tokenizer: Any) -> Task | None:
    """Problems and grades of a stage's evaluation."""
    evaluation = stage.evaluation
    if evaluation is None:
        return None
    if evaluation.data is not None:
        return make_task(evaluation.data, evaluation.template, measured_only=True)
    if not isinstance(stage.data, WorldCorpusBlock):
        return None
    data = WorldDataBlock.model_validate({"world": stage.data.world})
    return make_task(data, evaluation.template or stage.template, tokenizer=tokenizer if stage.of_replies else None)


class Evaluator:
    """Measures a model in training, with each wished feedback before the problems.

    Args:
        section: what to measure.
        task: problems and grades; None: held-out documents alone.
        trainer: its model is measured, with averaged weights where it keeps them.
        tokenizer: of the model.
        engine: one outside the trainer's model; None: the model itself.
        heldout: held-out documents. At step 0, before training, they and pairs alone are measured.
        whole: every evaluation measures what else only the last one does.
        suites: benchmarks that are measured beside the rest; None: none.
        ranks: of the run, which share the sampling; all call the evaluator.
        pairs: preference pairs that are measured at every evaluation; None: none.
        folder: where what the last evaluation found is kept, one by one; None: nowhere.
    """

    def __init__(
        self,
        section: DocumentEvaluationBlock,
        task: Task | None,
        trainer: IXTTrainer,
        tokenizer,
        engine: RolloutEngine | None,
        heldout: HeldOutLoss | None = None,
        whole: bool = False,
        suites: SuitesInTraining | None = None,
        ranks: Ranks = ALONE,
        pairs: MeasuredPairs | None = None,
        folder: Path | None = None,
    ):
        self.ranks = ranks
        self.folder = None if follows() else folder
        self.section, self.task, self.trainer, self.tokenizer, self.engine = section, task, trainer, tokenizer, engine
        self.heldout, self.whole, self.suites, self.pairs = heldout, whole, suites, pairs
        self.rows = (
            [] if task is None else task.eval_rows(section.problems or (WORLD_PROBLEMS if task.grader else None))
        )
        self.evaluations = 0
        if task is not None:  # before training, not at the first evaluation
            for name in section.wishes:
                self._check_room(self._prompts(task, self.rows, name))

    @property
    def begins(self) -> bool:
        """Whether there is something to measure before training."""
        return self.section.at_start and (self.heldout is not None or self.pairs is not None)

    @property
    def notes(self) -> list[str]:
        """What is to be said of the problems, suites and pairs."""
        return [note for part in (self.task, self.suites, self.pairs) if part is not None for note in part.notes]

    def open(self, at: StageRun) -> None:
        """Has the run's engine, where it samples outside the trainer's model and there is something to sample."""
        if self.task is not None or self.suites is not None:
            section = SamplingBlock(max_new_tokens=self.section.max_new_tokens, stop=self.section.stop)
            self.engine = engine_of(at, section, eos_ids(self.trainer.model, self.tokenizer), (), self.suites)

    def __call__(self) -> tuple[dict[str, float], list[dict[str, Any]]]:
        trainer = self.trainer
        last = self.whole or trainer.state.global_step >= trainer.state.max_steps
        rows = self.rows if last else self.rows[: self.section.curve_problems]
        model = trainer.accelerator.unwrap_model(trainer.model)
        training = model.training
        model.eval()
        try:
            with trainer.averaged(), torch.no_grad():
                loss = self._heldout_loss(model)
                if self.pairs is not None:
                    with self._whole():
                        loss = {**loss, **self.pairs()}
                if loss and trainer.state.global_step == 0:
                    return loss, []
                metrics, samples = self._measured(model, rows, last)
                return {**metrics, **loss}, samples
        finally:
            model.train(training)

    def _measured(self, model, rows: Sequence[dict[str, Any]], last: bool) -> Metrics:
        def measure(engine: RolloutEngine) -> Metrics:
            return self._sampled(engine, model, rows, last)

        engine = self.engine
        if engine is None:
            with self._whole():
                return self.ranks.shared(self._in_process(model), measure)

        def send(_: bool) -> None:
            self.evaluations += 1
            send_policy(engine if self.ranks.leads else None, self.trainer.model_wrapped, self.evaluations)

        guided = self.section.guidance is not None  # which samples in process, too
        with self._whole() if guided else nullcontext():
            return with_policy(send, lambda: measure(engine), self.ranks.decided)

    def _sampled(self, engine: RolloutEngine, model, rows: Sequence[dict[str, Any]], last: bool) -> Metrics:
        """Metrics and samples of the task and the suites."""
        metrics, samples = ({}, []) if self.task is None else self._measure(engine, model, self.task, rows, last)
        return with_suites(metrics, samples, self.suites, engine)

    def _whole(self) -> AbstractContextManager[Any]:
        """All weights in this process, where they are spread over the ranks."""
        trainer = self.trainer
        return whole_model(trainer, trainer.model_wrapped) if is_sharded(trainer) else nullcontext()

    def _heldout_loss(self, model) -> dict[str, float]:
        if self.heldout is None:
            return {}
        rows = self.trainer.args.per_device_train_batch_size
        with self._whole(), self.trainer.accelerator.autocast():
            found = self.heldout(model, model.config._attn_implementation, rows)
        if self.folder is not None:
            for one in self.heldout.measured():
                keep_answered(self.folder, one.pieces, {}, one.documents, {one.mode: one.nats}, one.tokens)
        return found

    def _measure(self, engine: RolloutEngine, model, task: Task, rows: Sequence[dict[str, Any]], last: bool) -> Metrics:
        temperatures = self.section.temperatures if last else [0.0, 1.0]
        wishes = list(self.section.wishes)[: None if last else 1]
        prompts = {name: self._prompts(task, rows, name) for name in wishes}
        modes = [
            mode
            for index, name in enumerate(wishes)
            for mode in self._modes(prompts[name], temperatures, name if index else "")
        ]
        answers = answer(engine, self.tokenizer, task, rows, modes)
        guidance = self.section.guidance
        if last and guidance is not None:
            good, bad = prompts[wishes[0]], prompts[guidance.against]
            against = {tuple(g): b for g, b in zip(good, bad, strict=True)}
            ends = eos_ids(model, self.tokenizer)
            guide = GuidedEngine(
                model,
                ends,
                self.tokenizer.pad_token_id,
                scale=guidance.scale,
                against=against.__getitem__,
                tokenizer=self.tokenizer,
            )
            guided = self._modes(good, temperatures, GUIDED)
            more = answer(guide, self.tokenizer, task, rows, guided)
            answers = replace(
                answers, values={**answers.values, **more.values}, samples=[*answers.samples, *more.samples]
            )
        if self.folder is not None:
            write_answered(self.folder, answers, rows)
        return answers.metrics(), answers.samples

    def _in_process(self, model) -> RolloutEngine:
        ends = eos_ids(model, self.tokenizer)
        return TransformersEngine(model, ends, self.tokenizer.pad_token_id, tokenizer=self.tokenizer)

    def _prompts(self, task: Task, rows: Sequence[dict[str, Any]], name: str) -> list[list[int]]:
        return wished(self.trainer.conditioner, self.tokenizer, task, rows, self.section.wishes[name])

    def _check_room(self, prompts: Sequence[Sequence[int]]) -> None:
        """Raises DataError where a prompt leaves no room for an answer in the model's positions."""
        config = self.trainer.model.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None)
        for index, prompt in enumerate(prompts):
            check_prompt(f"problem {index}", prompt, self.section.max_new_tokens, positions, config.vocab_size)

    def _modes(self, prompts: list[list[int]], temperatures: Sequence[float], wish: str) -> list[Mode]:
        modes = []
        for temperature in temperatures:
            sampling = SamplingParams(
                self.section.max_new_tokens, temperature, seed=SAMPLING_SEED, stop=tuple(self.section.stop)
            )
            n = self.section.samples if temperature > 0 else 1
            keep = 10 if temperature == temperatures[-1] else 0
            modes.append(Mode(mode_name(temperature, wish), prompts, sampling, n, keep))
        return modes
