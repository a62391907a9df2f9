"""Turns pydantic's errors into `Problem`s a user can act on.

pydantic puts the tags of unions into an error's location (`stages.0.intro.data.file.path`), where
they cannot be told from keys. `_walk` follows a location through the schema's types, drops the tags
and finds the type that was expected, from which the reason, the remedy and "did you mean" follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Discriminator, Tag
from pydantic.fields import FieldInfo

from ixt_rl.blocks.earlier_names import ENGINE_KEYS, RUN_KEYS, STAGE_KEYS
from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.blocks.judge_options import KEY_NAME
from ixt_rl.blocks.type_words import (
    bare_type,
    block_remedy,
    block_words,
    in_words,
    is_model,
    kind_of,
    one_of,
    union_members,
    wrong_type,
)
from ixt_rl.config.problems import BlocksAtOdds, ConfigProblem
from ixt_rl.config.schema import RunConfig
from ixt_rl.errors import ConfigError, closest, did_you_mean, show
from ixt_rl.methods.registry import AnyStage
from ixt_rl.methods.stage import Stage
from ixt_rl.redaction import HIDDEN
from ixt_rl.yaml_io import Path

TRL_NAMES = {
    "learning_rate": "lr",
    "lr_scheduler_type": "schedule",
    "max_completion_length": "max_new_tokens",
    "max_prompt_length": "max_prompt_tokens",
    "max_steps": "steps",
    "model_name_or_path": "path",
    "num_generations": "group_size",
    "num_train_epochs": "epochs",
    "optim": "name",
    "per_device_train_batch_size": "micro_batch_size",
    "reward_funcs": "rewards",
    "seed": "seeds",
    "torch_dtype": "dtype",
}
"""Names by which users of TRL know some of our keys."""

_WRONG_TYPE = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a block",
    "model_type": "a block",
    "model_attributes_type": "a block",
    "none_required": "null",
    "literal_error": "one of a few words",
}


@dataclass(frozen=True)
class _Spot:
    """Where an error lies: the real path, the type expected there, and the model that holds the key."""

    path: Path
    expected: Any
    model: type[BaseModel] | None
    branch: str = ""  # member of a plain union that pydantic tried, "" outside of one
    union: Any = None  # the whole of that union
    root: type[BaseModel] = RunConfig


def explain(
    errors: list[dict[str, Any]], data: Any, root: type[BaseModel] = RunConfig
) -> list[tuple[Path, ConfigProblem]]:
    """Problems for the errors of `root.model_validate(data)`, without `where`, in the file's order.

    Args:
        errors: what `ValidationError.errors()` returns.
        data: the plain value that was validated.
        root: the block that it was validated as.
    """
    spots = [(_walk(error["loc"], root), error) for error in errors]
    misspelt = {_meant(spot) for spot, error in spots if error["type"] == "extra_forbidden"}
    found: list[tuple[Path, ConfigProblem]] = []
    for spot, error in _one_branch(spots):
        if error["type"] == "missing" and spot.path in misspelt:
            continue  # the unknown key beside it says the same
        for path, value, reason, remedy in _described(spot, error, data):
            problem = ConfigProblem(dotted(path, data), value, reason, remedy)
            if (path, problem) not in found:
                found.append((path, problem))
    return found


def dotted(path: Path, data: Any) -> str:
    """A path as an override writes it, stages by their names: `stages.warmup.optim.lr`."""
    parts = [str(part) for part in path]
    if len(path) > 1 and path[0] == "stages" and isinstance(path[1], int):
        stage = _value_at(data, path[:2])
        name = stage.get("name") if isinstance(stage, dict) else None
        if isinstance(name, str) and name:
            parts[1] = name
    return ".".join(parts)


# ----------------------------------------------------------------------------- through the schema


def _tagged(annotation: Any, tag: str) -> Any:
    """The member of a discriminated union that has `tag`; None if `annotation` is none."""
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    if not any(isinstance(m, Discriminator) or (isinstance(m, FieldInfo) and m.discriminator) for m in metadata):
        return None
    for member in union_members(annotation):
        if Tag(tag) in get_args(member)[1:]:
            return bare_type(member)
        if is_model(member) and tag in get_args(member.model_fields["type"].annotation):
            return member
    return None


def _label_fits(member: Any, label: str) -> bool:
    """Whether pydantic's label of a union member, such as `function-after[f(), function-after[g(), str]]`, means it."""
    bare = bare_type(member)
    if get_origin(bare) is Literal:
        return label.startswith("literal[")
    if get_origin(bare) is list:
        return label.startswith("list[")
    if label == f"constrained-{bare.__name__}":
        return True
    return label == bare.__name__ or label.rstrip("]").endswith(f" {bare.__name__}")


