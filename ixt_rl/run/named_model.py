"""The model that a command names: a folder, a hub id, or what a run has made. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ixt_rl.blocks.checks import refuse_adapter
from ixt_rl.blocks.hub_ids import missing_here, written_as_local
from ixt_rl.blocks.python_name import missing_path
from ixt_rl.errors import ConfigError
from ixt_rl.files import read_json
from ixt_rl.run.fingerprint import fingerprint

BASES = "bases.json"
"""File of a run: what the pretrained bases depended on that it used last."""

_STAGES = "stages"


@dataclass(frozen=True)
class NamedModel:
    """A model by where it is.

    Args:
        path: a Hugging Face folder, or a hub id.
        name: short, for tables and folders: `Qwen3-1.7B`, `addition-intro-seed1`.
    """

    path: str
    name: str


def named_model(text: str) -> NamedModel:
    """Finds a model: a Hugging Face folder (a checkpoint is one), a run's folder (the model of its last stage), a
    stage's folder in it (with its `seed<k>`, where there are several; `RUN/stages/NAME` also of a base that runs
    share), or else a hub id.

    Raises:
        ConfigError: nothing is there, a run or stage without a model, or a stage with several.
    """
    folder = Path(text).expanduser()
    if (base := _base_of_run(folder)) is not None:
        return NamedModel(str(base), _name(folder))
    if not folder.is_dir():
        if folder.exists():
            raise ConfigError(f"{text}: a file", reason="a model is a folder", remedy="`ixt-rl model FILE.gguf DIR`")
        if written_as_local(text):
            raise missing_path(text)
        if (missing := missing_here(text, "models")) is not None:
            raise missing
        return NamedModel(text, folder.name)
    if (folder / "config.json").is_file():
        return NamedModel(str(folder), _name(folder))
    if (folder / "model" / "config.json").is_file():
        return NamedModel(str(folder / "model"), _name(folder))
    seeds = sorted(seed for seed in folder.glob("seed*") if (seed / "model" / "config.json").is_file())
    if len(seeds) == 1:
        return NamedModel(str(seeds[0] / "model"), _name(seeds[0]))
    if seeds:
        raise ConfigError(
            f"{text}: a stage with {len(seeds)} models",
            reason="it was trained once a seed",
            remedy=f"name one of them: {', '.join(str(seed) for seed in seeds)}",
        )
    refuse_adapter(text)
    raise ConfigError(f"{text}: a folder without a model", reason="it holds no config.json", remedy=_instead(folder))


def shared_base(output_dir: Path, depends_on: Mapping[str, Any]) -> Path:
    """The folder of a pretrained base that depends on this, which all runs below `output_dir` share."""
    return output_dir / ".cache" / f"pretrain-{fingerprint(depends_on)[:16]}"


def _base_of_run(folder: Path) -> Path | None:
    """The model of the base that `RUN/stages/NAME` would be, if runs did not share it; None where it is none."""
    run = folder.parent.parent
    made = (read_json(run / BASES) or {}).get(folder.name) if folder.parent.name == _STAGES else None
    model = None if made is None else shared_base(run.parent, made) / "model"
    return model if model is not None and (model / "config.json").is_file() else None


def _name(folder: Path) -> str:
    """The folder's own name; of what a run made, also those of the run and stage around it."""
    parts = [part for part in folder.resolve().parts if part not in ("model", "checkpoints")]
    if _STAGES in parts[:-1]:
        at = len(parts) - 1 - parts[::-1].index(_STAGES)
        return "-".join([*parts[at - 1 : at], *parts[at + 1 :]])
    return parts[-1]


def _instead(folder: Path) -> str:
    """What to name in place of a folder that has no model."""
    made = sorted(str(file.parent.parent) for file in folder.glob("**/model/config.json"))
    if made:
        return f"name a stage of it that is done: {', '.join(made)}"
    unfinished = sorted(folder.glob("**/checkpoint-*/config.json"), key=lambda file: file.stat().st_mtime)
    if unfinished:
        return f"its stage is not done; a checkpoint of it is a model: {unfinished[-1].parent}"
    return "name the folder that save_pretrained wrote, a hub id, or a run's stage that is done"
