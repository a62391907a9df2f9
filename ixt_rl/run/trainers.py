"""The class that trains a stage, and its config: the method's own, or a user's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ixt_rl.conditioning import load_feedback_template, load_template
from ixt_rl.config.problems import ConfigProblem, InvalidConfig
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.import_path import load, load_named
from ixt_rl.methods.own_options import refused, set_by
from ixt_rl.methods.python import OwnTrainerStage, no_subclass
from ixt_rl.methods.registry import spec_of
from ixt_rl.methods.runners import needed_trainer
from ixt_rl.methods.stage import Stage
from ixt_rl.python_fields import class_fields
from ixt_rl.types import SOURCES


def check_own_trainers(name: str, stages: Iterable[Stage]) -> None:
    """Imports every trainer and template of a user's own, and looks at what `check` could not.

    Args:
        name: of the run.

    Raises:
        InvalidConfig: a class is not there or no trainer for its stage, or its config class does not take the options.
    """
    problems = []
    for stage in stages:
        for key, found in [*_trainer_problems(stage), *_template_problems(stage)]:
            problems.append(ConfigProblem(f"stages.{stage.name}.{key}", found.what, found.reason, found.remedy))
    if problems:
        raise InvalidConfig(f"run {name}", problems)


def trainer_class(stage: Stage) -> Any:
    """The class that trains a stage.

    Raises:
        ConfigError: a user's class cannot be imported, or is no trainer for the stage.
    """
    spec = spec_of(stage)
    if not isinstance(stage, OwnTrainerStage):
        return load(str(spec.trainer))
    found, needed = load_named(stage.trainer, "trainer", "class"), needed_trainer(stage.method)
    if not isinstance(found, type) or not issubclass(found, load(needed)):
        raise no_subclass(stage.trainer, needed, stage.method.type)
    config = getattr(found, "config_class", None)
    if not isinstance(config, type) or not dataclasses.is_dataclass(config):
        raise ConfigError(
            f"{stage.trainer} with config_class={config!r:.80}",
            reason="its options are the fields of that dataclass",
            remedy="set `config_class` in the class to a dataclass that is derived from its base's",
        )
    return found


def configured(stage: Stage, trainer: Any, **arguments: Any) -> Any:
    """The trainer's config: what the stage's keys set, and the options of a trainer of a user's own.

    Raises:
        ConfigError: options that other keys set, or that the user's config class refuses.
    """
    own = stage.options if isinstance(stage, OwnTrainerStage) else {}
    twice = sorted(own.keys() & arguments.keys())
    if twice:
        raise ConfigError(
            f"stages.{stage.name}.options.{twice[0]}",
            reason="other keys of the run file set it",
            remedy="leave it out of the options",
        )
    try:
        return trainer.config_class(**arguments, **own)
    except Exception as error:  # any, because it is the user's
        if not isinstance(stage, OwnTrainerStage) or isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"stages.{stage.name}.options: {own}",
            reason=f"{trainer.config_class.__name__} refuses them, or another key: {type(error).__name__}: {error}",
            remedy="correct the value that it names",
        ) from error


def _template_problems(stage: Stage) -> list[tuple[str, ConfigError]]:
    prompts = partial(load_template, default="plain")
    named: dict[str, tuple[Any, Callable[[str], Any]]] = {
        "template": (stage, prompts),
        "evaluation.template": (getattr(stage, "evaluation", None), prompts),
        "feedback.template": (getattr(stage, "feedback", None), load_feedback_template),
    }
    found = []
    for key, (block, opened) in named.items():
        template = getattr(block, "template", None)
        try:
            if isinstance(template, str) and template.startswith("python:"):
                opened(template)
        except ConfigError as error:
            found.append((key, error))
    return found


def _trainer_problems(stage: Stage) -> list[tuple[str, ConfigError]]:
    try:
        return _problems(stage, trainer_class(stage)) if isinstance(stage, OwnTrainerStage) else []
    except ConfigError as error:
        return [("trainer", error)]


def _problems(stage: OwnTrainerStage, trainer: Any) -> list[tuple[str, ConfigError]]:
    """(key of the stage, what is wrong with it)."""
    from ixt_rl.trainers.hooks import check_hooks

    check_hooks(object.__new__(trainer))
    config = trainer.config_class
    fields = class_fields(config)
    found = [
        (f"options.{key}", error)
        for key, error in refused(stage.options, fields, config.__name__, partial(set_by, stage.method))
    ]
    known = [*SOURCES, *getattr(trainer, "sources", ())]
    for name in (getattr(stage, "sources", None) or []) if stage.method.type == "sip" else []:
        if name not in known:
            remedy = did_you_mean(name, known) + f"choose of {', '.join(known)}"
            found.append(("sources", ConfigError(name, reason=f"{trainer.__name__} has no such source", remedy=remedy)))
    there = {field.name for field in dataclasses.fields(config)}
    missing = [name for name in stage.method.options(stage) if name not in there]
    if missing:
        error = ConfigError(
            stage.trainer,
            reason=f"stages like {stage.method.type} set {', '.join(missing)}, which {config.__name__} does not have",
            remedy=f"derive it from the config class of {stage.method.trainer}",
        )
        found.append(("trainer", error))
    return found