def _field_type(field: FieldInfo) -> Any:
    """A field's annotation with the discriminator that pydantic moved to the field put back."""
    markers = [m for m in field.metadata if isinstance(m, Discriminator)]
    return Annotated[field.annotation, markers[0]] if markers else field.annotation


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """A model's fields by the keys that a run file writes."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _walk(location: tuple[str | int, ...], root: type[BaseModel]) -> _Spot:
    """Follows an error's location through the schema."""
    expected: Any = root
    model: type[BaseModel] | None = None
    path: list[str | int] = []
    branch, union = "", None
    for part in location:
        member = _tagged(expected, str(part))
        if member is not None:
            expected = member
            continue
        if len(union_members(expected)) > 1:
            branch, union = str(part), expected
            expected = next((m for m in union_members(expected) if _label_fits(m, branch)), None)
            continue
        if part == "[key]":
            continue
        bare = bare_type(expected)
        path.append(part)
        branch, union = "", None
        if is_model(bare):
            model = bare
            field = _fields(bare).get(str(part))
            expected = _field_type(field) if field else None
        elif get_origin(bare) in (list, dict):
            expected = get_args(bare)[-1]
        else:
            expected = None
    return _Spot(tuple(path), expected, model, branch, union, root)


def _one_branch(spots: list[tuple[_Spot, dict]]) -> Iterator[tuple[_Spot, dict]]:
    """Of a plain union's members, keeps the errors of the one that was meant.

    pydantic reports every member of `str | Template`. A member whose own type fitted says something
    useful; the others only say that they are not it. If none fitted, one error stands for them all.
    """
    at_union = [spot.path for spot, _ in spots if spot.branch]
    fitted = {
        path
        for path in at_union
        for spot, error in spots
        if _below(spot.path, path) and not (spot.path == path and error["type"] in _WRONG_TYPE)
    }
    merged: set[Path] = set()
    for spot, error in spots:
        if not spot.branch or spot.path not in at_union or error["type"] not in _WRONG_TYPE:
            yield spot, error
        elif spot.path not in fitted and spot.path not in merged:
            merged.add(spot.path)
            yield _Spot(spot.path, spot.union, spot.model, root=spot.root), error


def _below(path: Path, top: Path) -> bool:
    return path[: len(top)] == top


# ------------------------------------------------------------------------------------- in words


def _value_at(data: Any, path: Path) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _described(spot: _Spot, error: dict[str, Any], data: Any) -> list[tuple[Path, str, str, str]]:
    """Path, value, reason and remedy: one of an error, or of each that blocks have against each other."""
    cause = (error.get("ctx") or {}).get("error")
    if isinstance(cause, BlocksAtOdds):
        return [((*spot.path, *path), one.what, one.reason, one.remedy) for path, one in cause.refused]
    return [_describe(spot, error, data)]


def _describe(spot: _Spot, error: dict[str, Any], data: Any) -> tuple[Path, str, str, str]:
    """Path, value, reason and remedy of one error."""
    kind, context, value = error["type"], error.get("ctx") or {}, error["input"]
    path = spot.path
    if kind == "value_error" and isinstance(context.get("error"), ConfigError):
        cause = context["error"]
        return path, cause.what, cause.reason, cause.remedy
    if kind == "missing":
        return path, "missing", *_missing(spot)
    if kind == "extra_forbidden":
        shown = HIDDEN if isinstance(value, str) and KEY_NAME.fullmatch(str(path[-1])) else show(value)
        return path, shown, f"unknown key `{path[-1]}`", _unknown_key(spot, data)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        known = _types(spot)
        if not isinstance(value, dict):
            block = block_words(spot.expected)
            return path, show(value), f"expected {block}, got {kind_of(value)}", block_remedy(spot.expected, value)
        if kind == "union_tag_not_found":
            return (*path, "type"), "missing", "it decides which keys the block has", one_of(_types(spot))
        tag = context["tag"]
        return (*path, "type"), show(tag), "unknown type", did_you_mean(tag, known) + one_of(known)
    if kind in _WRONG_TYPE:
        return path, show(value), *wrong_type(spot.expected, value)
    if kind == "invalid_key":
        return path, "a key that is no text", "keys are text", "put the key in quotes, or remove it"
    return path, show(value), *_out_of_bounds(kind, context, error["msg"])


def _types(spot: _Spot) -> list[str]:
    """The values of `type` that a discriminated union knows."""
    members = [m for m in map(bare_type, union_members(spot.expected)) if is_model(m) and "type" in m.model_fields]
    return _type_words(members)


def _type_words(members: list[Any]) -> list[str]:
    words = (word for member in members for word in get_args(member.model_fields["type"].annotation))
    return list(dict.fromkeys(words))


def _missing(spot: _Spot) -> tuple[str, str]:
    key = spot.path[-1]
    field = _fields(spot.model).get(str(key)) if spot.model else None
    what = f" ({field.description})" if field and field.description else ""
    words = in_words(field.annotation) if field else []
    return "it has no default", f"add `{key}:` with {' or '.join(words)}{what}"


