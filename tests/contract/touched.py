"""Finds what this library touches of the private parts of TRL's and transformers' trainers: `overridden` and `read`."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from transformers import Trainer

import ixt_rl
import ixt_rl.trainers

ROOT = Path(__file__).resolve().parents[2]
READERS = ("trainers/*.py", "trainers/sip/*.py", "ixt_rl/rollout/trl_adapter.py", "ixt_rl/run/**/*.py")
"""Files that are handed one of the trainers."""
PARTS = ("DemonstrationTeacherContextBuilder",)
"""Classes beside trainers that are derived from."""


def signature(function: Callable) -> str:
    """Names, kinds and defaults of parameters; without annotations, which may change and nothing breaks."""
    found = inspect.signature(inspect.unwrap(function))
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values()]
    return str(inspect.Signature(bare))


def returned(function: Callable) -> set[int]:
    """How many values its return statements have, nested functions left out."""
    outer = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]

    def returns(node: ast.AST) -> Iterator[ast.Return]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Return):
                yield child
            elif not isinstance(child, ast.FunctionDef | ast.Lambda):
                yield from returns(child)

    return {len(one.value.elts) if isinstance(one.value, ast.Tuple) else 1 for one in returns(outer)}


def _is_theirs(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("trl", "transformers")


@cache
def own_classes() -> tuple[type, ...]:
    """Trainers of this library, and what else it derives from TRL's `PARTS`."""
    found = {}
    for module in pkgutil.walk_packages(ixt_rl.trainers.__path__, "ixt_rl.trainers."):
        for kind in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(kind) and kind.__module__.startswith("ixt_rl."):
                names = {base.__name__ for base in kind.__mro__}
                if issubclass(kind, Trainer) or names & set(PARTS):
                    found[kind.__qualname__] = kind
    return tuple(found.values())


@cache
def their_classes() -> dict[str, type]:
    """By name, the classes of TRL and transformers that ours derive from."""
    return {base.__name__: base for kind in own_classes() for base in kind.__mro__ if _is_theirs(base)}


@cache
def overridden() -> dict[tuple[str, str], set[str]]:
    """Methods of theirs that a class of ours defines anew: (their class, method) -> files of ours."""
    found: dict[tuple[str, str], set[str]] = {}
    for kind in own_classes():
        for place, own in enumerate(kind.__mro__):
            if not own.__module__.startswith("ixt_rl"):
                continue
            for name, value in vars(own).items():
                if not inspect.isfunction(value) or (name.startswith("__") and name != "__init__"):
                    continue
                base = next((b for b in kind.__mro__[place + 1 :] if _is_theirs(b) and name in vars(b)), None)
                if base is not None:
                    found.setdefault((base.__name__, name), set()).add(_file(own))
    return found


@cache
def private_names() -> dict[str, set[str]]:
    """By private name of a method or an attribute of theirs, the classes that define or set it."""
    found: dict[str, set[str]] = {}
    for name, kind in their_classes().items():
        methods = {one for one, value in vars(kind).items() if inspect.isfunction(value)}
        for one in methods | set(re.findall(r"\bself\.(_\w+)(?:: [^=\n]+)? [+]?= ", inspect.getsource(kind))):
            if one.startswith("_") and not one.startswith("__"):
                found.setdefault(one, set()).add(name)
    return found


@cache
def read() -> dict[str, set[str]]:
    """Private names of theirs that files of ours read, set or call: name -> files."""
    found: dict[str, set[str]] = {}
    for pattern in READERS:
        for path in ROOT.glob(pattern):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in private_names():
                    found.setdefault(node.attr, set()).add(str(path.relative_to(ROOT)))
    return found


def _file(kind: type) -> str:
    return str(Path(inspect.getsourcefile(kind) or "").relative_to(ROOT))
