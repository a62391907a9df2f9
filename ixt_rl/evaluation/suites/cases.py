"""Inputs and outputs that a program is judged by, in LiveCodeBench's layout, and how a record keeps them.

row --tests_of--> entry, tests --kept--> gold: the tests, or where they lie --tests_of_gold--> entry, tests
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import pickletools
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ixt_rl.data.readers import kind_of
from ixt_rl.errors import DataError

FIELDS = ("public_test_cases", "private_test_cases")
LARGEST_KEPT = 20_000
"""Characters of tests that a record holds itself; larger ones are read from their file whenever they are needed."""

LARGEST = 1 << 30
"""Bytes of a row's tests, unpacked."""

_STRINGS = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_SILENT = ("PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP")

Tests = list[dict[str, str]]
"""Each with `input` and `output`: text, or of a function's test a line of JSON an argument, and JSON."""


def tests_of(row: Mapping[str, Any]) -> tuple[str, Tests]:
    """The name of the function that is called ("" where programs read stdin), and the tests of a row.

    Raises:
        DataError: they cannot be read, or are not of one kind.
    """
    metadata = _json(row.get("metadata") or "{}", "metadata")
    entry = str(metadata.get("func_name") or "") if isinstance(metadata, Mapping) else ""
    tests = [test for name in FIELDS for test in _listed(row.get(name), name)]
    if not tests:
        raise _unreadable("no tests")
    wanted = "functional" if entry else "stdin"
    for test in tests:
        if test["testtype"] != wanted:
            raise _unreadable("its tests are not all of one kind")
        if entry:
            arguments_of(test), _json(test["output"], "a test's output")
    return entry, [{"input": test["input"], "output": test["output"]} for test in tests]


def arguments_of(test: Mapping[str, str]) -> list[Any]:
    """Arguments of a function's test: a line each.

    Raises:
        DataError: a line is no JSON.
    """
    return [_json(line, "a test's input") for line in test["input"].split("\n")]


def kept(row: Mapping[str, Any], source: str, number: int) -> str:
    """What a record keeps of a row's tests, as JSON: themselves, or file, row and hash of large ones.

    Args:
        source: the file.
        number: of the row in it, from 0.

    Raises:
        DataError: see `tests_of`; and large tests in a file that is not read row by row.
    """
    entry, tests = tests_of(row)
    text = json.dumps({"entry": entry, "tests": tests}, ensure_ascii=False)
    if len(text) <= LARGEST_KEPT:
        return text
    if kind_of(source) != ".jsonl":
        raise _unreadable(f"tests of more than {LARGEST_KEPT} characters, which are read from .jsonl files alone")
    return json.dumps({"entry": entry, "file": str(Path(source).absolute()), "row": number, "sha256": _hash(text)})


def tests_of_gold(gold: str) -> tuple[str, Tests]:
    """The entry and the tests of what `kept` made.

    Raises:
        DataError: the file of large tests is not there, or holds others.
    """
    found = json.loads(gold)
    if "tests" in found:
        return found["entry"], found["tests"]
    file, number = Path(found["file"]), found["row"]
    remedy = "put the file there again as it was, or evaluate anew with --data and another --out"
    what = f"{file} row {number}: a record's tests lie there"
    try:
        places = _lines(file, file.stat().st_mtime_ns)
        with file.open("rb") as opened:
            opened.seek(places[number])
            entry, tests = tests_of(json.loads(opened.readline()))
    except (OSError, ValueError, IndexError, AttributeError) as error:
        reason = error.reason if isinstance(error, DataError) else str(error)
        raise DataError(what, reason=reason, remedy=remedy) from None
    if _hash(json.dumps({"entry": entry, "tests": tests}, ensure_ascii=False)) != found["sha256"]:
        raise DataError(what, reason="they are others now", remedy=remedy)
    return entry, tests


@lru_cache(maxsize=16)
def _lines(file: Path, changed: int) -> list[int]:
    """Where the rows of a file begin, in bytes."""
    places, at = [], 0
    with file.open("rb") as opened:
        for line in opened:
            if line.strip():
                places.append(at)
            at += len(line)
    return places


def _listed(value: Any, name: str) -> list[dict[str, str]]:
    if value is None:
        raise _unreadable(f"no {name}")
    if isinstance(value, str):
        text = value.strip()
        value = _json(text if text.startswith(("[", "{")) else _unpacked(text, name), name)
    named = ("input", "output", "testtype")
    if not isinstance(value, list) or not all(
        isinstance(test, dict) and all(isinstance(test.get(key), str) for key in named) for test in value
    ):
        raise _unreadable(f"{name} is no list of input, output and testtype")
    return value


def _unpacked(text: str, name: str) -> str:
    """The string in base64 of zlib of a pickle. The pickle is never loaded: its instructions are read, and anything
    but one string is refused."""
    try:
        unzip = zlib.decompressobj()
        data = unzip.decompress(base64.b64decode(text, validate=True), LARGEST)
        if not unzip.eof:
            raise _unreadable(f"{name} is cut, or has more than {LARGEST >> 20} MiB")
        strings: list[str] = []
        for instruction, argument, _ in pickletools.genops(data):
            if instruction.name in _STRINGS:
                strings.append(str(argument))
            elif instruction.name not in _SILENT:
                raise _unreadable(f"{name} holds a pickle of something else than a string")
    except (binascii.Error, zlib.error, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise _unreadable(f"{name} is neither JSON nor a packed string") from None
    if len(strings) != 1:
        raise _unreadable(f"{name} holds a pickle of something else than a string")
    return strings[0]


def _json(text: Any, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise _unreadable(f"{what} is no JSON") from None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _unreadable(reason: str) -> DataError:
    return DataError("tests of a program", reason=reason, remedy="take the file as livecodebench publishes it")
