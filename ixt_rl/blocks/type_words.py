"""Types of values, in words."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel

from ixt_rl.errors import did_you_mean

_REMEDY_OF_TYPE = {
    "text": "write text; put it in quotes if it looks like a number",
    "a whole number": "write a whole number without quotes",
    "a number": "write a number without quotes, such as 0.1 or 1e-5",
    "true or false": "write true or false",
    "a list": "write a list: [a, b] or one `- item` a line",
}


def union_members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union without None; of anything else, itself. `Annotated` is taken off."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for member in get_args(annotation) if member is not type(None))
    return (annotation,)


def bare_type(annotation: Any) -> Any:
    """An annotation without `Annotated` and `| None`; a union of several stays one."""
    members = union_members(annotation)
    return union_members(members[0])[0] if len(members) == 1 else annotation


def is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def in_words(annotation: Any) -> list[str]:
    """What an annotation accepts, in words, one entry a union member."""
    found: list[str] = []
    for member in union_members(annotation):
        bare = bare_type(member)
        if len(union_members(bare)) > 1:
            found += in_words(bare)
        elif get_origin(bare) is Literal:
            found += [f"`{word}`" for word in get_args(bare)]
        elif get_origin(bare) is list:
            found.append("a list")
        elif is_model(bare):
            found.append(block_words(annotation))
        elif get_origin(bare) is dict:
            found.append("a block")
        else:
            plain = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
            found.append(plain.get(bare, "something else"))
    return list(dict.fromkeys(found))


def block_words(annotation: Any) -> str:
    """`a block with` the keys that all models of an annotation require."""
    models = [m for m in map(bare_type, union_members(annotation)) if hasattr(m, "model_fields")]
    needed = [{name for name, field in m.model_fields.items() if field.is_required()} for m in models]
    shared = [name for name in models[0].model_fields if all(name in names for names in needed)]
    return "a block" + (f" with {', '.join(shared)}" if shared else "")


def block_remedy(annotation: Any, value: Any) -> str:
    """What to write where a block is expected: the block that a word chooses, or the keys that a block has."""
    models = [m for m in map(bare_type, union_members(annotation)) if is_model(m)]
    if len(models) != 1:
        return f"write {block_words(annotation)}"
    fields = {field.alias or name: field for name, field in models[0].model_fields.items()}
    chosen = [key for key, field in fields.items() if isinstance(value, str) and value in known_words(field.annotation)]
    meant = f"did you mean `{{{chosen[0]}: {value}}}`? " if chosen else ""
    return (
        meant
        + f"write {block_words(annotation)}: `{{key: value}}`, or a `key: value` a line; its keys: "
        + ", ".join(fields)
    )


def known_words(annotation: Any) -> list[str]:
    """The words of every `Literal` in an annotation."""
    return [word.strip("`") for word in in_words(annotation) if word.startswith("`")]


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    kinds = {str: "text", bool: "true/false", int: "a whole number", float: "a number with a fraction"}
    kinds |= {list: "a list", dict: "a block", type(None): "null (nothing)"}
    return kinds.get(type(value), type(value).__name__)


def one_of(known: list[str]) -> str:
    return "write one of: " + ", ".join(known)


def wrong_type(expected: Any, value: Any) -> tuple[str, str]:
    """Reason and remedy of a value that is not what its annotation says; None for an annotation that is not known."""
    words = in_words(expected) if expected is not None else ["something else"]
    choices = known_words(expected) if expected is not None else []
    if choices and len(choices) == len(words):
        if isinstance(value, str):
            return "not one of the known words", did_you_mean(value, choices) + one_of(choices)
        return f"expected a word, got {kind_of(value)}", one_of(choices)
    reason = f"expected {' or '.join(words)}, got {kind_of(value)}"
    if choices:
        return reason, did_you_mean(value, choices) + f"write {' or '.join(words)}"
    if words == ["a whole number"] and isinstance(value, float):
        return reason, f"write a whole number such as {round(value) if abs(value) < 1e15 else 1}"
    if words in (["a whole number"], ["a number"]) and isinstance(value, str):
        return reason, _REMEDY_OF_TYPE[words[0]] + " (no quotes, no _ or , between digits)"
    if len(words) == 1 and words[0].startswith("a block"):
        return reason, block_remedy(expected, value)
    return reason, _REMEDY_OF_TYPE.get(words[0], f"write {words[0]}") if len(words) == 1 else (
        f"write {' or '.join(words)}"
    )
