"""Python by name, `FILE.py:NAME` or `package.module:NAME`: where it stands, found without importing anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from ixt_rl.errors import ConfigError

ADDED: list[str] = []
"""Folders that importing a user's file has put on the import path, for that file alone: its own, the last one first."""

_RUN_FILE: ContextVar[Path | None] = ContextVar("folder of the run file", default=None)


@contextmanager
def beside(folder: Path) -> Iterator[None]:
    """Within it, FILE.py is looked for in `folder`, too, after the current folder."""
    token = _RUN_FILE.set(folder)
    try:
        yield
    finally:
        _RUN_FILE.reset(token)


@dataclass(frozen=True)
class PythonName:
    """A function, class or object in a Python file or an installed module.

    Args:
        place: FILE.py, or a dotted module.
        name: what is meant there.
    """

    place: str
    name: str

    @classmethod
    def parse(cls, text: str, what: str = "NAME") -> PythonName:
        """Reads `FILE.py:NAME` or `package.module:NAME`; a file that is not in the current folder is looked for
        `beside` the run file.

        Args:
            what: how messages call NAME.

        Raises:
            ConfigError: it is neither.
        """
        place, _, name = text.rpartition(":")
        if not name.isidentifier() or not (
            place.endswith(".py") or all(part.isidentifier() for part in place.split("."))
        ):
            raise ConfigError(
                repr(text),
                reason=f"it must name a file and a {what.lower()} in it, or an installed module and one in it",
                remedy=f"write FILE.py:{what} or package.module:{what}",
            )
        return cls(_found(place) if place.endswith(".py") else place, name)

    @property
    def is_file(self) -> bool:
        """Whether a file is named, and not a module."""
        return self.place.endswith(".py")

    @property
    def file(self) -> Path | None:
        """The file that it stands in; None where there is none, or the module has no source."""
        if self.is_file:
            return path if (path := Path(self.place)).is_file() else None
        return module_file(self.place)

    def __str__(self) -> str:
        return f"{self.place}:{self.name}"


def module_file(module: str, folder: Path | None = None) -> Path | None:
    """The source of a module, found as an import would find it, its packages not imported; None without a source.

    Args:
        module: dotted name.
        folder: where a module is looked for that is not installed.
    """
    top, *below = module.split(".")
    spec = _top(top, folder)
    for end in range(len(below)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = ".".join([top, *below[: end + 1]])
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    origin = None if spec is None else spec.origin
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def _top(name: str, folder: Path | None) -> ModuleSpec | None:
    try:
        spec = find_spec(name)
    except (ValueError, ImportError):  # `__main__`, or a finder that fails
        spec = None
    origin = None if spec is None else spec.origin
    if spec is not None and not any(Path(origin or ".").is_relative_to(other) for other in ADDED):
        return spec
    return spec if folder is None else PathFinder.find_spec(name, [str(folder)])


def _found(file: str) -> str:
    """The file's path: as it stands, or beside the run file where only there is one."""
    path, folder = os.path.expanduser(file), _RUN_FILE.get()
    if folder is not None and not os.path.isfile(path) and (folder / path).is_file():
        return str(folder / path)
    return path
