"""Names that may be of the hub or of this machine: `owner/name` is a path as well as an id. Asks the hub nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from ixt_rl.blocks.python_name import missing_path
from ixt_rl.errors import ConfigError

_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_NO_OWNERS = ("models", "datasets", "spaces")
"""First parts of addresses of the hub, which no account there can have."""


def written_as_local(path: str) -> bool:
    """Whether a path is written as a local one; a hub id is `name` or `owner/name`."""
    return path.startswith(("/", "./", "../", "~")) or not _HUB_ID.fullmatch(path)


def missing_here(path: str, kind: Literal["models", "datasets"]) -> ConfigError | None:
    """The error for what could be an id of the hub and is a local path by all signs; None for what is taken as an id.

    The signs: its first part is a folder here, or no owner that the hub has; or, of a name alone, a folder here is
    called nearly so. What the hub's cache has is an id whatever the signs.
    """
    owner, slash, _ = path.partition("/")
    if slash:
        local = owner in _NO_OWNERS or Path(owner).is_dir()
    else:
        local = bool(get_close_matches(path, [one.name for one in Path().iterdir() if one.is_dir()], n=1, cutoff=0.8))
    if not local or _is_cached(path, kind):
        return None
    missing, instead = missing_path(path), ""
    if kind == "models":
        instead = f"; `ixt-rl model smollm2 {path}` makes a folder of a small model there"
    if owner not in _NO_OWNERS:
        data = " --repo-type dataset" if kind == "datasets" else ""
        instead += f"; of an id of the hub, `hf download {path}{data}` first"
    return ConfigError(missing.what, reason=missing.reason, remedy=missing.remedy + instead)


def _is_cached(path: str, kind: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether huggingface_hub's cache has it, where its variables say; importing it would take a second."""
    cache = environment.get("XDG_CACHE_HOME", "~/.cache")
    home = environment.get("HF_HOME", os.path.join(cache, "huggingface"))
    hub = environment.get("HF_HUB_CACHE", os.path.join(home, "hub"))
    return (Path(hub).expanduser() / f"{kind}--{path.replace('/', '--')}").is_dir()
