"""The run files that come with the library, by name (`demo/addition`). Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import ixt_rl
from ixt_rl.errors import ConfigError, did_you_mean

DEMO = "demo/addition"
"""What `ixt-rl demo` runs."""

_TIME = "Time:"


@dataclass(frozen=True)
class ShippedRun:
    """A run file of the library.

    Args:
        name: what `ixt-rl run` takes, such as `demo/addition`.
        path: where the file lies.
        about: the first sentence of the file's first comment, on one line.
        time: what the comment's line `Time: ...` says of how long it takes; "" where it says nothing.
    """

    name: str
    path: Path
    about: str
    time: str


def folder() -> Path:
    """Where the shipped files lie: in the package (a wheel), or beside it (a checkout)."""
    package = Path(ixt_rl.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def names() -> list[str]:
    """The names of all shipped run files, sorted."""
    return [file.relative_to(folder()).with_suffix("").as_posix() for file in sorted(folder().glob("*/*.yaml"))]


def shipped(name: str) -> ShippedRun:
    """The run file of a name.

    Raises:
        ConfigError: no shipped file is called so; names the closest ones.
    """
    if name not in (known := names()):
        raise ConfigError(
            f"{name}: no such run file",
            reason="no file that comes with ixt-rl has this name",
            remedy=closest_name(name) + f"one of: {', '.join(known)}",
        )
    path = folder() / f"{name}.yaml"
    comment = _first_comment(path.read_text(encoding="utf-8"))
    times = [line.removeprefix(_TIME).strip() for line in comment if line.startswith(_TIME)]
    return ShippedRun(name, path, _first_sentence(comment), times[0] if times else "")


def run_file(path: str | os.PathLike[str]) -> Path:
    """The file that is meant: a path that exists, else the shipped file of that name, else the path as it stands."""
    given = Path(path)
    if os.fspath(path) in names() and not given.exists():
        return folder() / f"{os.fspath(path)}.yaml"
    return given


def closest_name(word: str) -> str:
    """ "did you mean `demo/addition`? " for shipped names that look like `word`; a path to one counts as its name."""
    bare = word.removeprefix("configs/").removesuffix(".yaml")
    same = [name for name in names() if bare in (name, name.partition("/")[2])]
    if same:
        return f"did you mean {' or '.join(f'`{name}`' for name in same)}? "
    return did_you_mean(bare, names())


def _first_comment(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    return lines


def _first_sentence(comment: list[str]) -> str:
    paragraph = " ".join(comment[: comment.index("")] if "" in comment else comment)
    sentence, stop, _ = paragraph.partition(". ")
    return sentence + stop.rstrip()
