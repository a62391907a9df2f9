"""Hashes of what a run or a job reads: data files, folders and patterns, models, Python files and what they import."""

from __future__ import annotations

import ast
import glob
import hashlib
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ixt_rl.errors import DataError
from ixt_rl.files import read_json, write_json
from ixt_rl.python_names import ADDED, module_file

_REMEMBERED = 1 << 20  # bytes from which a hash is worth remembering
_SETTLED_S = 2.0  # a file that was written this recently may be written again under the same time
_UNREAD = ("README.md", "training_args.bin", "optimizer.pt", "scheduler.pt")  # of a model, never loaded with it


class Hashes:
    """sha256 of files; those of large ones are remembered by path, size, inode and times.

    Args:
        store: JSON file that remembers them over runs; None: this process does.
    """

    def __init__(self, store: Path | None = None):
        self._store = store
        self._known: dict[str, list[int | str]] = {}
        self._new = False
        if store is not None:
            try:
                self._known = read_json(store) or {}
            except DataError:  # it is only a memory
                self._known = {}

    def of(self, file: Path) -> str:
        """64 hexadecimal digits.

        Raises:
            OSError: it cannot be read.
        """
        path, stat = str(file.resolve()), file.stat()
        known, state, is_settled = self._known.get(path), state_of(stat), settled(stat)
        if isinstance(known, list) and known[:-1] == state:
            return str(known[-1])
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if is_settled and stat.st_size >= _REMEMBERED:
            self._known[path], self._new = [*state, found], True
        return found

    def save(self) -> None:
        """Writes what was found into the store."""
        if self._store is not None and self._new:
            write_json(self._store, self._known)
            self._new = False


def state_of(stat: os.stat_result) -> list[int]:
    """What is the same as long as a settled file is: size, inode, times of its contents and of its last change (ns).

    The last cannot be set by hand, so that it tells a file of equal size whose older time was put back (`cp -p`).
    """
    return [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]


def settled(stat: os.stat_result) -> bool:
    """Whether a file was last written so long ago that another write would show in its times."""
    return time.time() - max(stat.st_mtime, stat.st_ctime) > _SETTLED_S


def files_of(text: str, apart: Path | None = None) -> dict[str, Path]:
    """The files that a setting names, by what to call them: none if it names none.

    Args:
        text: a path of a file, folder or pattern; FILE.py:NAME or package.module:NAME; or one of these behind
            `python:`, `hf:`, `vllm:` or `stored:`.
        apart: a folder whose files do not count unless `text` lies in it: the runs' own.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind in ("python", "hf", "vllm", "stored"):
        text = rest
    path = os.path.expanduser(text)
    script, _, name = path.rpartition(":")
    if script.endswith(".py") and name.isidentifier():
        path = script
    elif kind != "openai" and name.isidentifier() and all(part.isidentifier() for part in script.split(".")):
        module = module_file(script)
        path = path if module is None else str(module)
    if os.path.isfile(path):
        found = [Path(path), *(imports_of(Path(path)) if path.endswith(".py") else ())]
        return {str(file): file for file in found}
    if os.path.isdir(path):
        return _not_in({f"{path.rstrip('/')}/{name}": file for name, file in folder_files(Path(path))}, path, apart)
    if glob.has_magic(path) and "\0" not in path:
        matches = map(Path, sorted(glob.glob(path, recursive=True)))
        return _not_in({str(file): file for file in matches if file.is_file()}, path, apart)
    return {}


def folder_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name below the folder, file) of all files in it, hidden ones aside; of models, what is loaded with them."""
    for file in sorted(folder.rglob("*")):
        below = file.relative_to(folder)
        if not any(part.startswith(".") for part in below.parts) and below.name not in _UNREAD and file.is_file():
            yield below.as_posix(), file


def imports_of(script: Path) -> list[Path]:
    """Files that a Python file imports from the folder beside it, from its own package, or from other folders of one's
    own, and what those import; read from `import` statements, wherever they stand. Other installed packages are not
    among them. A file has one name, however many folders of the import path lead to it."""
    found: dict[Path, Path] = {script.resolve(): script}
    todo, places, package = [script], [script.parent, *_own_places()], _package(script)
    while todo:
        for place, parts in _imported(todo.pop(), places, package):
            for imported in _modules(place, parts):
                if imported.resolve() not in found:
                    found[imported.resolve()] = imported
                    todo.append(imported)
    return sorted(file for file in found.values() if file != script)


def _package(script: Path) -> Path | None:
    """The topmost package that a file is part of; None for one beside others, which is part of none."""
    folder, top = script.resolve().parent, None
    while (folder / "__init__.py").is_file():
        folder, top = folder.parent, folder
    return top


def _imported(file: Path, places: list[Path], package: Path | None) -> Iterator[tuple[Path, list[str]]]:
    """(folder to look in, name by its parts) of everything that a file imports.

    Args:
        places: where names are looked for.
        package: that the first file is part of: its own name is looked for in it.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return

    def looked_in(name: str) -> list[Path]:
        return [*places, *([package.parent] if package is not None and name == package.name else [])]

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            yield from ((place, parts) for parts in names for place in looked_in(parts[0]))
        elif isinstance(node, ast.ImportFrom):
            head = node.module.split(".") if node.module else []
            inside = 0 < node.level <= len(file.parents)
            folders = [file.parents[node.level - 1]] if inside else looked_in(head[0] if head else "")
            yield from ((place, [*head, alias.name]) for alias in node.names for place in folders)


def _modules(place: Path, parts: Iterable[str]) -> Iterator[Path]:
    """Files of a dotted name below a folder: packages on the way and the module. The last part may be no module."""
    for part in parts:
        for file in (place / f"{part}.py", place / part / "__init__.py"):
            if file.is_file():
                yield file
        place = place / part


def _own_places() -> list[Path]:
    """Folders of the import path that hold neither the standard library nor installed packages, nor this library."""
    installed = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    installed |= {Path(path).resolve() for path in sys.path if "site-packages" in path or "dist-packages" in path}
    here = Path(__file__).resolve().parents[1]
    places = [Path(path or ".").resolve() for path in sys.path if not path.endswith(".zip") and path not in ADDED]
    return [place for place in dict.fromkeys(places) if place not in installed and place != here and place.is_dir()]


def _not_in(files: dict[str, Path], path: str, apart: Path | None) -> dict[str, Path]:
    """The files that do not lie in the folder `apart`, unless `path` does itself."""
    if apart is None or Path(path).resolve().is_relative_to(apart.resolve()):
        return files
    return {name: file for name, file in files.items() if not file.resolve().is_relative_to(apart.resolve())}
