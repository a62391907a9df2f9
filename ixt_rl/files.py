"""Files that a kill, a full disk or a second process may meet: written whole, appended by rows, read with what was cut.

A file that is replaced appears under its name when it is on disk, so that its reader finds the old or the new one. A
file of rows (JSON lines) grows; its last row may be half written, and only that one is left out when it is read.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ixt_rl.errors import DataError, FileError, IxtRlError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file to write, which takes the place of `path` when the block ends without an error.

    Raises:
        OSError: it cannot be written; `path` is as it was.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        _name(error, path)
        raise
    sync_folder(path.parent)


def write_text(path: str | os.PathLike[str], text: str, errors: str = "strict") -> None:
    """Replaces a file by UTF-8 text, as a whole.

    Args:
        errors: `replace` for text of a model, which may hold lone surrogates.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8", errors))


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = None) -> None:
    """Replaces a file by a JSON value, as a whole."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def write_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replaces a file of rows, as a whole."""
    with replacing(path) as file:
        for row in rows:
            file.write(json.dumps(row).encode() + b"\n")


def append_rows(
    path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]], default: Callable[[Any], Any] | None = None
) -> None:
    """Adds rows at the end of a file of rows; a last row that was cut before goes, and an error adds none.

    Args:
        default: makes JSON of what has none, as `json.dumps` takes it.

    Raises:
        OSError: they cannot be written.
    """
    added = b"".join(json.dumps(row, default=default).encode() + b"\n" for row in rows)
    mend_rows(path)
    with open(path, "ab", buffering=0) as file:  # with a buffer, closing would write what is left of it
        before = file.tell()
        try:
            while added:
                added = added[file.write(added) :]
            os.fsync(file.fileno())
        except BaseException as error:
            os.truncate(path, before)
            _name(error, path)
            raise


def read_rows(path: str | os.PathLike[str], needed: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Rows of a file of rows without a last one that was cut; none if there is no file.

    Args:
        needed: keys that every row has.

    Raises:
        DataError: another line is no row; names file and line.
    """
    path = Path(path)
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line)
        missing = [key for key in needed if row is not None and key not in row]
        if row is not None and not missing:
            rows.append(row)
        elif number < len(lines) or missing:
            raise DataError(
                f"{path}, line {number}: {line[:80].decode('utf-8', 'replace')!r}",
                reason=f"a row has {missing[0]!r}" if missing else "it is no whole row, and rows stand after it",
                remedy="remove that line if its row is of no use, or delete the folder to have it made again",
            )
    return rows


def mend_rows(path: str | os.PathLike[str]) -> str | None:
    """Takes a last row that was cut out of a file of rows, or ends one that lacks only its line's end.

    Returns:
        What was taken out, in words; None if nothing was.
    """
    path = Path(path)
    if not path.is_file():
        return None
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        start = _start_of_last_line(file, end)
        file.seek(start)
        last = file.read(end - start)
        if not last or (last.endswith(b"\n") and _row(last) is not None):
            return None
        if _row(last) is not None:
            file.write(b"\n")
            return None
        file.truncate(start)
    return f"{path}: the last row was cut ({end - start} bytes), it is left out"


def read_json(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no file.

    Raises:
        DataError: the file is empty, cut, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        return None
    value = _row(path.read_bytes())
    if value is None:
        raise DataError(
            f"{path}: not a JSON object",
            reason="it is empty, cut or something else",
            remedy="delete it, or write it again",
        )
    return value


def readable(error: BaseException) -> FileError | None:
    """What a failed read or write says to a user; None if `error` is none of these.

    Libraries that write files hide the system's error in words of their own: those are known by their text.
    """
    if isinstance(error, FileError):
        return error
    if isinstance(error, IxtRlError):
        return None
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        place = error.filename2 or error.filename
        what = f"{os.fsdecode(place) if isinstance(place, str | bytes | os.PathLike) else 'a file'}: {error.strerror}"
        number = error.errno
    else:
        number = next((number for words, number in _WORDS.items() if words in text), 0)
        if not number and not isinstance(error, OSError):
            return None
        what = text.strip().partition("\n")[0][:500] or type(error).__name__
    reason, remedy = _REASONS.get(number, ("the system refused it", "see what is at that place, then go on"))
    return FileError(what, reason=reason, remedy=remedy)


_GO_ON = "; the same command then goes on from what is written"
_LOCKS = "name a folder on another one: one process at a time writes here, and only a lock makes sure of it"
_REASONS = {
    errno.ENOSPC: ("the disk is full", f"free space there (`df -h`){_GO_ON}"),
    errno.EDQUOT: ("your share of the disk is used up", f"free space there (`quota -s`){_GO_ON}"),
    errno.EFBIG: ("the file is larger than it may be", f"raise the limit (`ulimit -f`){_GO_ON}"),
    errno.EROFS: ("the file system is read-only", f"make it writable, or name another folder{_GO_ON}"),
    errno.EACCES: ("you may not read or write it", f"change its permissions, or name another place{_GO_ON}"),
    errno.EPERM: ("you may not read or write it", f"change its permissions, or name another place{_GO_ON}"),
    errno.EISDIR: ("a folder is where a file belongs", f"move that folder away{_GO_ON}"),
    errno.ENOTDIR: ("a file is where a folder belongs", f"move that file away, or name another folder{_GO_ON}"),
    errno.EEXIST: ("a file is where a folder belongs", f"move that file away, or name another folder{_GO_ON}"),
    errno.ENOENT: ("there is nothing of that name", "correct the path, or put it back"),
    errno.ENAMETOOLONG: ("the file system takes no name that long", "choose shorter names"),
    errno.EMFILE: ("too many files are open", f"raise the limit (`ulimit -n`){_GO_ON}"),
    errno.ENOLCK: ("the file system has no locks", _LOCKS),
    errno.EOPNOTSUPP: ("the file system has no locks", _LOCKS),
    errno.EIO: ("the disk did not answer", f"check the disk{_GO_ON}"),
}
_WORDS = {
    "No space left on device": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "PytorchStreamWriter failed writing": errno.ENOSPC,
    "unexpected pos": errno.ENOSPC,  # torch.save when the disk is full
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "Read-only file system": errno.EROFS,
    "attempt to write a readonly database": errno.EROFS,
    "disk I/O error": errno.EIO,
}


def open_weights(folder: Path) -> None:
    """Gives weights below a folder the permissions that new files get there.

    safetensors 0.8 lets their owner alone read them, so that a server of another user finds a model without weights.
    """
    files = list(folder.rglob("*.safetensors"))
    if files:
        probe = folder / f".{os.getpid()}.tmp"
        probe.touch()
        mode = probe.stat().st_mode
        probe.unlink()
        for file in files:
            if file.stat().st_mode != mode:
                file.chmod(stat.S_IMODE(mode))


def sync_folder(folder: Path) -> None:
    """Has the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(error: BaseException, path: Path | str | os.PathLike[str]) -> None:
    """Gives an error of writing the file's name, which the system leaves out."""
    if isinstance(error, OSError) and error.filename is None and error.errno is not None:
        error.filename = os.fspath(path)


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _start_of_last_line(file: IO[bytes], end: int) -> int:
    """Where the last line that is not empty begins; its own line end is not looked at."""
    step, at, seen = 1 << 16, end, b""
    while at > 0:
        at = max(0, at - step)
        file.seek(at)
        seen = file.read(min(step, end - at)) + seen
        found = seen.rstrip(b"\n").rfind(b"\n")
        if found >= 0:
            return at + found + 1
    return 0
