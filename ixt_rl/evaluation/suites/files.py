"""Where a suite's rows lie: the public layouts of a folder of sets, found by name.

DIR/<name>/test.jsonl                          Qwen2.5-Math's evaluation/data
DIR/<name>/[main/|data/|...]test-00000-of-00001.parquet   a dataset of the hub, downloaded
DIR/<name>.jsonl, DIR/<name>_test.jsonl        one file a set
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ixt_rl.blocks.checks import data_files
from ixt_rl.blocks.hub_ids import missing_here
from ixt_rl.blocks.python_name import missing_path
from ixt_rl.data.readers import kind_of
from ixt_rl.errors import DataError, did_you_mean
from ixt_rl.evaluation.suites.readers import KINDS
from ixt_rl.suites import Suite

_SHARD = re.compile(r"-\d{5}-of-\d{5}(?:-[0-9a-f]+)?$")
_SHOWN = 20


def suite_files(suite: Suite, data: Path | None, *, whole: bool = True) -> list[Path]:
    """The files that hold a suite's rows, in order; empty for a hub dataset.

    Args:
        suite: with a `path`, or with names that are looked for under `data`.
        data: the folder of all sets, or the set's own.
        whole: a file of the set's name alone counts, where a set is one split.

    Raises:
        DataError: there is none, or no folder to look in; says what was looked for and what there is.
    """
    if suite.path is not None:
        return _at_path(suite.path, suite, data)
    if data is None or not data.is_dir():
        raise DataError(
            f"suite {suite.name}: " + ("no folder of data" if data is None else f"{data} is no folder"),
            reason="its rows come with no package; they lie in a folder of yours",
            remedy="give --data DIR, with " + _looked_for(suite),
        )
    for place in _places(suite, data):
        for split in suite.splits:
            found = [_of_split(place, one, suite, whole and len(split) == 1) for one in split]
            if all(found):
                return [file for files in found for file in files]
    for name in map(_plain, suite.names):
        for split in [split for split in suite.splits if "/" not in split[0]]:
            found = [_loose(data, name, one, whole and len(split) == 1) for one in split]
            if all(found):
                return [file for files in found for file in files]
    there = sorted(entry.name for entry in data.iterdir())
    shown = ", ".join(there[:_SHOWN]) + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")
    raise DataError(
        f"suite {suite.name}: not in {data}",
        reason=f"there is {shown or 'nothing'}",
        remedy=did_you_mean(suite.names[0], there) + "looked for " + _looked_for(suite),
    )


def _at_path(path: str, suite: Suite, data: Path | None) -> list[Path]:
    """Files at a suite's own path, from the current folder or else from the folder of data."""
    for base in (Path(), *([data] if data else [])):
        given = base / Path(path).expanduser()
        found = _in_folder(given, suite) if given.is_dir() else [Path(file) for file in data_files(str(given))]
        if all(file.is_file() for file in found) and found:
            other = next((file for file in found if kind_of(file.name) not in KINDS), None)
            if other is not None:
                raise DataError(
                    f"{other}",
                    reason=f"files ending in {kind_of(other.name)!r} are not read",
                    remedy=f"give one that ends in {', '.join(KINDS)}",
                )
            return found
    missing = missing_path(path) if kind_of(path) in KINDS or not _is_hub_id(path) else missing_here(path, "datasets")
    if missing is not None:
        raise DataError(f"{path}: no such file", reason=missing.reason, remedy=missing.remedy)
    return []


def _in_folder(folder: Path, suite: Suite) -> list[Path]:
    """A folder's files of the suite's split, as a dataset of the hub has them; all, where none is called so."""
    for place in (folder, *(folder / config for config in suite.configs)):
        for split in suite.splits:
            found = [_of_split(place, one, suite, whole=False) for one in split]
            if all(found):
                return [file for files in found for file in files]
    return [Path(file) for file in data_files(str(folder))] or sorted(folder.glob("*.csv"))


def _is_hub_id(path: str) -> bool:
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) is not None and not path.startswith(".")


def _plain(name: str) -> str:
    """A name as names are compared: `AIME_2024`, `aime-2024` and `aime2024` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _places(suite: Suite, data: Path) -> Iterable[Path]:
    """Folders that may be the set's: of its names in order under `data` or an owner's folder there, then `data`."""
    near = [entry for entry in sorted(data.iterdir()) if entry.is_dir()]
    below = [entry for folder in near for entry in sorted(folder.iterdir()) if entry.is_dir()]
    for name in map(_plain, suite.names):
        for folder in (*near, *below, data):
            if _plain(folder.name.rpartition("--")[2]) == name:
                cached = sorted(folder.glob("snapshots/*"))  # of the hub's cache: by revision
                for place in cached or [folder]:
                    yield place
                    yield from (place / config for config in suite.configs if (place / config).is_dir())


def _of_split(folder: Path, split: str, suite: Suite, whole: bool) -> list[Path]:
    """Files of a split in the set's folder: `test.jsonl`, shards of it, `<name>_test.jsonl`, or `<name>.jsonl`.

    Those of `algebra/test` lie in its folder `algebra`."""
    below, _, split = split.rpartition("/")
    folder = folder / below
    if not folder.is_dir():
        return []
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and kind_of(file.name) in KINDS]
    names = [_plain(name) for name in suite.names]
    for wanted in ([_plain(split), *(name + _plain(split) for name in names)], names if whole else []):
        for kind in KINDS:
            found = [file for file in files if kind_of(file.name) == kind and _stem(file) in wanted]
            if found:
                return found
    return []


def _stem(file: Path) -> str:
    """What a file is called, without its ending and the number of its shard."""
    return _plain(_SHARD.sub("", file.name[: -len(kind_of(file.name))]))


def _loose(data: Path, name: str, split: str, whole: bool) -> list[Path]:
    """A file right in the folder of data: `<name>_test.jsonl`, or `<name>.jsonl` where one split is the set."""
    files = [file for file in sorted(data.iterdir()) if file.is_file() and kind_of(file.name) in KINDS]
    for stem in [name + _plain(split), _plain(split) + name, *([name] if whole else [])]:
        for kind in KINDS:
            found = [file for file in files if kind_of(file.name) == kind and _stem(file) == stem]
            if found:
                return found
    return []


def _looked_for(suite: Suite) -> str:
    name, split = suite.names[0], suite.splits[0][0]
    others = f" (or {', '.join(suite.names[1:])})" if suite.names[1:] else ""
    return f"{name}/{split}.jsonl, {name}/{split}-00000-of-00001.parquet, {name}.jsonl or {name}_{split}.jsonl{others}"
