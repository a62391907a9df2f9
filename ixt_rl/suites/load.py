"""Suites and presets by name, or from YAML files: validated, every problem named. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from ixt_rl.blocks.checks import DATA_ENDINGS
from ixt_rl.errors import ConfigError, did_you_mean, show
from ixt_rl.suites.preset import Preset
from ixt_rl.suites.suite import CHOICES_SHOWN, GoldField, Grading, ProgramTests, Skip, Suite, SuiteSetting, SuiteShot
from ixt_rl.yaml_io import MOST_BYTES, parse_yaml

ENDINGS = (*DATA_ENDINGS, ".csv")
"""How files of rows may end."""

_HOME = Path(__file__).parent
T = TypeVar("T", Suite, Preset)


def suite_names() -> list[str]:
    """Names of the suites that come with the library, sorted."""
    return sorted(file.stem for file in _HOME.glob("*.yaml"))


def preset_names() -> list[str]:
    """Names of the presets that come with the library, sorted."""
    return sorted(file.stem for file in (_HOME / "presets").glob("*.yaml"))


def shipped_suite(name: str) -> Path:
    """The YAML file of a shipped suite.

    Raises:
        ConfigError: no suite has that name.
    """
    return _shipped(name, "suite", suite_names(), _HOME)


def shipped_preset(name: str) -> Path:
    """The YAML file of a shipped preset.

    Raises:
        ConfigError: no preset has that name.
    """
    return _shipped(name, "preset", preset_names(), _HOME / "presets")


def shipped_file(name: str) -> Path:
    """The YAML file of a shipped suite or preset.

    Raises:
        ConfigError: neither has that name.
    """
    if name in preset_names():
        return shipped_preset(name)
    return _shipped(name, "suite or preset", [*suite_names(), *preset_names()], _HOME)


def load_suite(word: str | os.PathLike[str], fields: Sequence[str] = ()) -> Suite:
    """A suite by what a user writes: a shipped one's name, a YAML file, a file of rows, or a hub dataset's id.

    Args:
        word: `gsm8k`; `mine.yaml`; `FILE.jsonl` (.json, .parquet, .csv, either JSON may be .gz), a folder or a pattern
            of such files; `owner/name`.
        fields: `question=problem`, `answer=gold`, `choices=options`, `id=...`, `cluster=...`: fields of the rows in
            place of the suite's own.

    Raises:
        ConfigError: no such suite; a YAML file that is none, with every problem in it; an unknown field.
    """
    given = os.fspath(word)
    path = Path(given).expanduser()
    if given.endswith((".yaml", ".yml")):
        suite = _read(path, Suite)
    elif given in suite_names():
        suite = _shipped_suites(given)
    elif (
        given.lower().endswith(ENDINGS)
        or path.exists()
        or (given.count("/") == 1 and not given.startswith((".", "/", "~")))
    ):
        suite = Suite(name=_name_of(given), path=given, splits=[["test"]])
    else:
        shipped_suite(given)  # says what there is
        raise AssertionError(given)
    return with_fields(suite, fields) if fields else suite


def load_preset(word: str | os.PathLike[str]) -> Preset:
    """A preset by name, or from a YAML file.

    Raises:
        ConfigError: no such preset; a file that is none, with every problem in it.
    """
    given = os.fspath(word)
    if given.endswith((".yaml", ".yml")):
        return _read(Path(given).expanduser(), Preset)
    return _read(shipped_preset(given), Preset)


def with_fields(suite: Suite, fields: Sequence[str]) -> Suite:
    """The suite with fields mapped anew; see `load_suite`."""
    changes: dict[str, Any] = {}
    for text in fields:
        key, sign, name = text.partition("=")
        name = name.strip()
        if key == "question":
            changes["question"] = [name if "{" in name else f"{{{name}}}"]
        elif key == "answer":
            changes["gold"] = [GoldField(field=name)]
        elif key in ("choices", "id", "cluster"):
            changes[key] = [name.split(",") if key == "choices" and "," in name else name]
        else:
            known = ["question", "answer", "choices", "id", "cluster"]
            raise ConfigError(
                f"--field {text}",
                reason="it is FIELD=COLUMN",
                remedy=f"{did_you_mean(key, known)}FIELD is one of {', '.join(known)}",
            )
        if not sign or not name:
            raise ConfigError(f"--field {text}", reason="it names no column", remedy="write FIELD=COLUMN")
    own = dict(suite)
    if "choices" in changes:
        changes["grading"] = suite.grading.model_copy(update={"rule": "choice"})
        if "question" not in changes and suite.path is not None:
            del own["question"]  # of rows without a suite of their own: the choices are shown
        elif "question" in changes and "{lettered}" not in changes["question"][0]:
            changes["question"] = [changes["question"][0] + CHOICES_SHOWN]
    return Suite.model_validate({**own, **changes})


def _name_of(given: str) -> str:
    """A name for a file of rows or a hub dataset."""
    stem = Path(given).name
    for ending in sorted(ENDINGS, key=len, reverse=True):
        stem = stem.removesuffix(ending)
    return (
        "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in stem).strip(
            "._-"
        )
        or "rows"
    )


@cache
def _shipped_suites(name: str) -> Suite:
    return _read(shipped_suite(name), Suite)


def _shipped(name: str, what: str, known: list[str], folder: Path) -> Path:
    if name not in known:
        raise ConfigError(
            f"{what} {name!r}",
            reason=f"no {what} that comes with ixt-rl is called so, and it is no file",
            remedy=f"{did_you_mean(name, known)}one of {', '.join(known)}, or the path of a YAML file of yours"
            + (", or of a file of rows" if what == "suite" else ""),
        )
    return folder / f"{name}.yaml"


def _read(path: Path, kind: type[T]) -> T:
    what = kind.__name__.lower()
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{what} file {path}", reason=f"it cannot be read: {error}", remedy="check the path"
        ) from None
    document = parse_yaml(text, str(path))
    _beside(document.value, path.parent)
    problems = [f"{_dotted(key)} (line {line}): written twice; keep one" for key, line in document.duplicates]
    if not isinstance(document.value, dict):
        problems.append(f"{show(document.value)}: a {what} is a block of keys: name, ...")
        raise _refused(path, what, problems)
    try:
        found = kind.model_validate(document.value)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            place = tuple(one["loc"])
            line = next((document.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in document.lines), 0)
            where = f"{_dotted(place) or 'the whole file'}" + (f" (line {line})" if line else "")
            problems.append(f"{where}: {_words(cast(dict[str, Any], one), kind)}")
    if problems:
        raise _refused(path, what, problems)
    return found


def _beside(value: Any, folder: Path) -> None:
    """Files that a suite names may lie beside it."""
    for key in ("path", "shots"):
        name = value.get(key) if isinstance(value, dict) else None
        if isinstance(name, str) and (folder / name).is_file():
            value[key] = str(folder / name)


def _refused(path: Path, what: str, problems: list[str]) -> ConfigError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ConfigError(
        f"{path}: {count}",
        reason="\n    ".join(["", *problems]).strip("\n"),
        remedy=f"compare it with one that comes with ixt-rl: `ixt-rl suites {'gsm8k' if what == 'suite' else 'paper'}`",
    )


def _words(error: dict[str, Any], kind: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        known = [*kind.model_fields] if len(error["loc"]) == 1 else _keys_beside(kind, error["loc"])
        return f"unknown key; {did_you_mean(error['loc'][-1], known)}known: {', '.join(known)}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{show(error['input'])}: {message}" if error["type"] != "missing" else "it is missing"


def _keys_beside(kind: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """Keys of the block that lies at a location."""
    blocks: dict[Any, type[BaseModel]] = {
        "gold": GoldField, "skip": Skip, "grading": Grading, "code": ProgramTests, "shots": SuiteShot,
        "settings": SuiteSetting,
    }  # fmt: skip
    return [*blocks.get(location[0], kind).model_fields]


def _dotted(place: Sequence[Any]) -> str:
    return ".".join(map(str, place))
