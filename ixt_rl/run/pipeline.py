"""From a validated config to a run folder: the composition root.

    config -> initial model -> stage after stage (each in stages/<name>/[seed<k>/]) -> summary, report

A finished stage is kept by the fingerprint of what made it (its config, the contents of what that names, its model,
the code) and not run again; a pretrained base is kept beside all runs, so that runs share it. A stage that was stopped
goes on from its last checkpoint. A run's folder, and a base that is being made, have one process: of several ranks the
first one, which tells the others what to do (`run/ranks`).
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ixt_rl.blocks.rows import with_folders
from ixt_rl.config.load import dump_yaml, resolved
from ixt_rl.config.schema import RunConfig
from ixt_rl.errors import DataError, IxtRlError
from ixt_rl.files import readable, write_text
from ixt_rl.import_path import load
from ixt_rl.locks import locked
from ixt_rl.methods.registry import AnyStage, spec_of
from ixt_rl.methods.runners import runner_of
from ixt_rl.offline import offline
from ixt_rl.pretrained.notices import copy_notices
from ixt_rl.quiet import quiet_transformers
from ixt_rl.redaction import redacted, without_secrets
from ixt_rl.run.console import RunConsole
from ixt_rl.run.fingerprint import check_suite_files
from ixt_rl.run.folder import RunFolder, StageFolder
from ixt_rl.run.hub import asks_hub
from ixt_rl.run.question_files import check_question_files
from ixt_rl.run.ranks.accelerate import check_accelerate
from ixt_rl.run.ranks.number import with_ranks
from ixt_rl.run.ranks.orders import Begin, TakePart
from ixt_rl.run.ranks.team import Ranks, joined
from ixt_rl.run.summary import summarise
from ixt_rl.run.trackers import About, reporting
from ixt_rl.signals import Stopped
from ixt_rl.trainers.checkpoints import step_of

if TYPE_CHECKING:
    from ixt_rl.run.stages.context import StageRun, StageRunner


def run_config(config: RunConfig, fresh: bool = False) -> Path:
    """Runs every stage and writes the report; returns the run folder.

    Args:
        config: a validated run.
        fresh: forget what an earlier run of this name left (a cached base model stays).

    Raises:
        ConfigError: another process is running in the folder, or there are not as many ranks as the run file says, or
            they were launched to train otherwise.
        RankFailed: another rank ended, or did not come in time.
        FileError: a file cannot be read or written; the same run goes on when it can.
        PreconditionError: an `evaluate` stage found its precondition unmet; the report says so.
        RewardError: rewards failed beyond their budget; what was computed is kept.
        BackendFailed: the hub did not take the model (`save.push_to_hub`), which is kept.
    """
    check_accelerate(config)
    with joined(config.launch) as ranks:
        config = with_ranks(config, ranks.size)
        if config.launch.offload:
            from ixt_rl.run.strategy import check_offload

            check_offload(config.launch)
        folder = RunFolder(Path(config.output_dir), config.name)
        if ranks.leads:
            _lead(config, folder, fresh, ranks)
        else:
            from ixt_rl.run.ranks.follow import follow

            follow(config, ranks)
    return folder.path


def _lead(config: RunConfig, folder: RunFolder, fresh: bool, ranks: Ranks) -> None:
    try:
        with folder.held():
            with offline(not asks_hub(config)), _threads(config, folder, fresh) as threads:
                config = _run_held(config, folder, fresh, threads, ranks)
            _save(config, folder)
    except Exception as error:
        found = readable(error)
        if found is None:
            raise
        raise found from error


def _threads(config: RunConfig, folder: RunFolder, fresh: bool) -> AbstractContextManager[int]:
    from ixt_rl.run.threads import kept_threads, torch_threads

    kept = None if fresh else kept_threads(folder)
    return torch_threads(config.threads or kept, config.engine.cores_beside_trainer, RunConsole().note)


def _save(config: RunConfig, folder: RunFolder) -> None:
    """A card for the run's model, and the model on the hub, where the run asks for them."""
    if config.save is None:
        return
    from ixt_rl.run.saving import pushed, write_card

    if config.save.model_card:
        write_card(config, folder)
    if config.save.push_to_hub is not None:
        RunConsole().note(f"pushed to {pushed(config, folder, config.save.push_to_hub)}")


def _run_held(config: RunConfig, folder: RunFolder, fresh: bool, threads: int, ranks: Ranks) -> RunConfig:
    """Runs the stages; returns the run as it was, with the dtype that `auto` became."""
    from ixt_rl.run.precision import with_measured_dtype
    from ixt_rl.run.threads import keep_threads, spinning_note
    from ixt_rl.run.trainers import check_own_trainers

    quiet_transformers()
    check_own_trainers(config.name, config.stages)  # before anything is removed or made
    check_suite_files(config.stages)
    check_question_files(config.stages)
    if fresh:
        folder.clear()
    console = RunConsole()
    config = with_measured_dtype(config, folder, console.note)
    write_text(folder.path / "config.yaml", without_secrets(dump_yaml(resolved(config))))
    if config.threads is None and not config.engine.cores_beside_trainer:
        keep_threads(folder)
    for said in spinning_note():
        console.note(said)
    started = time.monotonic()
    ranks.tell(Begin(config.model.dtype, threads))
    try:
        _run_stages(config, folder, console, ranks)
    except BaseException as error:  # what was computed is kept and reported, however the run ended
        try:
            _tell(config, folder, console, _why(error), started)
        except Exception as second:  # the first error is the one to read
            console.note(f"summary and report could not be written: {readable(second) or second}")
        raise
    _tell(config, folder, console, None, started)
    return config


