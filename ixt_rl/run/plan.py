"""What the next `run_config` would do, stage by stage, found without loading or writing anything."""

from __future__ import annotations

from pathlib import Path

from ixt_rl.config.schema import RunConfig
from ixt_rl.methods.registry import AnyStage, spec_of
from ixt_rl.methods.stage import FROM_MODEL
from ixt_rl.run.fingerprint import initial_path
from ixt_rl.run.folder import NOT_RUN, RunFolder, StageFolder
from ixt_rl.run.pipeline import stage_seeds


def plan(config: RunConfig) -> list[str]:
    """A line for each stage and seed: whether it is reused, goes on, or is run (again), and why.

    Raises:
        DataError: a state file, or a model that a stage has made, is not what it was.
    """
    folder = RunFolder(Path(config.output_dir), config.name)
    initial = config.model.path or str(initial_path(config))
    models: dict[tuple[str, int | None], str | None] = {}  # None: a model that is yet to be made
    previous: str | None = None
    lines = []
    for stage in config.stages:
        source = None if stage.init == FROM_MODEL else stage.init or previous
        for seed in stage_seeds(config, stage.name):
            title = f"{stage.name}" + ("" if seed is None else f", seed {seed}")
            origin = initial if source is None else models.get((source, seed), models.get((source, None)))
            if origin is None:
                made: str | None = None
                lines.append(f"{title}: {_after(folder, stage, seed, source)}")
            else:
                said, made = _found(folder.stage(config, stage, seed, origin))
                against = stage.compared_with
                if made is not None and against is not None and models.get((against, seed)) is None:
                    said, made = f"done again: it compares with the continuations of {against}", None
                lines.append(f"{title}: {said}")
            models[(stage.name, seed)] = made if spec_of(stage).makes_model else origin
        previous = stage.name
    return lines


def _found(folder: StageFolder) -> tuple[str, str | None]:
    """(what happens to a stage, its model if there is one)."""
    why = folder.why_not_done()
    if not why:
        return "reused", str(folder.model)
    if why == NOT_RUN:
        return f"run ({why})", None
    checkpoint = folder.last_checkpoint() if folder.was_started() else None
    return f"goes on from {checkpoint.name}" if checkpoint else f"done again: {why}", None


def _after(folder: RunFolder, stage: AnyStage, seed: int | None, source: str | None) -> str:
    """What happens to a stage that starts from a model which is yet to be made."""
    before = (folder.stage_path(stage.name, seed) / "started.json").is_file()
    return f"{'done again' if before else 'run'}: it starts from the model of {source}"
