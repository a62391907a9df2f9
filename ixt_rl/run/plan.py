"""What the next `run_config` would do, stage by stage, found without loading or writing anything."""

from __future__ import annotations

from pathlib import Path

from ixt_rl.config.rows_of_stages import rows_taken
from ixt_rl.config.schema import RunConfig
from ixt_rl.methods.registry import AnyStage, spec_of
from ixt_rl.run.fingerprint import check_suite_files, initial_path
from ixt_rl.run.folder import NOT_RUN, RunFolder, StageFolder
from ixt_rl.run.pipeline import stage_seeds
from ixt_rl.run.precision import with_kept_dtype
from ixt_rl.run.question_files import check_question_files


def plan(config: RunConfig) -> list[str]:
    """A line for each stage and seed: whether it is reused, goes on, or is run (again), and why.

    Raises:
        DataError: a state file, or a model that a stage has made, is not what it was.
        ConfigError: see `check_suite_files` and `check_question_files`.
    """
    folder = RunFolder(Path(config.output_dir), config.name)
    config = with_kept_dtype(config, folder)
    initial = config.model.path or str(initial_path(config))
    models: dict[tuple[str, int | None], str | None] = {}  # None: a model that is yet to be made
    unmade: list[str] = []  # stages whose rows are yet to be made
    lines = []
    check_suite_files(config.stages)
    check_question_files(config.stages)
    for stage in config.stages:
        source = config.starts_from(stage)
        for seed in stage_seeds(config, stage):
            title = f"{stage.name}" + ("" if seed is None else f", seed {seed}")
            origin = initial if source is None else models.get((source.name, seed), models.get((source.name, None)))
            waits = next((maker.name for maker in rows_taken(stage, config.named) if maker.name in unmade), None)
            if origin is None or waits is not None:
                made: str | None = None
                what = (
                    f"reads the rows of {waits}"
                    if source is None or origin
                    else f"starts from the model of {source.name}"
                )
                lines.append(f"{title}: {_after(folder, stage, seed, what)}")
            else:
                said, made = _found(folder.stage(config, stage, seed, origin))
                against = stage.compared_with
                if made is not None and against is not None and models.get((against, seed)) is None:
                    said, made = f"done again: it compares with the continuations of {against}", None
                lines.append(f"{title}: {said}")
            if made is None and spec_of(stage).makes_rows:
                unmade.append(stage.name)
            models[(stage.name, seed)] = made if spec_of(stage).makes_model else origin
    return lines


def _found(folder: StageFolder) -> tuple[str, str | None]:
    """(what happens to a stage, its model if there is one)."""
    why = folder.why_not_done()
    if not why:
        return "reused", str(folder.model)
    if why == NOT_RUN:
        return f"run ({why})", None
    place = folder.goes_on_from() if folder.was_started() else ""
    return f"goes on from {place}" if place else f"done again: {why}", None


def _after(folder: RunFolder, stage: AnyStage, seed: int | None, what: str) -> str:
    """What happens to a stage that starts from a model, or reads rows, which are yet to be made."""
    before = (folder.stage_path(stage.name, seed) / "started.json").is_file()
    return f"{'done again' if before else 'run'}: it {what}"
