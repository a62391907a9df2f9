"""Python by name: of installed packages, and files of a user as they are now.

No bytecode or module of what a user's file was before is taken.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ixt_rl.contents import imports_of
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.python_names import ADDED, PythonName

_MISSING = object()
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "class": (inspect.isclass, "classes"),
    "function": (inspect.isfunction, "functions"),
    "name": (lambda value: True, "names"),
}

_imported: dict[str, tuple[Path, bytes]] = {}
"""Modules beside imported files: their file, and the hash of what it was."""


def load(name: str) -> Any:
    """What `package.module:NAME` names in an installed package.

    Raises:
        ImportError, AttributeError: it is not there.
    """
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def load_named(text: str, role: str, what: str = "name") -> Any:
    """What `FILE.py:NAME` or `package.module:NAME` names, imported; a file as it is now, with what lies beside it.

    Args:
        role: how messages call it: trainer, reward, judge, ...
        what: what it should be: class, function or name.

    Raises:
        ConfigError: it cannot be imported, or there is nothing of that name.
    """
    named = PythonName.parse(text)
    where = f"{role} {'file' if named.is_file else 'module'} {named.place}"
    if named.is_file and named.file is None:
        raise ConfigError(f"{role} {text}", reason=f"there is no file {named.place!r}", remedy="correct the path")
    try:
        module = import_file(Path(named.place), f"ixt_rl_{role}") if named.is_file else import_module(named.place)
        found = getattr(module, named.name, _MISSING)
    except (Exception, SystemExit) as error:  # any, because it is the user's
        raise ConfigError(
            where, reason=f"importing it raised {type(error).__name__}: {error}", remedy="repair it"
        ) from error
    if found is _MISSING or (what == "function" and not callable(found)):
        is_one, plural = _KINDS[what]
        known = [key for key, value in vars(module).items() if is_one(value) and not key.startswith("_")]
        raise ConfigError(
            where,
            reason=f"it has no {what} {named.name!r}",
            remedy=f"{did_you_mean(named.name, known)}its {plural}: {', '.join(known) or 'none'}",
        )
    return found


def import_file(file: Path, prefix: str) -> ModuleType:
    """The module of a Python file. It may import what lies beside it, after all that is installed.

    Args:
        file: FILE.py.
        prefix: start of the module's name, which is its file's own: `pickle` and `dataclasses` find it there.

    Raises:
        Exception: whatever running it raises.
    """
    beside = imports_of(file)
    _forget(file.resolve().parent, beside)
    _look_in(str(file.resolve().parent))
    name = f"{prefix}_{file.stem}_{hashlib.sha256(os.fsencode(file.resolve())).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # not the loader's way: it takes bytecode of any source of the same size that was written in the same second
        exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        _remember(beside)
    return module


def _forget(folder: Path, beside: list[Path]) -> None:
    """Modules that an import in this file would take, and that are of another folder's file or of other contents."""
    for name, (path, known) in list(_imported.items()):
        top = folder / name.partition(".")[0]
        elsewhere = not path.is_relative_to(folder) and (top.is_dir() or top.with_suffix(".py").is_file())
        if elsewhere or not path.is_file() or _hash(path) != known:
            sys.modules.pop(name, None)
            del _imported[name]
    for file in beside:
        with suppress(OSError):  # where it cannot be removed, none was written
            Path(importlib.util.cache_from_source(str(file))).unlink()
    importlib.invalidate_caches()


def _look_in(folder: str) -> None:
    """The folder behind all that is installed, and before those of other files."""
    if folder in ADDED:
        ADDED.remove(folder)
    elif folder in sys.path:
        return
    ADDED.insert(0, folder)
    sys.path[:] = [*(path for path in sys.path if path not in ADDED), *ADDED]


def _remember(beside: list[Path]) -> None:
    files = {file.resolve() for file in beside}
    called = {path.name for path in (*beside, *files)}  # thousands of modules are loaded, and to resolve a path is slow
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if not isinstance(origin, str) or name in _imported or os.path.basename(origin) not in called:
            continue
        if (path := Path(origin).resolve()) in files:
            _imported[name] = path, _hash(path)


def _hash(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()
