"""Files that cannot be read are named, with the line and what to do; for problems and streams of documents alike."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ixt_rl.blocks.data import FileDataBlock
from ixt_rl.data.document_source import DocumentSource
from ixt_rl.data.questions import load_rows
from ixt_rl.data.stream import DocumentStream
from ixt_rl.errors import DataError

GOOD = b'{"text": "a", "answer": "1"}\n'
DEEP = b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
BROKEN = {
    # name: content, what is said
    "empty.jsonl": (b"", "empty"),
    "blank.jsonl": (b"\n \r\n", "empty"),
    "cut.jsonl": (GOOD + b'{"text": "b", "ans', "line 2: "),
    "array.jsonl": (b"[\n" + GOOD + b"]\n", "line 1: "),
    "number.jsonl": (GOOD + b"3\n", "row 2 is 3"),
    "deep.jsonl": (GOOD + DEEP, "line 2: it is nested too deeply"),
    "deep.json": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "nul.jsonl": (GOOD + b"\0\0\0\0\n", "line 2: "),
    "nul-inside.jsonl": (b'{"text": "a\0b", "answer": "1"}\n', "line 1: "),
    "utf16.jsonl": (GOOD.decode().encode("utf-16"), "line 1: it is UTF-16"),
    "latin.jsonl": ('{"text": "caf\u00e9", "answer": "1"}\n'.encode("latin-1"), "line 1: it is not UTF-8"),
    "mac.jsonl": (GOOD.replace(b"\n", b"\r") * 2, "line 1: Extra data"),
    "digits.jsonl": (b'{"text": "a", "answer": ' + b"9" * 5000 + b"}\n", "line 1: Exceeds the limit"),
    "cut.json": (b'[{"text": "a"', "not JSON"),
    "plain.jsonl.gz": (GOOD, "cannot be read: Not a gzipped file"),
    "cut.jsonl.gz": (gzip.compress(GOOD * 1000)[:-20], "cannot be read: Compressed file ended"),
    "bad.jsonl.gz": (gzip.compress(GOOD)[:15] + b"\xff" * 30, "cannot be read: "),
    "cut.parquet": (b"PAR1" + b"\0" * 50, "not a Parquet file"),
    "empty.parquet": (b"", "not a Parquet file"),
}


def problems(path: Path) -> list[str]:
    rows, _ = load_rows(FileDataBlock(path=str(path), question="text"))
    return [row["question"] for row in rows]


def stream(path: Path) -> list[str]:
    return [document.text for document in DocumentStream([DocumentSource((str(path),), feedback=None)], 0, 1)]


@pytest.mark.parametrize("read", [problems, stream])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(tmp_path, name, read):
    content, says = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read(path)
    message = str(error.value)
    assert name in message and says in message and "reason: " in message and "remedy: " in message


@pytest.mark.parametrize("read", [problems, stream])
def test_what_editors_and_other_systems_write_is_read(tmp_path, read):
    bom = b"\xef\xbb\xbf"
    for name, content in {
        "bom.jsonl": bom + GOOD + GOOD,
        "crlf.jsonl": GOOD.replace(b"\n", b"\r\n") * 2,
        "bom.json": bom + b"[" + GOOD + b"," + GOOD + b"]",
        "bom-lines.json": bom + GOOD + GOOD,
        "no-end.jsonl": GOOD + GOOD.rstrip(),
        "gaps.jsonl": b"\n" + GOOD + b"\n\n" + GOOD,
        "bom.jsonl.gz": gzip.compress(bom + GOOD + GOOD),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == ["a", "a"], name


@pytest.mark.parametrize("read", [problems, stream])
def test_a_folder_that_is_called_like_a_file(tmp_path, read):
    folder = tmp_path / "x.jsonl"
    folder.mkdir()
    with pytest.raises(DataError, match=r"no data|a folder\n.*\n.*name the files in it"):
        read(folder)


@pytest.mark.parametrize("read", [problems, stream])
def test_a_file_that_may_not_be_read(tmp_path, read, monkeypatch):
    path = tmp_path / "x.jsonl"
    path.write_bytes(GOOD)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match=r"cannot be read: .*Permission denied"):
        read(path)


def test_the_line_is_counted_on_after_resuming(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(GOOD * 3 + b"{\n")
    first = DocumentStream([DocumentSource((str(path),), feedback=None)], 0, 1)
    next(iter(first))
    resumed = DocumentStream([DocumentSource((str(path),), feedback=None)], 0, 1)
    resumed.load_state_dict(first.state_dict())
    with pytest.raises(DataError, match="line 4: "):
        list(resumed)
