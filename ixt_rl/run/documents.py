"""Stages that train on documents: pretrain, ixt and sft."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ixt_rl.blocks.checks import data_files
from ixt_rl.blocks.data import WorldData
from ixt_rl.blocks.documents import DocumentEvaluation, FeedbackFormat, FileCorpus, WorldCorpus
from ixt_rl.blocks.sampling import RolloutSection
from ixt_rl.blocks.wishes import incomplete_wish
from ixt_rl.conditioning import (
    FeedbackTemplate,
    PromptTemplate,
    encode_prompt,
    load_feedback_template,
    load_template,
    target_feedback,
)
from ixt_rl.conditioning.conditioner import Conditioner
from ixt_rl.config.schema import RunConfig
from ixt_rl.data.corpus import LevelFilter, MemoryCorpus
from ixt_rl.data.holdout import Holdout
from ixt_rl.data.packed import Documents
from ixt_rl.data.stream import DocumentStream, Source
from ixt_rl.evaluation.evaluate import SAMPLING_SEED, Mode, evaluate_modes
from ixt_rl.evaluation.heldout import HeldOutLoss
from ixt_rl.evaluation.tasks import Task, make_task
from ixt_rl.files import read_json, write_json
from ixt_rl.ledger import Ledger
from ixt_rl.methods.documents import DocumentStage
from ixt_rl.models import eos_ids, load_model, load_tokenizer
from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.engine import RolloutEngine, check_prompt
from ixt_rl.rollout.guidance import GuidedEngine
from ixt_rl.rollout.weights import send_policy, until_weights_last
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.console import RunConsole
from ixt_rl.run.engines import Engines
from ixt_rl.run.folder import LEDGER, StageFolder
from ixt_rl.run.training import ends_notes, lora_config, save_model, train, training_arguments
from ixt_rl.trainers import IXTConfig, IXTTrainer
from ixt_rl.types import Feedback, SamplingParams
from ixt_rl.worlds import WORLDS
from ixt_rl.worlds.documents import world_documents

ANNOTATION = "annotation.json"
"""What `ixt-rl annotate` writes beside its rows."""

GUIDED = "guided"
"""Stands in the place of a wish's name in the metrics of guided sampling."""


def run_documents(
    config: RunConfig, stage: DocumentStage, seed: int, origin: str, folder: StageFolder, console: RunConsole,
    engines: Engines,
) -> None:  # fmt: skip
    """Next-token prediction on documents, plain or with feedback; writes the model, rows, samples and the ledger."""
    started = time.perf_counter()
    tokenizer = load_tokenizer(origin, config.model)
    template = feedback_template(stage)
    held = holdout(stage)
    documents = corpus(stage, seed, template, held)
    shown = prompt_template(stage) or PromptTemplate("{question}", "{question}")
    shown.check(tokenizer)
    task = _task(stage)
    model = load_model(origin, config.model, train=True)
    micro_batch = stage.micro_batch_size or stage.batch_size
    args = IXTConfig(
        **training_arguments(stage.optim, stage.steps, seed, folder, config, stage.checkpoint_every),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=stage.batch_size // micro_batch,
        gradient_checkpointing=stage.gradient_checkpointing,
        feedback_template=template,
        feedback_position=stage.feedback.position,
        feedback_dropout=stage.feedback.dropout,
        feedback_fraction=stage.feedback.fraction,
        train_feedback=stage.type != "sft" if stage.feedback.train is None else stage.feedback.train,
        chat=stage.is_chat,
        train_turns=stage.train_turns,
        chat_template_kwargs={**shown.chat_template_kwargs, **stage.chat_template_kwargs} or None,
        max_length=stage.packing.capacity,
        pack=stage.packing.packed,
        buffer_rows=max(16, 2 * stage.batch_size),
        ema_decay=stage.ema,
    )
    trainer = IXTTrainer(model, args, documents, tokenizer, peft_config=lora_config(stage.lora))
    trainer.ledger = Ledger(trainer.ledger.size, annotators(stage), spent_before(origin))
    evaluator, loss = None, None
    if held is not None:
        assert isinstance(stage.data, FileCorpus)
        names = source_names(stage.data)
        loss = HeldOutLoss(dict(zip(names, held.documents, strict=True)), trainer.conditioner, stage.packing.capacity)
    if stage.evaluation is not None:
        engine = None if task is None else _engine(config, stage, engines, origin, trainer)
        evaluator = Evaluator(stage.evaluation, task, trainer, tokenizer, engine, loss)
    with console.stage(stage, seed, stage.steps) as progress:
        callback = StageCallback(
            folder,
            progress,
            flops=trainer.ledger.total,
            spent=lambda: ledger_columns(trainer.ledger),
            evaluate=evaluator,
            evaluate_every=stage.evaluation.every if stage.evaluation else 1,
            evaluate_at_start=loss is not None,
        )
        train(trainer, callback, folder)
    with trainer.averaged():
        save_model(trainer, tokenizer, folder)
    write_json(folder.path / LEDGER, trainer.ledger.totals())
    rows = trainer.rows.source
    notes = [*(task.notes if task else ()), *_passed_over(documents), *ends_notes(trainer)]
    result = {"seconds": time.perf_counter() - started, "documents": vars(rows.counts), "notes": notes}
    folder.write_result(result if loss is None else {**result, "heldout": loss.counts()})


