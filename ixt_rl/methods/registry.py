"""The table of methods: what a stage of a run file can be. A new method is a file beside this one, and a line here.

Installed packages add theirs by an entry point of the group `ixt_rl.methods` that names a `MethodSpec`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Annotated, Any, Union, cast

from pydantic import Discriminator, Tag, create_model

from ixt_rl.errors import ConfigError
from ixt_rl.methods import (
    annotate,
    dpo,
    evaluate,
    gpg,
    grpo,
    intro,
    ixt,
    latro,
    opsd,
    pretrain,
    python,
    raft,
    rewrite,
    rlcsd,
    rloo,
    rlp,
    rlsd,
    self_distillation,
    sft,
    sip,
    star,
)
from ixt_rl.methods.online import OnlineStage
from ixt_rl.methods.spec import MethodSpec
from ixt_rl.methods.stage import Stage


def _installed(entry: EntryPoint) -> MethodSpec:
    """The method that a package adds.

    Raises:
        ConfigError: it cannot be imported, or is no `MethodSpec`.
    """
    what, remedy = _what(entry), f"repair or uninstall {_package(entry)}"
    try:
        spec = entry.load()
    except Exception as error:  # any, because the package is somebody's
        reason = f"importing it raised {type(error).__name__}: {error}"
        raise ConfigError(what, reason=reason, remedy=remedy) from error
    if not isinstance(spec, MethodSpec):
        reason = f"it is a {type(spec).__name__}, no ixt_rl.methods.spec.MethodSpec"
        raise ConfigError(what, reason=reason, remedy=remedy)
    return spec


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an installed package"


def _what(entry: EntryPoint) -> str:
    return f"the method {entry.name!r} of {_package(entry)} ({entry.group}: {entry.value})"


def _with_installed(shipped: tuple[MethodSpec, ...]) -> tuple[MethodSpec, ...]:
    """The library's methods and those of installed packages.

    Raises:
        ConfigError: see `_installed`; or a package's method has the `type` of another.
    """
    taken = dict.fromkeys([python.PYTHON, *(spec.type for spec in shipped)], "ixt-rl")
    found = list(shipped)
    for entry in entry_points(group="ixt_rl.methods"):
        spec = _installed(entry)
        if spec.type in taken:
            raise ConfigError(
                f"{_what(entry)} has type {spec.type!r}",
                reason=f"that is a type of {taken[spec.type]}",
                remedy=f"give it another `type`, or uninstall {_package(entry)}; a trainer with the keys of "
                f"`{spec.type}` needs no method: `type: python`",
            )
        taken[spec.type] = _package(entry)
        found.append(spec)
    return tuple(found)


SPECS: tuple[MethodSpec, ...] = _with_installed((
    pretrain.PAIRS,
    pretrain.DOCUMENTS_SPEC,
    ixt.SPEC,
    sft.SPEC,
    evaluate.SPEC,
    intro.SPEC,
    grpo.SPEC,
    raft.SPEC,
    rloo.SPEC,
    gpg.SPEC,
    star.SPEC,
    opsd.SPEC,
    self_distillation.SDPO,
    self_distillation.SDFT,
    rlsd.SPEC,
    rlcsd.SPEC,
    latro.SPEC,
    rlp.SPEC,
    sip.SPEC,
    dpo.SPEC,
    annotate.SPEC,
    rewrite.SPEC,
))  # fmt: skip
"""Methods by their own `type`; a trainer of a user's own, `type: python`, takes the keys of one of them."""


def _stages(specs: tuple[MethodSpec, ...]) -> tuple[type[Stage], ...]:
    """Each method's stage; an online one takes the blocks of the others, too, and does not read them."""
    blocks = {s.block: (s.stage.model_fields[s.block].annotation, s.stage.model_fields[s.block].default)
              for s in specs if s.block and issubclass(s.stage, OnlineStage)}  # fmt: skip
    return tuple(_with_others(spec, blocks) if issubclass(spec.stage, OnlineStage) else spec.stage for spec in specs)


def _with_others(spec: MethodSpec, blocks: Mapping[str, Any]) -> type[Stage]:
    others: dict[str, Any] = {key: field for key, field in blocks.items() if key != spec.block}
    made: Any = create_model(
        spec.stage.__name__, __base__=spec.stage, __module__=spec.stage.__module__, __doc__=spec.stage.__doc__, **others
    )
    made.other_blocks = tuple(others)  # type: ignore[attr-defined]
    return cast("type[Stage]", made)


_KNOWN = _stages(SPECS)
_OWN = python.variants(SPECS, _KNOWN)
_ALL = (*SPECS, *_OWN)
STAGES = (*_KNOWN, *(spec.stage for spec in _OWN))
_TAGS = {f"{spec.type} {place}": spec for place, spec in enumerate(_ALL)}
_BY_STAGE = dict(zip(STAGES, _ALL, strict=True))


def types() -> list[str]:
    """The values of `type` that there are."""
    return list(dict.fromkeys(spec.type for spec in _ALL))


def described() -> list[tuple[str, str]]:
    """For people: (type, first line of its stage's docstring) of each method, in the table's order."""
    listed = [(spec.type, (inspect.getdoc(spec.stage) or "").partition("\n")[0]) for spec in SPECS]
    return [*listed, (python.PYTHON, python.ABOUT)]


def spec_of(stage: Stage) -> MethodSpec:
    """What a validated stage is."""
    return _BY_STAGE[type(stage)]


def find(type_name: Any, read: Callable[[str], Any]) -> MethodSpec | None:
    """The method of a stage's `type`; None if there is none.

    Args:
        read: a key of the stage -> its value, None where it has none; tells two kinds with one type apart.
    """
    return next((spec for spec in _ALL if spec.type == type_name and spec.takes(read)), None)


def _tag(value: Any) -> Any:
    """Which of the table's stages a value is; its type as it stands where that is unknown."""
    read = value.get if isinstance(value, dict) else lambda key: getattr(value, key, None)
    spec = find(read("type"), read)
    return read("type") if spec is None else next(tag for tag, one in _TAGS.items() if one is spec)


if TYPE_CHECKING:
    AnyStage = Any  # a union that is made when the table is read is none that a type checker can see
else:
    AnyStage = Annotated[
        Union[  # noqa: UP007
            tuple(Annotated[stage, Tag(tag)] for tag, stage in zip(_TAGS, STAGES, strict=True))
            + (Annotated[python.PythonStage, Tag(python.PYTHON)],)
        ],
        Discriminator(_tag),
    ]

"""A stage of a run file: the union of the table's."""
