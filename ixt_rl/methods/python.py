"""`type: python`: a trainer of one's own, with the keys, the block and the runner of the method that it is like.

For each method with a trainer there is a stage of this type; which one a stage is, `like` says, or the bases of the
trainer's class, where they are in plain sight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, cast

from pydantic import ConfigDict, Field, ValidationInfo, create_model, field_validator, model_validator
from pydantic_core import InitErrorDetails, ValidationError

from ixt_rl.blocks.python_name import check_python_name, off
from ixt_rl.errors import ConfigError, did_you_mean, show
from ixt_rl.methods.own_options import refused, set_by
from ixt_rl.methods.runners import needed_trainer
from ixt_rl.methods.spec import Block, MethodSpec
from ixt_rl.methods.stage import Stage
from ixt_rl.methods.trainer_source import read_trainer, shipped_trainer
from ixt_rl.python_fields import is_shipped

PYTHON = "python"

ABOUT = "A trainer of one's own, from a file or an installed package, with the keys of the method that it is like."
"""What lists of methods say of it."""


class OwnTrainerStage(Stage):
    """What a stage with a trainer of one's own has beside the keys of the method that it is like."""

    type: Literal["python"]
    trainer: str = Field(
        description="FILE.py:CLASS, in the current folder or beside this file, or package.module:CLASS"
    )
    options: dict[str, Any] = Field(
        {}, description="fields of the trainer's config class (`config_class`) that no other key sets"
    )
    like: str = Field(description="the method whose keys, block and runner it takes; default: that of the class's base")

    method: ClassVar[MethodSpec]
    """What it is like."""

    @model_validator(mode="before")
    @classmethod
    def _like(cls, value: Any) -> Any:
        return {**value, "like": cls.method.type} if isinstance(value, dict) else value

    @field_validator("trainer")
    @classmethod
    def _is_one(cls, value: str, info: ValidationInfo) -> str:
        found = check_python_name(value, info, "CLASS")
        source = None if off(info) else read_trainer(found)
        needed = needed_trainer(cls.method)
        if source is not None and source.bases_seen and not source.has_base(needed):
            raise no_subclass(found, needed, cls.method.type)
        return found

    @field_validator("options")
    @classmethod
    def _known(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        trainer = info.data.get("trainer")
        source = None if off(info) or trainer is None else read_trainer(trainer)
        if source is None:
            return value
        name = source.config.classes[0].name if source.config else "its config class"
        problems = refused(value, source.fields, name, partial(set_by, cls.method), source.config_seen)
        errors = [
            InitErrorDetails(type="value_error", loc=(key,), input=value.get(key), ctx={"error": error})
            for key, error in problems
        ]
        if errors:
            raise ValidationError.from_exception_data("options", errors)
        return value

    @property
    def surprises(self) -> list[str]:
        return [*super().surprises, *(f"stages.{self.name}.trainer: {line}" for line in self._unseen())]

    def _unseen(self) -> list[str]:
        """What `check` could not look into."""
        source = read_trainer(self.trainer)
        if source is None:
            return [_not_seen(f"the class {self.trainer.rpartition(':')[2]}")]
        fields = source.fields
        untyped = [
            f"{'the type of ' if name in fields else ''}options.{name}"
            for name in self.options
            if name not in fields or fields[name].annotation is None
        ]
        return [_not_seen(", ".join(found)) for found in [[*source.unseen, *untyped]] if found]


def _not_seen(what: str) -> str:
    return f"not looked into: {what}; `run` checks it before the first stage"


def no_subclass(trainer: str, needed: str, like: str) -> ConfigError:
    """The error for a class that a method's runner could not train with."""
    module, _, name = needed.partition(":")
    return ConfigError(
        repr(trainer),
        reason=f"a stage like {like} trains with a subclass of {name}, which this is not",
        remedy=f"derive it from {module}.{name} or from a subclass of that, or give another `like`",
    )


class PythonStage(Stage):
    """A trainer of one's own of which nobody can say what it is like: always refused, with what is missing."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"not": {"required": ["like"]}})

    type: Literal["python"]
    trainer: str

    methods: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Trainer (`module:Class`) -> the methods that train with it."""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, value: Any, info: ValidationInfo) -> Any:
        trainer, like = value.get("trainer"), value.get("like")
        known = list(dict.fromkeys(method for methods in cls.methods.values() for method in methods))
        one_of = f"one of: {', '.join(known)}"
        if like is not None:
            reason = "no method that trains has that name"
            raise _at("like", ConfigError(show(like), reason=reason, remedy=did_you_mean(like, known) + one_of))
        if not isinstance(trainer, str):
            what = "missing" if trainer is None else show(trainer)
            remedy = "write `trainer: FILE.py:CLASS` or `trainer: package.module:CLASS`"
            raise _at("trainer", ConfigError(what, reason="it names the class that trains", remedy=remedy))
        try:
            trainer = check_python_name(trainer, info, "CLASS")
        except ConfigError as error:
            raise _at("trainer", error) from None
        source = read_trainer(trainer)
        base = None if source is None else shipped_trainer(source, cls.methods)
        reason = "no trainer of this library is in plain sight among the bases of the class"
        shared = None if source is None else next((one for one in source.classes.classes if is_shipped(one.file)), None)
        if base is None and shared is not None:
            reason = f"{shared.name}, a base of the class, is the trainer of no type by itself"
            derived = [name for name in cls.methods if (own := read_trainer(name)) and shared in own.classes.classes]
            one_of = f"one of: {', '.join(dict.fromkeys(m for name in derived for m in cls.methods[name]) or known)}"
        if base is not None:
            one_of = f"one of: {', '.join(cls.methods[base])}"
            reason = f"{base.rpartition(':')[2]} trains stages of several types"
        raise _at("like", ConfigError("missing", reason=reason, remedy=f"write `like:` with {one_of}"))


