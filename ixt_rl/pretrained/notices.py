"""Licences and notices of a model, which go with what is made from it."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

_BEGIN = ("license", "licence", "copying", "notice", "use_policy", "third_party")
"""How names of such files begin, whatever their case."""


def copy_notices(origin: str, folder: Path, revision: str | None = None) -> str:
    """Copies them from a model's folder, or from its repository on the hub, beside what was made from it.

    Args:
        origin: a local folder, or an id of the hub.
        folder: of the model that was made; what it has already stays.
        revision: of the repository.

    Returns:
        Why the hub gave none, in words; empty where it did, or was not asked.
    """
    found = Path(origin) if Path(origin).is_dir() else _of_hub(origin, revision)
    if isinstance(found, str):
        return found
    for file in sorted(found.iterdir()):
        if file.name.lower().startswith(_BEGIN) and file.is_file() and not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)
    return ""


@functools.cache
def _of_hub(origin: str, revision: str | None) -> Path | str:
    """The folder that a repository's are in, or why there is none: asked for once, however many models a run makes."""
    from huggingface_hub import snapshot_download

    forms = [form for begin in _BEGIN for form in (begin, begin.upper(), begin.capitalize())]
    try:
        return Path(snapshot_download(origin, revision=revision, allow_patterns=[f"{form}*" for form in forms]))
    except (OSError, ValueError) as error:  # the model is made, and worth more
        return f"licences of {origin} were not copied: {type(error).__name__}"
