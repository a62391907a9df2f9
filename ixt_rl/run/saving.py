"""The run's model with a card beside it, and on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCardData

import ixt_rl
from ixt_rl.blocks.checks import on_this_machine
from ixt_rl.config.schema import RunConfig
from ixt_rl.errors import BackendFailed
from ixt_rl.files import write_text
from ixt_rl.methods.registry import AnyStage, spec_of
from ixt_rl.redaction import redacted
from ixt_rl.run.final_values import ROW_KEYS
from ixt_rl.run.folder import RunFolder, StageFolder

CARD = "README.md"
_LIBRARIES = ("torch", "transformers", "trl")
_COSTS = ("rollouts", "flops", "seconds")


def write_card(config: RunConfig, folder: RunFolder) -> None:
    """Writes README.md into the folder of the run's model."""
    made = _model(folder)
    write_text(made.model / CARD, redacted(card(config, made)))


def card(config: RunConfig, made: StageFolder) -> str:
    """The card of a model: what it was made from, how, on what, and what its last evaluation says.

    Args:
        config: the run.
        made: the stage that made the model, with its rows.
    """
    last = next(stage for stage in config.stages if stage.name == made.stage)
    stages = [stage for stage in reversed(config.made_by(last)) if spec_of(stage).makes_model]
    base = config.model.path
    of_hub = [path for stage in stages for path in _data(stage) if not on_this_machine(path)]
    header = ModelCardData(
        library_name="transformers",
        base_model=base if base is not None and not on_this_machine(base) else None,
        datasets=[path for path in dict.fromkeys(of_hub) if "world: " not in path] or None,
        tags=["ixt-rl", *dict.fromkeys(stage.type for stage in stages)],
    )
    start = "a new model" if base is None else f"`{base if not on_this_machine(base) else Path(base).name}`"
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    return "\n".join(
        [
            f"---\n{header.to_yaml()}\n---\n",
            f"# {config.name}\n",
            f"Made from {start} by the run `{config.name}` of ixt-rl {ixt_rl.__version__} ({versions}).\n",
            "| stage | method | data | updates | learning rate |\n|---|---|---|---|---|",
            *(_row(stage) for stage in stages),
            *_evaluation(made),
        ]
    )


def pushed(config: RunConfig, folder: RunFolder, repository: str) -> str:
    """Uploads the folder of the run's model; returns its address.

    Raises:
        BackendFailed: the hub cannot be reached, or does not take it. The model stays where it is.
    """
    model = _model(folder).model
    api = HfApi(library_name="ixt-rl", library_version=ixt_rl.__version__)
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=model,
            commit_message=f"Run {config.name}",
            ignore_patterns=["training_args.bin"],  # a pickle, with paths of this machine
        )
    except Exception as error:  # of the network, of the hub, of the token: all of them have the same remedy
        raise BackendFailed(
            f"save.push_to_hub: {repository}",
            reason=f"{type(error).__name__}: {error}",
            remedy=f"the model is in {model}; the same command pushes it again, and runs no stage anew",
        ) from error
    return f"{api.endpoint}/{repository}"


def _model(folder: RunFolder) -> StageFolder:
    """The stage whose model is the run's."""
    model = (folder.path / "model").resolve()
    return next(stage for stage in reversed(folder.stages) if stage.model.resolve() == model)


def _row(stage: AnyStage) -> str:
    optim = getattr(stage, "optim", None)
    length = stage.steps if getattr(stage, "steps", None) else f"{getattr(stage, 'epochs', '')} epochs"
    data = ", ".join(path if not on_this_machine(path) else Path(path).name for path in _data(stage))
    return f"| {stage.name} | {stage.type} | {data} | {length} | {optim.lr if optim else ''} |"


def _data(stage: AnyStage) -> Iterator[str]:
    """Names of a stage's data: `world: ...`, paths, ids of the hub."""
    data: Any = getattr(stage, "data", None)
    if getattr(data, "world", None) is not None:
        yield f"world: {data.world}"
    for source in getattr(data, "sources", None) or [data]:
        path = getattr(source, "path", None)
        yield from [] if path is None else [path] if isinstance(path, str) else path


def _evaluation(made: StageFolder) -> list[str]:
    row = made.final_metrics()
    values = {name: value for name, value in row.items() if name not in (*ROW_KEYS, *_COSTS)}
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float) and "flops" not in name}
    if not numbers:
        return []
    seed = f", seed {row['seed']}" if row.get("seed") else ""
    return [
        f"\n## Evaluation\n\nOf stage {made.stage}{seed}, at step {row['step']}.\n",
        "| metric | value |\n|---|---|",
        *(f"| {name} | {value:.4g} |" for name, value in sorted(numbers.items())),
        "",
    ]
