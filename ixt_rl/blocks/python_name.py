"""A user's Python by name: what of it can be known before anything is imported."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from math import inf
from pathlib import Path

from pydantic import ValidationInfo

from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.python_names import PythonName
from ixt_rl.python_source import find, parse, top_level_names

ON_THIS_MACHINE = {"on_this_machine": True}
"""Validation context under which files, packages and template names are looked up."""


MISSING = "no such file or folder"
"""How the reason begins for a path that does not exist."""


def off(info: ValidationInfo) -> bool:
    """Whether this machine is not to be looked at."""
    return not (info.context or {}).get("on_this_machine")


def missing_path(path: str) -> ConfigError:
    """The error for a path that does not exist, with a near name in the deepest folder that does."""
    folder = Path(path).expanduser()
    while not folder.exists():
        last, folder = folder.name, folder.parent
    near = did_you_mean(last, sorted(entry.name for entry in folder.iterdir())) if folder.is_dir() else ""
    return ConfigError(
        repr(path),
        reason=f"{MISSING} (looked in {folder.resolve()})",
        remedy=near + "correct the path; a relative one starts at the folder the command runs in",
    )


def check_python_name(text: str, info: ValidationInfo, what: str = "FUNCTION") -> str:
    """`FILE.py:NAME` or `package.module:NAME` is there; the source is parsed, not run.

    Args:
        what: how messages call NAME: FUNCTION, CLASS or NAME.

    Returns:
        The same, with the file's path as it was found.

    Raises:
        ConfigError: it names no file or module, or nothing in it.
    """
    named = PythonName.parse(text, what)
    if off(info):
        return text
    file = named.file
    if file is None:
        raise missing_path(named.place) if named.is_file else _missing_module(named, what)
    try:
        names, body = top_level_names(file), parse(file).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ConfigError(
            repr(text), reason=f"{named.place} is no Python: {error}", remedy="correct the file"
        ) from None
    if named.is_file:
        _check_imports(text, named, body)
    # a package that loads its parts when they are asked for, or names that nobody sees
    lazy = "*" in names or (not named.is_file and "__getattr__" in names)
    if named.name not in names and not lazy:
        kind = ast.ClassDef if what == "CLASS" else ast.FunctionDef
        known = [node.name for node in body if isinstance(node, kind)] if what != "NAME" else names
        of_kind = {"CLASS": "classes", "FUNCTION": "functions", "NAME": "names"}[what]
        raise ConfigError(
            repr(text),
            reason=f"{named.place} defines no {named.name!r}",
            remedy=did_you_mean(named.name, known) + f"{of_kind} there: {', '.join(known) or 'none'}",
        )
    return str(named)


def written_function(text: str, info: ValidationInfo) -> ast.FunctionDef | None:
    """The function that `check_python_name` found, as it is written; None where it is not in plain sight."""
    named = PythonName.parse(text, "FUNCTION")
    found = None if off(info) or named.file is None else find(named.file, named.name)
    return found if isinstance(found, ast.FunctionDef) and not found.decorator_list else None


def check_arguments(text: str, info: ValidationInfo, given: Sequence[tuple[str, ...]]) -> None:
    """Refuses a function in plain sight that cannot be called with any of these arguments, which have no names.

    Args:
        given: ways in which it may be called: what its arguments are.
    """
    found = written_function(text, info)
    if found is None:
        return
    places = [*found.args.posonlyargs, *found.args.args]
    least, most = len(places) - len(found.args.defaults), inf if found.args.vararg else len(places)
    named = [one.arg for one, default in zip(found.args.kwonlyargs, found.args.kw_defaults, strict=True) if not default]
    if named or not any(least <= len(way) <= most for way in given):
        raise cannot_be_called(repr(text), f"{found.name}({ast.unparse(found.args)})", given)


def check_names(text: str, info: ValidationInfo, given: Sequence[str], remedy: str) -> None:
    """Refuses a function in plain sight that does not take all of these arguments by name.

    Args:
        remedy: what to write, behind `def FUNCTION`.
    """
    found = written_function(text, info)
    if found is None or found.args.kwarg is not None:
        return
    taken = [argument.arg for argument in (*found.args.args, *found.args.kwonlyargs)]
    lacking = [name for name in given if name not in taken]
    if lacking:
        raise ConfigError(
            repr(text),
            reason=f"{found.name}({', '.join(taken)}) does not take {', '.join(lacking)}: it is given them by name",
            remedy=f"write def {found.name}{remedy}",
        )


def cannot_be_called(what: str, written: str, given: Sequence[tuple[str, ...]]) -> ConfigError:
    """The error for a function that does not take what it would be given."""
    ways = [", ".join(way) for way in given]
    return ConfigError(
        what,
        reason=f"{written} cannot be called with {' or '.join(f'({way})' for way in ways)}",
        remedy=f"write def {written.partition('(')[0]}({ways[0]})",
    )


def _check_imports(text: str, named: PythonName, body: list[ast.stmt]) -> None:
    """Raises ConfigError where a file's own statements import relatively, which only a module of a package can."""
    for statement in body:
        if isinstance(statement, ast.ImportFrom) and statement.level:
            said, beside = ast.unparse(statement), ast.unparse(ast.ImportFrom(statement.module, statement.names, 0))
            raise ConfigError(
                repr(text),
                reason=f"line {statement.lineno} of {named.place} is `{said}`, and a file is no part of a package",
                remedy=f"write `{beside}`, or name it as package.module:{named.name}"
                if statement.module and statement.level == 1
                else f"name it as package.module:{named.name}",
            )


def _missing_module(named: PythonName, what: str) -> ConfigError:
    file = f"{named.place}.py"
    near = f"did you mean `{file}:{named.name}`? " if Path(file).is_file() else ""
    return ConfigError(
        repr(str(named)),
        reason=f"no module {named.place!r} is installed, or it has no Python source",
        remedy=near + f"correct the name, or write FILE.py:{what}",
    )