def _passed_over(documents: Documents) -> list[str]:
    """How often a row of files held nothing to train on, in every pass anew, in words; nothing if none did."""
    stream = documents.documents if isinstance(documents, LevelFilter) else documents
    empty = stream.empty if isinstance(stream, DocumentStream) else 0
    return [f"{empty} times a row without text, or without a prompt, was passed over"] if empty else []


def feedback_template(stage: DocumentStage) -> dict[str, Any] | str | None:
    """The stage's template, as `load_feedback_template` takes it; a world's own goes before the shipped ones."""
    spec = stage.feedback.template
    if isinstance(spec, FeedbackFormat):
        return spec.model_dump()
    if spec is not None and isinstance(stage.data, WorldCorpus):
        world: Any = WORLDS[stage.data.world]
        return world.feedback_templates.get(spec, spec)
    return spec


def holdout(stage: DocumentStage) -> Holdout | None:
    """What a stage's evaluation sets aside of its files."""
    if stage.evaluation is None or stage.evaluation.holdout is None:
        return None
    assert isinstance(stage.data, FileCorpus)
    return Holdout(sources(stage.data, read_feedback=False, template=prompt_template(stage)), stage.evaluation.holdout)


def source_names(data: FileCorpus) -> list[str]:
    """What metrics call the sources: the last part of the path, and a number behind one that is there before."""
    bases = [_source_name(_paths(source.path)[0]) for source in data.sources]
    seen = [bases[:place].count(base) for place, base in enumerate(bases)]
    return [f"{base}-{before + 1}" if before else base for base, before in zip(bases, seen, strict=True)]


