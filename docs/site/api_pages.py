"""The API reference, derived from what each package says is public.

    __init__.py of a package --ast--> names of `__all__`, each with the module that has it --> a page for mkdocstrings

Nothing is imported: the faces are lazy, and the core must not be needed to write its docs. A package whose face has no
`__all__` shows the public classes and functions of its modules.
"""

from __future__ import annotations

import ast
import configparser
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "ixt_rl"


class FaceError(Exception):
    """A face that does not say where its names are."""


def package_folders(root: Path) -> dict[str, Path]:
    """Folders of the packages that setup.cfg lists, those that lie beside `ixt_rl/` included."""
    settings = configparser.ConfigParser()
    settings.read(root / "setup.cfg", encoding="utf-8")
    mapped = dict(line.split(" = ") for line in settings["options"]["package_dir"].split("\n") if line)
    folders = {}
    for name in settings["options"]["packages"].split():
        base = max((known for known in mapped if f"{name}.".startswith(f"{known}.")), key=len)
        folders[name] = root.joinpath(mapped[base], *name.removeprefix(base).strip(".").split("."))
    return folders


def copy_package(root: Path, target: Path) -> None:
    """The package under `target` as a wheel has it, for a reader that does not follow setup.cfg's mapping."""
    shutil.rmtree(target, ignore_errors=True)
    for name, folder in package_folders(root).items():
        place = target.joinpath(*name.split("."))
        place.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.py"):
            shutil.copy(file, place)


def docstring(file: Path) -> str:
    """Of a module; empty where it has none."""
    return ast.get_docstring(_parsed(file)) or ""


def public_names(package: str, folder: Path) -> dict[str, list[str]]:
    """Public names of a package by module, both in the order of the face.

    Raises:
        FaceError: a name of `__all__` is neither imported nor listed with its module in the face.
    """
    face = _parsed(folder / "__init__.py")
    found: dict[str, list[str]] = defaultdict(list)
    names = _literal(face, "__all__")
    if names is None:
        for module in _modules(package, folder):
            found[module[0]] = _defined(module[1])
        return {module: listed for module, listed in found.items() if listed}
    homes = _homes(package, face)
    for name in names:
        if name not in homes:
            raise FaceError(f"{folder / '__init__.py'}: `__all__` has {name!r}, and nothing there says its module")
        found[homes[name]].append(name)
    return found


def page(package: str, folder: Path) -> str:
    """Markdown of a package's page; a block of mkdocstrings for each module with public names."""
    parts = [f"# `{package}`", docstring(folder / "__init__.py")]
    for module, names in public_names(package, folder).items():
        parts.append(f"::: {module}\n    options:\n      members: {json.dumps(names)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def _literal(tree: ast.Module, name: str) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return ast.literal_eval(node.value)
    return None


def _homes(package: str, face: ast.Module) -> dict[str, str]:
    """The module of each name that a face imports, or lists for its lazy `__getattr__`: `{name: submodule}`."""
    homes = {node.name: package for node in face.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    for node in ast.walk(face):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            homes |= {alias.asname or alias.name: str(node.module) for alias in node.names}
        elif isinstance(node, ast.Dict) and all(isinstance(one, ast.Constant) for one in (*node.keys, *node.values)):
            for name, home in zip(node.keys, node.values, strict=True):
                submodule = str(home.value).removeprefix(f"{package}.")
                homes.setdefault(name.value, f"{package}.{submodule}")
    return homes


def _modules(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(folder.rglob("*.py")):
        parts = [part for part in file.relative_to(folder).with_suffix("").parts if part != "__init__"]
        if not any(part.startswith("_") for part in parts):
            yield ".".join([package, *parts]), file


def _defined(file: Path) -> list[str]:
    nodes = (n for n in _parsed(file).body if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef))
    return [node.name for node in nodes if not node.name.startswith("_") and ast.get_docstring(node)]
