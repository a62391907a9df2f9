"""Files are whole, or as they were; a file of rows loses at most its last row, and says so."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ixt_rl.errors import DataError, FileError
from ixt_rl.files import (
    append_rows,
    mend_rows,
    open_weights,
    read_json,
    read_rows,
    readable,
    replacing,
    write_json,
    write_rows,
)

ROWS = [{"step": 1, "text": "a\nb"}, {"step": 2, "text": "é"}, {"step": 3}]


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "rows.jsonl"
    append_rows(path, ROWS)
    return path


class SmallFiles:
    """No file may grow beyond `size` bytes, as on a full disk: the kernel refuses what is over it."""

    def __init__(self, size: int):
        self.size = size

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *error: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.handler)


# ------------------------------------------------------------------------------------------- whole


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "state.json"
    write_json(file, {"n": 1})
    with pytest.raises(RuntimeError), replacing(file) as opened:
        opened.write(b"half")
        raise RuntimeError
    assert read_json(file) == {"n": 1}
    with SmallFiles(100), pytest.raises(OSError, match=r"state\.json"):
        write_json(file, {"n": "x" * 1000})
    assert read_json(file) == {"n": 1}
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    file = tmp_path / "state.json"
    write_json(file, {"n": 1})
    script = (
        "import os, signal, sys\nfrom ixt_rl.files import replacing\n"
        "with replacing(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child = subprocess.run([sys.executable, "-c", script, file], check=False)
    assert child.returncode == -signal.SIGKILL
    assert read_json(file) == {"n": 1}


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"[1]", b"\0\0\0", b"[" * 100_000, b"\xff"])
def test_a_damaged_state_file_is_named(content: bytes, tmp_path):
    file = tmp_path / "done.json"
    assert read_json(file) is None
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"done\.json"):
        read_json(file)


def test_weights_are_as_readable_as_other_files(tmp_path):
    (tmp_path / "model").mkdir()
    weights = tmp_path / "model" / "model.safetensors"
    before = os.umask(0o027)
    try:
        save_file({"a": torch.zeros(1)}, weights)
        open_weights(tmp_path)
    finally:
        os.umask(before)
    assert weights.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["model"]


# -------------------------------------------------------------------------------------------- rows


def test_rows_come_back(file):
    assert read_rows(file, ("step",)) == ROWS
    assert mend_rows(file) is None
    append_rows(file, [{"step": 4}])
    assert [row["step"] for row in read_rows(file)] == [1, 2, 3, 4]
    write_rows(file, ROWS[:1])
    assert read_rows(file) == ROWS[:1]
    assert read_rows(file.with_name("none.jsonl")) == []


def test_wherever_the_last_row_is_cut_only_that_one_is_left_out(file):
    whole = file.read_bytes()
    start = whole.rindex(b"{")
    for end in range(start, len(whole)):
        file.write_bytes(whole[:end])
        lost = end < len(whole) - 1  # without its line's end alone, the row is whole
        assert read_rows(file) == (ROWS[:2] if lost else ROWS)
        said = mend_rows(file)
        assert (said is not None) == (lost and end > start)
        assert said is None or "rows.jsonl: the last row was cut" in said
        append_rows(file, [{"step": 9}])
        assert [row["step"] for row in read_rows(file)] == ([1, 2, 9] if lost else [1, 2, 3, 9])


@pytest.mark.parametrize("tail", [b"\0" * 50, b"\0" * 50 + b"\n", b'{"step": 4, "te\n', b"null\n", b"[" * 100_000])
def test_other_ends_of_a_cut_file(tail: bytes, file):
    with file.open("ab") as opened:
        opened.write(tail)
    assert read_rows(file) == ROWS
    assert mend_rows(file) is not None
    assert mend_rows(file) is None
    assert read_rows(file) == ROWS


def test_a_long_last_row_is_found_from_the_end(file):
    append_rows(file, [{"step": 4, "text": "x" * 200_000}])
    file.write_bytes(file.read_bytes()[:-10])
    assert mend_rows(file) is not None
    assert read_rows(file) == ROWS


def test_a_broken_row_elsewhere_is_named_with_file_and_line(file):
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([lines[0], lines[1][:5], lines[2], b""]))
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2") as caught:
        read_rows(file)
    assert "remedy: " in str(caught.value)
    file.write_bytes(b'{"step": 1}\n{"other": 1}\n')
    with pytest.raises(DataError, match=r"line 2.*\n.*'step'"):
        read_rows(file, ("step",))


def test_a_full_disk_adds_no_half_row(file):
    size = file.stat().st_size
    with SmallFiles(size + 20), pytest.raises(OSError, match=r"rows\.jsonl"):
        append_rows(file, [{"step": 4, "text": "x" * 100}])
    assert read_rows(file) == ROWS
    assert file.stat().st_size == size


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x/y"), ("x/y", "disk is full", "free space")),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "x"), ("read-only",)),
        (IsADirectoryError(errno.EISDIR, "Is a directory", ".x.tmp", None, "x"), ("x: Is", "move that folder away")),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"), ("move that file away",)),
        (OSError("no model of that name"), ("no model of that name",)),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), ("disk is full",)),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), ("disk is full",)),
    ],
)
def test_what_the_system_refuses_is_said_with_its_remedy(error: Exception, says: tuple[str, ...]):
    found = readable(error)
    assert isinstance(found, FileError)
    assert isinstance(found, OSError)
    assert found.reason
    assert found.remedy
    for words in says:
        assert words in str(found)


def test_other_errors_are_left_alone():
    assert readable(ValueError("a value")) is None
    assert readable(DataError("a row")) is None
    own = FileError("x", reason="y", remedy="z")
    assert readable(own) is own


def test_rows_are_json_lines(file):
    assert [json.loads(line) for line in file.read_text().splitlines()] == ROWS