def _source_name(path: str) -> str:
    """The last part of a path that has letters or digits once its ending and what no name has are taken off."""
    names = (re.sub(r"\.(jsonl?|parquet)(\.gz)?$", "", part) for part in reversed(Path(path).parts))
    cleaned = (re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") for name in names)
    return next((name for name in cleaned if name), "source")


def corpus(
    stage: DocumentStage, seed: int, template: dict[str, Any] | str | None, held: Holdout | None = None
) -> Documents:
    """The stage's documents but those held out, with what judging them cost."""
    levels = stage.data.keep_levels
    documents: Documents
    if isinstance(stage.data, WorldCorpus):
        if template is None and not levels:  # nobody reads them
            fraction = 0.0
        else:
            fraction = stage.feedback.fraction
        made = world_documents(
            WORLDS[stage.data.world](),
            stage.data.documents,
            seed,
            judge=stage.data.judge,
            template=None if template is None else load_feedback_template(template),
            fraction=fraction,
            shuffle=stage.feedback.shuffle,
        )
        documents = MemoryCorpus(made, seed)
    else:
        read = template is not None or bool(levels)
        found = sources(stage.data, read_feedback=read, template=prompt_template(stage))
        documents = DocumentStream(found, seed, holdout=held)
    return LevelFilter(documents, levels) if levels else documents


def prompt_template(stage: DocumentStage) -> PromptTemplate | None:
    """How the stage's prompts are shown; None: as they are."""
    return None if stage.template is None else load_template(stage.template, "plain")


def sources(data: FileCorpus, *, read_feedback: bool, template: PromptTemplate | None = None) -> list[Source]:
    """The sources of a mixture; `read_feedback`: whether their feedback columns are of any use."""
    return [
        Source(
            tuple(file for path in _paths(source.path) for file in data_files(path)),
            source.text,
            source.prompt,
            source.feedback if read_feedback else None,
            source.weight,
            source.name,
            source.split,
            source.messages,
            template,
            source.control_tokens,
        )
        for source in data.sources
    ]


def _paths(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def annotators(stage: DocumentStage) -> int | None:
    """N_judge: as the stage says, else as `annotate` wrote beside its documents (of several, the largest).

    An endpoint whose size `annotate` was not told counts 0: its FLOPs are uncounted, and none are made up. Where no
    annotation.json is, or a world's own judge judged, None: the judge counts as large as the model.
    """
    if stage.judge_parameters is not None or not isinstance(stage.data, FileCorpus):
        return stage.judge_parameters
    found = []
    for source in stage.data.sources:
        for path in map(Path, [source.path] if isinstance(source.path, str) else source.path):
            summary = read_json((path if path.is_dir() else path.parent) / ANNOTATION) or {}
            if isinstance(summary.get("judge"), dict):
                found.append(summary["judge"].get("parameters") or 0)
    return max(found, default=None)


def spent_before(origin: str) -> dict[str, Any] | None:
    """What the stages spent that led to the model at `origin`; None where nobody counted."""
    return read_json(Path(origin).parent / LEDGER)


def ledger_columns(ledger: Ledger) -> dict[str, float]:
    """What a metrics row says of compute beside `flops`."""
    totals = ledger.totals()
    return {
        "tokens": totals["tokens"].get("train", 0),
        "tokens/judged": totals["tokens"].get("annotate", 0),
        "flops/train": totals["flops"].get("train", 0.0),
        "flops/annotate": totals["flops"].get("annotate", 0.0),
    }


def _task(stage: DocumentStage) -> Task | None:
    evaluation = stage.evaluation
    if evaluation is None:
        return None
    if evaluation.data is not None:
        return make_task(evaluation.data, evaluation.template, measured_only=True)
    if isinstance(stage.data, FileCorpus):
        return None
    return make_task(WorldData.model_validate({"world": stage.data.world}), evaluation.template)


def _engine(
    config: RunConfig, stage: DocumentStage, engines: Engines, origin: str, trainer: IXTTrainer
) -> RolloutEngine | None:
    assert stage.evaluation is not None
    section = RolloutSection(max_new_tokens=stage.evaluation.max_new_tokens)
    return engines.get(section, origin, eos_ids(trainer.model, trainer.processing_class))


class Evaluator:
    """Measures a model in training, with each wished feedback before the problems.

    Args:
        section: what to measure.
        task: problems and grades; None: held-out documents alone.
        trainer: its model is measured, with averaged weights where it keeps them.
        tokenizer: of the model.
        engine: one outside the trainer's model; None: the model itself.
        heldout: held-out documents. At step 0, before training, they alone are measured.
    """

    def __init__(
        self,
        section: DocumentEvaluation,
        task: Task | None,
        trainer: IXTTrainer,
        tokenizer,
        engine: RolloutEngine | None,
        heldout: HeldOutLoss | None = None,
    ):
        self.section, self.task, self.trainer, self.tokenizer, self.engine = section, task, trainer, tokenizer, engine
        self.heldout = heldout
        self.rows = [] if task is None else task.eval_rows(section.problems)
        self.evaluations = 0
        if task is not None:  # before training, not at the first evaluation
            for name in section.wishes:
                self._check_room(self._prompts(task, self.rows, name))

    def __call__(self) -> tuple[dict[str, float], list[dict[str, Any]]]:
        trainer = self.trainer
        last = trainer.state.global_step >= trainer.state.max_steps
        rows = self.rows if last else self.rows[: self.section.curve_problems]
        model = trainer.accelerator.unwrap_model(trainer.model)
        training = model.training
        model.eval()
        try:
            with trainer.averaged(), torch.no_grad():
                loss = self._heldout_loss(model)
                if self.task is None or (loss and trainer.state.global_step == 0):
                    return loss, []
                metrics, samples = self._measure(model, self.task, rows, last)
                return {**metrics, **loss}, samples
        finally:
            model.train(training)

    def _heldout_loss(self, model) -> dict[str, float]:
        if self.heldout is None:
            return {}
        rows = self.trainer.args.per_device_train_batch_size
        with self.trainer.accelerator.autocast():
            return self.heldout(model, model.config._attn_implementation, rows)

    def _measure(self, model, task: Task, rows: Sequence[dict[str, Any]], last: bool):
        temperatures = self.section.temperatures if last else [0.0, 1.0]
        wishes = list(self.section.wishes)[: None if last else 1]
        prompts = {name: self._prompts(task, rows, name) for name in wishes}
        modes = [
            mode
            for index, name in enumerate(wishes)
            for mode in self._modes(prompts[name], temperatures, name if index else "")
        ]
        metrics, samples = until_weights_last(
            lambda: evaluate_modes(self._ready(model), self.tokenizer, task, rows, modes)
        )
        guidance = self.section.guidance
        if last and guidance is not None:
            good, bad = prompts[wishes[0]], prompts[guidance.against]
            against = {tuple(g): b for g, b in zip(good, bad, strict=True)}
            ends = eos_ids(model, self.tokenizer)
            engine = GuidedEngine(
                model, ends, self.tokenizer.pad_token_id, scale=guidance.scale, against=against.__getitem__
            )
            guided = self._modes(good, temperatures, GUIDED)
            more, found = evaluate_modes(engine, self.tokenizer, task, rows, guided)
            metrics, samples = {**metrics, **more}, [*samples, *found]
        return metrics, samples

    def _ready(self, model) -> RolloutEngine:
        if self.engine is None:
            return TransformersEngine(model, eos_ids(model, self.tokenizer), self.tokenizer.pad_token_id)
        self.evaluations += 1
        send_policy(self.engine, model, self.evaluations)
        return self.engine

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
            sampling = SamplingParams(self.section.max_new_tokens, temperature, seed=SAMPLING_SEED)
            n = self.section.samples if temperature > 0 else 1
            keep = 10 if temperature == temperatures[-1] else 0
            modes.append(Mode(mode_name(temperature, wish), prompts, sampling, n, keep))
        return modes


def mode_name(temperature: float, wish: str = "") -> str:
    """`greedy`, `sampled` (temperature 1), `sampled@t0.5`; with a wish other than the first, `greedy@worst`."""
    name = "greedy" if temperature == 0 else "sampled"
    if temperature not in (0, 1):
        name += f"@t{temperature:g}"
    return name + (f"@{wish}" if wish else "")


def wished(
    conditioner: Conditioner, tokenizer, task: Task, rows: Sequence[dict[str, Any]], wish: int | str | None
) -> list[list[int]]:
    """Prompt ids of problems with the feedback that is wished for: a level, words, or None.

    A world knows what its judge would say of a problem's solution at a level; elsewhere words name the domain.

    Raises:
        ConfigError: nobody knows the scores or the critique that the template writes beside a level.
    """
    if conditioner.conditioning.template is None and not conditioner.conditioning.chat:
        return [encode_prompt(tokenizer, row["prompt"], None, task.chat_template_kwargs) for row in rows]
    prompts = []
    for row in rows:
        feedback: Feedback | None = None
        if isinstance(wish, int):
            feedback = Feedback(wish) if task.target is None else task.target(row["question"], wish)
        elif wish is not None:
            feedback = target_feedback(wish)
        if feedback is not None and task.target is None:
            _check_complete(conditioner.conditioning.template, feedback, wish)
        prompts.append(conditioner.prompt(row["prompt"], feedback))
    return prompts


def _check_complete(template: FeedbackTemplate | None, feedback: Feedback, wish: int | str | None) -> None:
    """Raises ConfigError where the template writes more beside a document than the wish says."""
    missing = template is not None and [
        name for name in ("scores", "critique") if getattr(template, name) and not getattr(feedback, name)
    ]
    if missing:
        raise incomplete_wish(f"wish {wish!r}", missing)
