"""A user's Python files run as they are now, with what lies beside them, whatever was imported or compiled before."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ixt_rl.errors import ConfigError
from ixt_rl.judging.opening import load_function, parse_judge
from ixt_rl.python_names import ADDED, PythonName, beside, module_file


@pytest.fixture(autouse=True)
def as_found(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:], ADDED[:] = before, []
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def rewrite(file: Path, text: str) -> None:
    """Other contents of the same size, under the same time."""
    stat = file.stat()
    assert len(text) == stat.st_size
    file.write_text(text)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_an_edit_of_the_same_size_under_the_same_time_is_run(tmp_path):
    file, beside = tmp_path / "asked.py", tmp_path / "beside_it.py"
    file.write_text("import beside_it\ndef f():\n    return 1, beside_it.VALUE\n")
    beside.write_text("VALUE = 1\n")
    assert load_function(f"{file}:f")() == (1, 1)
    rewrite(file, file.read_text().replace("return 1", "return 2"))
    assert load_function(f"{file}:f")() == (2, 1)
    rewrite(beside, "VALUE = 3\n")
    assert load_function(f"{file}:f")() == (2, 3)


def test_each_file_has_the_module_beside_it_and_no_installed_one_is_hidden(tmp_path):
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "shared_name.py").write_text(f"VALUE = {name!r}\n")
        (folder / "json.py").write_text("raise RuntimeError('taken for the standard library')\n")
        (folder / "same.py").write_text("import json, shared_name\ndef f():\n    return shared_name.VALUE\n")
    functions = [load_function(f"{tmp_path / name / 'same.py'}:f") for name in ("one", "other", "one")]
    assert [function() for function in functions] == ["one", "other", "one"]


def test_what_looks_its_module_up_by_name_finds_it(tmp_path):
    file = tmp_path / "typed.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Row:\n    value: int\ndef f():\n    return Row(4).value\n"
    )
    assert load_function(f"{file}:f", "reward")() == 4


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import no_such_library_of_mine", "no_such_library_of_mine"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("f = 3", "no function 'f'"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_the_reason(source: str, reason: str, tmp_path):
    file = tmp_path / "broken.py"
    file.write_text(source + "\n")
    with pytest.raises(ConfigError, match=reason) as caught:
        load_function(f"{file}:f", "reward")
    assert str(file) in caught.value.what and "reward" in caught.value.what


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package whose import would be noticed."""
    folder = tmp_path / "site" / "lab_of_mine"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("LOADED = True\n")
    (folder / "judges.py").write_text("def strict(fields):\n    return 1.0\nVALUE = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def test_a_function_of_an_installed_package_goes_by_its_dotted_name(package):
    assert load_function("lab_of_mine.judges:strict")({}) == 1.0
    spec = parse_judge("python:lab_of_mine.judges:strict", {})
    assert spec.name.startswith("judges.py:strict ")
    before = spec.name
    (package / "judges.py").write_text("def strict(fields):\n    return 0.0\n")
    assert spec.name != before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lab_of_mine.judges:strikt", "did you mean `strict`? its functions: strict"),
        ("lab_of_mine.judges:VALUE", "it has no function 'VALUE'"),
        ("lab_of_mine.judge:strict", "there is no module with a source 'lab_of_mine.judge'"),
        ("lab_of_mine/judges:strict", "it must name a file and a function in it"),
    ],
)
def test_what_a_package_does_not_have_is_said(package, name, words):
    with pytest.raises(ConfigError) as raised:
        load_function(name)
    assert words in str(raised.value)


def test_a_module_is_found_without_importing_its_package(package):
    assert module_file("lab_of_mine.judges") == package / "judges.py"
    assert "lab_of_mine" not in sys.modules


def test_a_file_beside_the_run_file_is_the_second_choice(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with beside(tmp_path / "there"):
        assert PythonName.parse("mine.py:f").place == str(tmp_path / "there" / "mine.py")
        (tmp_path / "mine.py").write_text("")
        assert PythonName.parse("mine.py:f").place == "mine.py"
    (tmp_path / "mine.py").unlink()
    assert PythonName.parse("mine.py:f").file is None