def _out_of_bounds(kind: str, context: dict[str, Any], message: str) -> tuple[str, str]:
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    signs = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    if kind in bounds:
        limit = context[bounds[kind]]
        bound = f"{signs[bounds[kind]]} {limit if isinstance(limit, int) else format(limit, 'g')}"
        return f"it must be {bound}", f"write a number {bound}"
    if kind == "finite_number":
        return "it must be a finite number", "write a finite number"
    if kind in ("too_short", "too_long"):
        limit = context.get("min_length") if kind == "too_short" else context.get("max_length")
        bound = f"at {'least' if kind == 'too_short' else 'most'} {limit} item{'s' if limit != 1 else ''}"
        return f"it has {context['actual_length']}, it must have {bound}", f"write a list of {bound}"
    if kind == "string_too_long":
        return f"it is longer than {context['max_length']} characters", "make it shorter; the name becomes a folder"
    if kind == "string_pattern_mismatch":
        return (
            "names are letters, digits, `.`, `_` and `-`, starting with a letter or digit",
            "rename it; the name becomes a folder",
        )
    return message, "`ixt-rl schema` prints what every key accepts"


# ------------------------------------------------------------------------------------ unknown keys


def _unknown_key(spot: _Spot, data: Any) -> str:
    """The remedy for an unknown key: where it belongs, or the known key closest to it."""
    key = str(spot.path[-1])
    known = list(_fields(spot.model)) if spot.model else []
    if (now := _name_of_now(spot)) is not None:
        return f"it is called `{now}` now" + _renamed_inside(spot, now, data)
    if spot.model is not None and issubclass(spot.model, Stage):
        owners = _stage_types_with(key)
        own = _value_at(data, (*spot.path[:-1], "type"))
        if own in owners:  # a type of two kinds: `pretrain` on a world's pairs has fewer keys than on documents
            return f"`{key}` belongs to stages of type {own} on other data; remove it, or change data"
        if owners:
            return f"`{key}` belongs to stages of type {', '.join(owners)}, not {own}; remove it or change type"
    wanted = TRL_NAMES.get(key, key)
    if wanted in known:
        return f"did you mean `{wanted}`? (TRL calls it {key})"
    below = list(dict.fromkeys(_places(spot.model or spot.root, wanted)))
    near = did_you_mean(key, known)
    if near and not below:
        return near + "otherwise remove it"
    places = below or list(dict.fromkeys(_places(spot.root, wanted)))
    if places:
        return f"did you mean {' or '.join(f'`{place}`' for place in places[:3])}? otherwise remove it"
    return f"remove it; keys here: {', '.join(known)}"


def _meant(spot: _Spot) -> Path:
    """The path of the known key that an unknown one is taken for (its own path if there is none)."""
    known = list(_fields(spot.model)) if spot.model else []
    key = _name_of_now(spot) or TRL_NAMES.get(str(spot.path[-1]), str(spot.path[-1]))
    close = closest(key, known)
    return (*spot.path[:-1], close[0] if close else key)


def _name_of_now(spot: _Spot) -> str | None:
    """What a key is called now that had another name before; None for all others."""
    return _names_of_now(spot.model).get(str(spot.path[-1])) if spot.model is not None else None


def _names_of_now(model: type[BaseModel]) -> dict[str, str]:
    """The keys of a block that had another name before: name of then -> name of now."""
    for known, earlier in ((RunConfig, RUN_KEYS), (Stage, STAGE_KEYS), (EngineBlock, ENGINE_KEYS)):
        if issubclass(model, known):
            return {then: now for then, now in earlier.items() if now in _fields(model)}
    return {}


def _renamed_inside(spot: _Spot, now: str, data: Any) -> str:
    """What else has another name in a block that itself has one; nothing if nothing has."""
    block = _value_at(data, spot.path)
    if spot.model is None or not isinstance(block, dict):
        return ""
    names: dict[str, str] = {}
    for inner in _nested_models(_fields(spot.model)[now].annotation):
        names |= _names_of_now(inner)
    return "".join(f", and its `{then}` is `{new}`" for then, new in names.items() if then in block)


def _stage_types_with(key: str) -> list[str]:
    """The stage types that have a key."""
    return _type_words([member for member in map(bare_type, union_members(AnyStage)) if key in member.model_fields])


def _places(model: type[BaseModel], key: str, above: str = "") -> Iterator[str]:
    """Dotted places below a model where a key exists."""
    for name, field in _fields(model).items():
        here = f"{above}{name}"
        if name == key and above:
            yield here
        for member in _nested_models(field.annotation):
            in_list = get_origin(bare_type(field.annotation)) is list
            yield from _places(member, key, f"{here}.<{name.rstrip('s')}>." if in_list else f"{here}.")


def _nested_models(annotation: Any) -> list[type[BaseModel]]:
    bare = bare_type(annotation)
    if get_origin(bare) is list:
        return _nested_models(get_args(bare)[0])
    models = (bare_type(member) for member in union_members(bare))
    return [m for m in models if is_model(m)]
