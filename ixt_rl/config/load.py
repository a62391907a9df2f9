"""From a YAML file and overrides to a validated `RunConfig`, or one error that lists every problem."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ixt_rl import python_names, yaml_io
from ixt_rl.blocks.python_name import ON_THIS_MACHINE
from ixt_rl.config.explain import dotted, explain
from ixt_rl.config.made_files import with_commands
from ixt_rl.config.overrides import apply_override
from ixt_rl.config.problems import ConfigProblem, InvalidConfig
from ixt_rl.config.schema import RunConfig
from ixt_rl.config.shipped import closest_name, run_file
from ixt_rl.errors import ConfigError, did_you_mean, show
from ixt_rl.place import place
from ixt_rl.yaml_io import dump_yaml

__all__ = ["dump_yaml", "load_run", "notes", "resolved", "validated"]

B = TypeVar("B", bound=BaseModel)


def load_run(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunConfig:
    """Reads and validates a run; imports no torch and loads no model.

    Beyond the schema it checks that local files exist and that needed packages are installed.
    Relative paths start at the current folder; FILE.py of `FILE.py:NAME` may also lie beside the run file.

    Args:
        path: a YAML file, or the name of one that comes with the library (`ixt-rl configs`); a path that exists wins.
        overrides: `a.b=c` texts; the value is YAML, stages go by index or name, the last one wins.

    Raises:
        InvalidConfig: (a `ConfigError`) lists every problem: key path, line, value, reason, remedy.
        ConfigError: the file cannot be read or is no YAML.
    """
    source, file = os.fspath(path), run_file(path)
    text = _read(file)
    document = yaml_io.parse_yaml(text, source)
    if not isinstance(document.value, dict):
        raise ConfigError(
            f"{source}: {'the file is empty' if document.value is None else show(document.value)}",
            reason="a run is a block of keys: name, model, stages, ...",
            remedy="start from a file that comes with ixt-rl: `ixt-rl configs`",
        )
    with python_names.beside(file.parent):
        try:
            return validated(RunConfig, document, overrides, source)
        except InvalidConfig as error:
            raise InvalidConfig(source, with_commands(error.problems, text)) from None


def validated(kind: type[B], document: yaml_io.YamlFile, overrides: Sequence[str], source: str) -> B:
    """A block of a kind, out of a document and overrides (`a.b=c`), as files, packages and names are on this machine.

    Args:
        source: where the document comes from, for messages.

    Raises:
        InvalidConfig: lists every problem.
    """
    origins: dict[yaml_io.Path, str] = {}
    problems = [_twice(key, line, document.value) for key, line in document.duplicates]
    for override in overrides:
        problem = apply_override(override, document, origins)
        if problem is not None:
            problems.append(problem)
    origins = {**{key: f"line {line}" for key, line in document.lines.items()}, **origins}
    block: B | None = None
    try:
        block = kind.model_validate(document.value, context=ON_THIS_MACHINE)
    except ValidationError as error:
        for key, problem in explain(error.errors(include_url=False), document.value, kind):  # type: ignore[arg-type]
            problems.append(_placed(problem, key, origins))
    if problems or block is None:
        raise InvalidConfig(source, problems)
    return block


def notes(config: RunConfig) -> list[str]:
    """What a configuration sets without effect (blocks that `type` or `engine.type` did not choose), and what else
    may surprise."""
    found = [
        f"{path} is not read by {chooser}"
        for block, key, path, chooser in config.unread
        if key in block.model_fields_set
    ]
    launch = config.launch.model_dump(include={"strategy", "offload"}, exclude_defaults=True)
    if launch and config.launch.ranks == 1 and place().size == 1:
        found += [f"launch.{key} is not read where one process trains: it holds everything" for key in launch]
    for stage in config.stages:
        found += stage.surprises
        lora = getattr(stage, "lora", None)
        if stage.ratio_of_one_network and lora is not None and lora.dropout:
            found.append(
                f"stages.{stage.name}.lora.dropout is not applied by type: {stage.type}: "
                "both passes of a ratio are one network"
            )
    return found


def resolved(config: RunConfig) -> dict[str, Any]:
    """The whole configuration as plain values: every default filled in, unread blocks left out."""
    plain = config.model_dump()
    values = {id(config.engine): plain["engine"]}
    for stage, stage_values in zip(config.stages, plain["stages"], strict=True):
        values[id(stage)] = stage_values
        values[id(getattr(stage, "evaluation", None))] = stage_values.get("evaluation")
    for block, key, *_ in config.unread:
        values[id(block)].pop(key, None)  # what changes nothing is left out already
    return plain


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            read = file.read(yaml_io.MOST_BYTES + 1)
        return read.decode("utf-8", "strict" if len(read) <= yaml_io.MOST_BYTES else "replace")  # its size is refused
    except FileNotFoundError:
        folder = path.parent
        names = sorted(str(p.name) for p in folder.glob("*.y*ml")) if folder.is_dir() else []
        meant = did_you_mean(path.name, names) or closest_name(os.fspath(path))
        instead = "name a YAML file, or a name that `ixt-rl configs` lists"
        if "=" in str(path):
            meant, instead = "", "try KEY=VALUE with `ixt-rl run FILE KEY=VALUE --dry-run`"
        raise ConfigError(
            f"{path}: no such file", reason=f"looked in {folder.resolve()}", remedy=meant + instead
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder", reason="a run is one file", remedy="name a YAML file in it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not text", reason=f"it is not UTF-8 (byte {error.start})", remedy="save it as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", reason="it cannot be read", remedy="name another file") from None


def _twice(key: yaml_io.Path, line: int, data: Any) -> ConfigProblem:
    return ConfigProblem(
        dotted(key, data),
        "written twice",
        "of two equal keys, YAML would silently drop the first",
        "keep one of the two",
        f"line {line}",
    )


def _placed(problem: ConfigProblem, key: yaml_io.Path, origins: dict[yaml_io.Path, str]) -> ConfigProblem:
    """The problem with the place it comes from: its own, or that of the block around it."""
    for length in range(len(key), 0, -1):
        if key[:length] in origins:
            return ConfigProblem(problem.path, problem.value, problem.reason, problem.remedy, origins[key[:length]])
    return problem