def _tell(config: RunConfig, folder: RunFolder, console: RunConsole, reason: str | None, started: float) -> None:
    """Writes the run's rows, summary and report."""
    from ixt_rl.report.build import build_report
    from ixt_rl.report.table import summary_table

    folder.gather()
    _note_overlap(config, folder, console)
    summary = summarise(config, folder, reason, time.monotonic() - started)
    report = build_report(folder.path)
    console.finish(summary_table(summary), report)


def _note_overlap(config: RunConfig, folder: RunFolder, console: RunConsole) -> None:
    """Looks for the run's test questions in what it trained on, where the files are (still) there."""
    from ixt_rl.run.overlap import note_overlap, overlap_notes

    try:
        for said in overlap_notes(note_overlap(config, folder)):
            console.note(said)
    except (DataError, OSError) as error:  # the stage that reads the file has said so, too
        console.note(f"test questions were not looked for in what was trained on: {readable(error) or error}")


def _why(error: BaseException) -> str:
    """Why a run stopped, for its summary."""
    known = readable(error) or error
    return str(known) if isinstance(known, IxtRlError | Stopped) else redacted(f"{type(error).__name__}: {error}")


def _run_stages(config: RunConfig, folder: RunFolder, console: RunConsole, ranks: Ranks) -> None:
    from ixt_rl.run.stages.engines import Engines

    engines = Engines(config.engine, config.model.dtype)
    try:
        _run_all(config, folder, console, engines, ranks)
    finally:
        engines.close()


def _run_all(config: RunConfig, folder: RunFolder, console: RunConsole, engines, ranks: Ranks) -> None:
    from ixt_rl.run.initial_model import initial_model

    initial = initial_model(config, folder)
    models: dict[tuple[str, int | None], str] = {}
    rows = folder.rows_of(config)
    last = initial
    for stage in config.stages:
        source = config.starts_from(stage)
        for seed in stage_seeds(config, stage):
            origin = initial if source is None else models.get((source.name, seed)) or models[(source.name, None)]
            stage_folder = folder.stage(config, stage, seed, origin)
            folder.hashes.save()
            models[(stage.name, seed)] = _run_stage(
                config, with_folders(stage, rows), seed, origin, stage_folder, console, engines, ranks
            )
            folder.remember(stage_folder)
        if not spec_of(stage).makes_rows:
            last = models[(stage.name, stage_seeds(config, stage)[0])]
    folder.link_model(last)
    folder.hashes.save()


def _run_stage(
    config, stage, seed, origin: str, folder: StageFolder, console: RunConsole, engines, ranks: Ranks
) -> str:
    from ixt_rl.run.stages.context import StageRun

    spec = spec_of(stage)
    at = StageRun(
        seed, origin, config.model, config.engine, config.launch, config.self_checks, engines, folder, console, ranks
    )
    held: AbstractContextManager[None] = nullcontext()
    if spec.shared:  # other runs may be making the same base
        held = locked(folder.path, "making this base", wait=partial(console.waiting, stage, seed))
    with held:
        _run_unless_done(stage, at, load(runner_of(spec, stage)), config)
    if spec.precondition is not None:
        load(spec.precondition)(stage, folder)
    return str(folder.model) if spec.makes_model else origin


def _run_unless_done(stage, at: StageRun, runner: StageRunner, config: RunConfig) -> None:
    from ixt_rl.run.strategy import forget_strategy

    folder, console = at.folder, at.console
    for said in folder.mend():
        console.note(said)
    why = folder.why_not_done()
    if not why:
        console.reused(stage, at.seed, folder)
        return
    folder.start(console.note)
    console.again(stage, at.seed, why, folder.goes_on_from())
    forget_strategy()
    with reporting(config.report_to, _about(config, at), console.note) as folder.reporting, at.ranks.named():
        if spec_of(stage).makes_rows:  # a job on a corpus has workers of its own
            runner(stage, at)
        else:
            checkpoint = folder.last_checkpoint()
            at.ranks.tell(TakePart(stage.name, at.seed, at.origin, folder.path, folder.fingerprint, checkpoint))
            runner(stage, at)
            at.ranks.together()
    if spec_of(stage).makes_model and (note := copy_notices(at.origin, folder.model)):
        console.note(note)
    folder.finish()


def _about(config: RunConfig, at: StageRun) -> About:
    """A stage, as trackers are told of it."""
    folder = at.folder
    checkpoint = folder.last_checkpoint()
    return About(
        run=config.name,
        name=folder.stage if at.seed is None else f"{folder.stage}-seed{at.seed}",
        settings=folder.depends_on.get("settings", {}),
        folder=folder.path,
        outputs=Path(config.output_dir),
        resumed=None if checkpoint is None else step_of(checkpoint),
    )


def stage_seeds(config: RunConfig, stage: AnyStage) -> list[int | None]:
    """The seeds a stage runs with: the run's, once a stage that draws by them is in its line of models; else [None]."""
    seeded = any(spec_of(one).seeded for one in config.made_by(stage))
    return list(config.seeds) if seeded else [None]