def _at(key: str, error: ConfigError) -> ValidationError:
    """A problem of one key of a stage."""
    details = InitErrorDetails(type="value_error", loc=(key,), input=None, ctx={"error": error})
    return ValidationError.from_exception_data("stage", [details])


def variants(specs: Iterable[MethodSpec], stages: Iterable[type[Stage]]) -> list[MethodSpec]:
    """A method of `type: python` for each that has a trainer.

    Args:
        stages: of the methods, in the same order.
    """
    trained = [(spec, stage) for spec, stage in zip(specs, stages, strict=True) if spec.trainer is not None]
    methods: dict[str, list[str]] = {}
    for spec, _ in trained:
        named = methods.setdefault(str(spec.trainer), [])
        if spec.type not in named:
            named.append(spec.type)
    PythonStage.methods = methods
    return [_variant(spec, stage, methods) for spec, stage in trained]


def _variant(spec: MethodSpec, stage: type[Stage], methods: Mapping[str, Sequence[str]]) -> MethodSpec:
    about = f"A trainer of your own on the keys of `type: {spec.type}`.\n\n{stage.__doc__}"
    keys: dict[str, Any] = {
        "type": (Literal["python"], ...),
        "like": (Literal[spec.type], Field(description=OwnTrainerStage.model_fields["like"].description)),  # type: ignore[valid-type]
    }
    made: Any = create_model(
        f"Own{stage.__name__}", __base__=(OwnTrainerStage, stage), __module__=stage.__module__, __doc__=about, **keys
    )
    made.method = spec  # type: ignore[attr-defined]

    def takes(read: Callable[[str], Any]) -> bool:
        return like(read, methods) == spec.type and spec.takes(read)

    label = partial(_label, spec.report.label)
    return replace(
        spec,
        type=PYTHON,
        stage=cast("type[Stage]", made),
        shared=False,
        takes=takes,
        report=replace(spec.report, label=label),
        like=spec,
    )


def like(read: Callable[[str], Any], methods: Mapping[str, Sequence[str]]) -> str | None:
    """The method that a stage's trainer is like: what it says, or its base tells; None where neither does.

    Args:
        read: a key of the stage -> its value.
        methods: trainer -> the methods that train with it.
    """
    said, trainer = read("like"), read("trainer")
    if said is not None or not isinstance(trainer, str):
        return said
    source = read_trainer(trainer)
    base = None if source is None else shipped_trainer(source, methods)
    return methods[base][0] if base is not None and len(methods[base]) == 1 else None


def _label(of_method: Callable[[Block], str | None], block: Block) -> str | None:
    """The class's name; the method's label where the block names none."""
    trainer = block.get("trainer")
    return trainer.rpartition(":")[2] if isinstance(trainer, str) else of_method(block)
