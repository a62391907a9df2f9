"""Licences and notices of a model, which go with what is made from it."""

from __future__ import annotations

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
    try:
        source = _source(origin, revision)
    except (OSError, ValueError) as error:  # of the hub; the model is made, and worth more
        return f"licences of {origin} were not copied: {type(error).__name__}"
    for file in sorted(source.iterdir()):
        if file.name.lower().startswith(_BEGIN) and file.is_file() and not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)
    return ""


def _source(origin: str, revision: str | None) -> Path:
    if Path(origin).is_dir():
        return Path(origin)
    from huggingface_hub import snapshot_download

    forms = [form for begin in _BEGIN for form in (begin, begin.upper(), begin.capitalize())]
    return Path(snapshot_download(origin, revision=revision, allow_patterns=[f"{form}*" for form in forms]))
