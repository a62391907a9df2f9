"""Stages on documents that OpenRLHF's SFT trainer trains: rows and masks made here, measured here, trained there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from ixt_rl.files import write_json
from ixt_rl.integrations.openrlhf.flags import command_line, sft_flags
from ixt_rl.integrations.openrlhf.job import ACTOR, run_job
from ixt_rl.methods.documents import DocumentStage
from ixt_rl.models import load_model, load_tokenizer
from ixt_rl.run.folder import LEDGER
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.documents import (
    document_evaluator,
    document_notes,
    document_result,
    document_task,
    document_trainer,
)
from ixt_rl.run.stages.openrlhf_job import (
    JobRows,
    checked_python,
    go_on,
    job_folder,
    job_settings,
    leave_devices,
    take_model,
)
from ixt_rl.run.stages.spent import ledger_columns
from ixt_rl.run.stages.train import ends_notes, passes_note
from ixt_rl.trainers import IXTTrainer
from ixt_rl.trainers.self_checks import run_self_checks


def run(stage: DocumentStage, at: StageRun) -> None:
    """Documents with feedback, trained by OpenRLHF; writes the model, rows, samples and the ledger."""
    started, folder = time.perf_counter(), at.folder
    assert stage.openrlhf is not None
    python, differing = checked_python(stage.openrlhf.python, at)
    tokenizer = load_tokenizer(at.origin, at.model)
    task = document_task(stage, tokenizer)
    trainer, held = document_trainer(stage, at, tokenizer)  # trains nothing: has rows, a model to measure, the ledger
    trainer.self_checks.results = run_self_checks(trainer, ("ends",))  # its logits are the model's own, rows are padded
    evaluator = document_evaluator(stage, at, trainer, held, task)
    notes = [*differing, *passes_note(stage, trainer, at.console.note)]
    for note in differing:
        at.console.note(note)
    job, steps, checkpoint = job_folder(folder), int(trainer.args.max_steps), go_on(folder)
    settings = job_settings(at, job, folder.checkpoints / ACTOR, checkpoint is not None)
    flags, spent = sft_flags(stage, settings, steps, job.rows), _Spent(trainer, steps)
    job.write_on_documents(
        spent.counted(), {"command": command_line(flags), "ranks": stage.openrlhf.ranks, "steps": steps}
    )

    def result() -> dict[str, Any]:
        said = [*notes, *document_notes(trainer, evaluator), *ends_notes(trainer)]
        return document_result(started, trainer, evaluator, said)

    with at.console.stage(stage, at.seed or 0, steps) as progress:
        rows = JobRows(folder, progress, started, spent.by_update)
        if checkpoint is None and evaluator is not None and evaluator.begins:
            rows.evaluated(0, *evaluator())
        trainer.model.to("cpu")
        leave_devices(at)
        with folder.recording(result):
            run_job(job, python, rows.trained, "sft_driver")
            take_model(job, folder, rows.step, steps, at.origin, tokenizer)
            write_json(folder.path / LEDGER, trainer.ledger.totals())
            if evaluator is not None:
                _load(trainer, at)
                evaluator.open(at)
                rows.evaluated(steps, *evaluator())
    shutil.rmtree(job.rows)


def _load(trainer: IXTTrainer, at: StageRun) -> None:
    """Has the trainer's model be the one that came back, after all updates."""
    trainer.model.load_state_dict(load_model(str(at.folder.model), at.model, train=True).state_dict())
    trainer.model.to(trainer.args.device)
    trainer.state.global_step = trainer.state.max_steps = trainer.args.max_steps


class _Spent:
    """The rows of all updates, and what had been read and judged by the end of each."""

    def __init__(self, trainer: IXTTrainer, steps: int):
        self.rows, self.ledger, self.steps = trainer.rows, trainer.ledger, steps
        self.after: list[tuple[int, int]] = [(0, 0)]
        """By update: tokens that a forward pass computes, tokens that judges read and wrote."""

    def counted(self) -> Iterator[dict[str, Any]]:
        """Each row, once, in its order."""
        tokens, per_update = 0, self.rows.per_update
        for number, row in enumerate(islice(iter(self.rows), self.steps * per_update), start=1):
            tokens += int(np.count_nonzero(row["segment_ids"]))
            if number % per_update == 0:
                self.after.append((tokens, self.rows.judged_tokens(number // per_update)))
            yield row

    def by_update(self, step: int, row: dict[str, Any]) -> tuple[int, float, dict[str, float]]:
        """As `JobRows` asks for it."""
        self.ledger.tokens["train"], self.ledger.tokens["annotate"] = self.after[step]
        return 0, self.ledger.total(), ledger_columns(self.ledger)
