"""Fields of a trainer's config dataclass: from its source, nothing imported, or from the class itself.

Both give the same for what a run file can write: numbers, text, true or false, null, lists, blocks, one of some words.
What is annotated otherwise has no known type, and is left to the class. Fields of `LIBRARIES` are not among them.
"""

from __future__ import annotations

import ast
import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional, Union, get_args, get_origin

from ixt_rl.python_source import LIBRARIES, ClassSource, Expression, External, Lineage, resolve

_PLAIN = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict, "Any": Any}
_GENERIC: dict[str, Any] = {"list": list, "List": list, "dict": dict, "Dict": dict}


@dataclass(frozen=True)
class OptionField:
    """A field of a config dataclass.

    Args:
        annotation: its type; None where a run file cannot tell.
        required: it has no default.
        owner: name of the class that says so last.
        shipped: that class is of this library.
    """

    annotation: Any
    required: bool
    owner: str
    shipped: bool


class _Unknown(Exception):
    """An annotation that stands for nothing that YAML writes."""


def is_shipped(file: Path) -> bool:
    """Whether a source is of this library."""
    import ixt_rl

    rooms = ("ixt_rl", "trainers", "rewards")
    return any(_below(file, Path(root), rooms) for root in ixt_rl.__path__)


def _below(file: Path, root: Path, rooms: tuple[str, ...]) -> bool:
    inside = file.resolve().is_relative_to(root.resolve())
    if root.name == "ixt_rl":
        return inside
    return inside and file.resolve().relative_to(root.resolve()).parts[0] in rooms


def written_fields(classes: Lineage) -> dict[str, OptionField]:
    """Fields of a dataclass and its bases as they are written, the bases' first."""
    found: dict[str, OptionField] = {}
    for one in reversed(classes.classes):
        if is_dataclass(one):
            found |= _own_fields(one)
    return found


def is_dataclass(one: ClassSource) -> bool:
    """Whether a class is written with `@dataclass`."""
    return any(_word(one.file, head) == "dataclass" for head in _decorators(one))


def unseen_decorators(one: ClassSource) -> list[str]:
    """Decorators that may make a dataclass of a class that is not written as one."""
    heads = [] if is_dataclass(one) else _decorators(one)
    return [ast.unparse(head) for head in heads if not isinstance(resolve(one.file, head), External)]


def class_fields(config_class: type) -> dict[str, OptionField]:
    """Fields of an imported dataclass, as `written_fields` gives them."""
    try:
        hints: Mapping[str, Any] = typing.get_type_hints(config_class)
    except (NameError, TypeError, AttributeError):  # names that are there for type checkers alone
        hints = {}
    owners = {
        name: owner
        for owner in reversed(config_class.__mro__)
        if owner.__module__.partition(".")[0] not in LIBRARIES
        for name in vars(owner).get("__annotations__", ())
    }
    found = {}
    for field in config_class.__dataclass_fields__.values():  # type: ignore[attr-defined]
        kind = (
            field._field_type.name
        )  # arguments of __post_init__ are none of `dataclasses.fields`, but of the constructor
        owner = owners.get(field.name)
        if owner is not None and field.init and kind != "_FIELD_CLASSVAR":
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            hint = hints.get(field.name)
            hint = hint.type if isinstance(hint, dataclasses.InitVar) else hint
            shipped = owner.__module__.partition(".")[0] == "ixt_rl"
            found[field.name] = OptionField(hint if is_plain(hint) else None, required, owner.__name__, shipped)
    return found


def is_plain(annotation: Any) -> bool:
    """Whether YAML writes values of a type: numbers, text, true or false, null, lists, blocks, words."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType, list, dict):
        return all(map(is_plain, get_args(annotation)))
    if origin is Literal:
        return all(isinstance(word, str | int | float | None) for word in get_args(annotation))
    return any(annotation is plain for plain in (*_PLAIN.values(), type(None)))


def _own_fields(one: ClassSource) -> dict[str, OptionField]:
    found = {}
    for statement in one.node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        words = _field_words(one.file, statement)
        if _is_no_argument(one.file, statement.annotation, words):
            continue
        try:
            annotation = _type_of(one.file, statement.annotation)
        except _Unknown:
            annotation = None
        has_default = statement.value is not None if words is None else {"default", "default_factory"} & words.keys()
        required = not has_default
        found[statement.target.id] = OptionField(annotation, required, one.name, is_shipped(one.file))
    return found


def _decorators(one: ClassSource) -> list[ast.expr]:
    return [node.func if isinstance(node, ast.Call) else node for node in one.node.decorator_list]


def _word(file: Path, node: ast.expr) -> str:
    """The last part of a name, as its module calls it: `Optional` of `from typing import Optional as Opt`, too."""
    found = resolve(file, node)
    return (found.name if isinstance(found, External) else ast.unparse(node)).rpartition(".")[2]


def _field_words(file: Path, statement: ast.AnnAssign) -> dict[str | None, ast.expr] | None:
    """Keyword arguments of `= field(...)`; None where it is another value, or none."""
    value = statement.value
    if isinstance(value, ast.Call) and _word(file, value.func) == "field":
        return {keyword.arg: keyword.value for keyword in value.keywords}
    return None


def _is_no_argument(file: Path, annotation: ast.expr, words: dict[str | None, ast.expr] | None) -> bool:
    """Whether the constructor does not take it: of the class alone, a mark, or `field(init=False)`."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            return _is_no_argument(file, _expression(annotation.value), words)
        except _Unknown:
            return False
    head = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    init = (words or {}).get("init")
    return _word(file, head) in ("ClassVar", "KW_ONLY") or (isinstance(init, ast.Constant) and init.value is False)


def _type_of(file: Path, node: ast.expr) -> Any:
    """The type that an annotation of a source stands for.

    Raises:
        _Unknown: it is none that YAML writes, or not in plain sight.
    """
    if isinstance(node, ast.Constant):
        if node.value is None:
            return None
        if isinstance(node.value, str):
            return _type_of(file, _expression(node.value))
        raise _Unknown
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return Union[_type_of(file, node.left), _type_of(file, node.right)]  # noqa: UP007 - of types known only here
    if isinstance(node, ast.Subscript):
        return _subscripted(file, node)
    name = _word(file, node) if isinstance(node, ast.Name | ast.Attribute) else ""
    if name in _PLAIN:
        return _PLAIN[name]
    found = resolve(file, node)
    if isinstance(found, Expression):
        return _type_of(found.file, found.node)
    raise _Unknown


def _subscripted(file: Path, node: ast.Subscript) -> Any:
    head = _word(file, node.value)
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if head == "Literal":
        words = tuple(part.value for part in parts if isinstance(part, ast.Constant))
        if len(words) == len(parts):
            return Literal[words]
    elif head in ("Annotated", "InitVar"):
        return _type_of(file, parts[0])
    elif head == "Optional":
        return Optional[_type_of(file, parts[0])]  # noqa: UP045 - of a type known only here
    elif head == "Union":
        return Union[tuple(_type_of(file, part) for part in parts)]  # noqa: UP007
    elif head in _GENERIC:
        return _GENERIC[head][tuple(_type_of(file, part) for part in parts)]
    raise _Unknown


def _expression(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        raise _Unknown from None
