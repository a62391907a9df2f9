"""What a Python source says of a class, read from its syntax tree; nothing is imported or run.

Names are followed through the file, the files beside it and installed packages, also where a package loads lazily and
names its parts under `if TYPE_CHECKING:`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ixt_rl.python_names import module_file

LIBRARIES = ("trl", "transformers", "torch", "accelerate", "datasets")
"""Packages below this library: a class of theirs ends what is read."""


@dataclass(frozen=True)
class ClassSource:
    """A class as it is written."""

    name: str
    file: Path
    node: ast.ClassDef

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassSource) and (self.file, self.name) == (other.file, other.name)

    def __hash__(self) -> int:
        return hash((self.file, self.name))


@dataclass(frozen=True)
class Expression:
    """What a name was set to."""

    file: Path
    node: ast.expr


@dataclass(frozen=True)
class Module:
    """A module that a name stands for."""

    name: str
    folder: Path


@dataclass(frozen=True)
class External:
    """A name of a package that is not read: the standard library's, or of `LIBRARIES`."""

    name: str


Meaning = ClassSource | Expression | Module | External | ast.FunctionDef | None
"""What a name stands for; None: that cannot be seen."""


@dataclass(frozen=True)
class Lineage:
    """A class and its bases.

    Args:
        classes: itself first, then its bases, each before its own.
        unseen: (class, its base as it is written): bases that are not in plain sight.
    """

    classes: tuple[ClassSource, ...]
    unseen: tuple[tuple[ClassSource, str], ...]


def parse(file: Path) -> ast.Module:
    """The syntax tree of a file.

    Raises:
        SyntaxError, ValueError, RecursionError: it is no Python.
        OSError: it cannot be read.
    """
    return _parsed(file.read_bytes())


@lru_cache(maxsize=128)
def _parsed(source: bytes) -> ast.Module:
    return ast.parse(source)


def top_level_names(file: Path, seen: frozenset[Path] = frozenset()) -> list[str]:
    """Names of functions, classes, imports and values of a module, in their order; see `parse`.

    `from x import *` gives the names of `x`; "*" is among them where `x` is not in plain sight.
    """
    found: dict[str, None] = {}
    seen |= {file.resolve()}
    for statement in _statements(parse(file).body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[statement.name] = None
        elif isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            source = _source_of(file.resolve(), statement)
            names = ["*"] if source is None else [] if source.resolve() in seen else top_level_names(source, seen)
            found |= dict.fromkeys(name for name in names if not name.startswith("_"))
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            found |= dict.fromkeys(alias.asname or alias.name.partition(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            found |= dict.fromkeys(target.id for target in targets if isinstance(target, ast.Name))
    return list(found)


def find(file: Path, name: str, seen: frozenset[tuple[Path, str]] = frozenset()) -> Meaning:
    """What a module-level name of a file stands for; the last statement that gives it counts."""
    file = file.resolve()
    if (file, name) in seen:
        return None
    seen |= {(file, name)}
    found: Meaning = None
    try:
        body = parse(file).body
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None
    for statement in _statements(body):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            found = ClassSource(name, file, statement)
        elif isinstance(statement, ast.FunctionDef) and statement.name == name:
            found = statement
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                if (alias.asname or alias.name.partition(".")[0]) == name:
                    found = _module(alias.name if alias.asname else name, file.parent)
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    found = _imported(file, statement, alias.name, seen)
                elif alias.name == "*" and not name.startswith("_"):
                    source = _source_of(file, statement)
                    found = (None if source is None else find(source, name, seen)) or found
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                same = isinstance(statement.value, ast.Name | ast.Attribute)
                found = resolve(file, statement.value, seen) if same else Expression(file, statement.value)
    return found


def resolve(file: Path, node: ast.expr, seen: frozenset[tuple[Path, str]] = frozenset()) -> Meaning:
    """What an expression such as `Base`, `module.Base` or `Base[int]` stands for in a file."""
    if isinstance(node, ast.Subscript):
        return resolve(file, node.value, seen)
    if isinstance(node, ast.Name):
        return find(file, node.id, seen)
    if isinstance(node, ast.Attribute):
        owner = resolve(file, node.value, seen)
        if isinstance(owner, Module):
            return _of_module(owner.name, node.attr, owner.folder, seen)
        return External(f"{owner.name}.{node.attr}") if isinstance(owner, External) else None
    return None


def lineage(start: ClassSource) -> Lineage:
    """A class and all its bases."""
    classes: dict[ClassSource, None] = {}
    unseen: dict[tuple[ClassSource, str], None] = {}
    _climb(start, classes, unseen)
    return Lineage(tuple(classes), tuple(unseen))


def _climb(here: ClassSource, classes: dict[ClassSource, None], unseen: dict[tuple[ClassSource, str], None]) -> None:
    if here in classes:
        return
    classes[here] = None
    for base in here.node.bases:
        found = resolve(here.file, base)
        if isinstance(found, ClassSource):
            _climb(found, classes, unseen)
        elif not isinstance(found, External) and ast.unparse(base) != "object":
            unseen[here, ast.unparse(base)] = None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, also those under `if`, `with` and `try`, in their order."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If):
            yield from _statements([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.With):
            yield from _statements(statement.body)
        elif isinstance(statement, ast.Try):
            handled = [line for handler in statement.handlers for line in handler.body]
            yield from _statements([*handled, *statement.body, *statement.orelse, *statement.finalbody])


def _imported(file: Path, statement: ast.ImportFrom, name: str, seen: frozenset[tuple[Path, str]]) -> Meaning:
    """`from module import name`, and the relative forms of it."""
    if not statement.level:
        return _of_module(statement.module or "", name, file.parent, seen)
    if statement.level > len(file.parents):
        return None
    for source in _relative(file, statement):
        found = find(source, name, seen) if source.is_file() else None
        if found is not None:
            return found
    return None


def _relative(file: Path, statement: ast.ImportFrom) -> list[Path]:
    """Where the module of `from .module import name` may stand."""
    place = file.parents[statement.level - 1].joinpath(*(statement.module or "").split("."))
    package = place / "__init__.py"
    return [place.with_suffix(".py"), package] if statement.module else [package]


def _source_of(file: Path, statement: ast.ImportFrom) -> Path | None:
    """The source that `from module import ...` reads; None where it is not in plain sight, or not read."""
    if statement.level:
        places = _relative(file, statement) if statement.level <= len(file.parents) else []
        return next((place for place in places if place.is_file()), None)
    module = statement.module or ""
    return None if _is_external(module) else module_file(module, file.parent)


def _of_module(module: str, name: str, folder: Path, seen: frozenset[tuple[Path, str]]) -> Meaning:
    """A name of a module, or the module below it that has this name."""
    if _is_external(module):
        return External(f"{module}.{name}")
    source = module_file(module, folder)
    found = None if source is None else find(source, name, seen)
    return _module(f"{module}.{name}", folder) if found is None else found


def _module(name: str, folder: Path) -> Meaning:
    if _is_external(name):
        return External(name)
    return None if module_file(name, folder) is None else Module(name, folder)


def _is_external(module: str) -> bool:
    top = module.partition(".")[0]
    return top in LIBRARIES or top in sys.stdlib_module_names
