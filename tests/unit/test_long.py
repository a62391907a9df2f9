"""Tests that `make test` leaves out name what it runs in their place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def marks(tree: ast.AST) -> list[ast.Call]:
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.long"
    ]


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    """The functions of a file that is not long as a whole."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    whole = [node for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"]
    assert not any(marks(node) for node in whole), f"{path.name} is left out too"
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def wholly_long(test: ast.FunctionDef) -> bool:
    """All of it, and not only some of its parameters."""
    return any(ast.unparse(decorator).startswith("pytest.mark.long(") for decorator in test.decorator_list)


MARKS = [
    pytest.param(path, mark, id=f"{path.stem}:{mark.lineno}")
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    for mark in marks(ast.parse(path.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize(("path", "mark"), MARKS)
def test_what_covers_a_long_test_is_there_and_runs_without_it(path, mark):
    named = [ast.literal_eval(argument) for argument in mark.args]
    assert named, "which tests cover its kind?"
    for cover in named:
        file, _, name = cover.partition("::")
        tests = functions(ROOT / file)
        chosen = [tests[name]] if name else [test for test in tests.values() if test.name.startswith("test_")]
        assert any(not wholly_long(test) for test in chosen), f"{cover} is left out too"


def test_there_are_long_tests():
    assert len(MARKS) > 10
