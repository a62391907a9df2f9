"""Layers import only downwards, and heavy packages only where they may be: read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYERS = [
    {"types", "errors", "redaction", "backends", "ledger", "offline", "files", "locks", "signals", "differences"}
    | {"contents", "python_files"},
    {"config", "kernels", "rewards"},
    {"conditioning", "data", "rollout", "judging", "worlds"},
    {"trainers"},
    {"annotation", "evaluation", "report", "run"},
    {"cli", "doctor", "__main__"},
]
"""From the bottom up. A module may import its own layer and those below; `ixt_rl` itself is below all."""

RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

ONLY_IN = {
    "trl": ("trainers/", "ixt_rl/rollout/trl_adapter.py"),
    "vllm": ("ixt_rl/rollout/",),
    "ray": ("ixt_rl/rollout/",),
    "openai": ("ixt_rl/judging/",),
}
"""Where a package may be imported at all; vllm, ray and openai only inside functions."""


def sources() -> list[Path]:
    return sorted(file for top in ("ixt_rl", "trainers", "rewards") for file in (ROOT / top).rglob("*.py"))


def part_of(file: Path) -> str:
    """`rollout` for ixt_rl/rollout/engine.py, `run` for ixt_rl/run.py, `trainers` for trainers/intro.py."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] != "ixt_rl" else parts[1]


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Dotted names that a source imports, `from a import b` as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def for_type_checkers(tree: ast.AST) -> set[ast.stmt]:
    """Statements under `if TYPE_CHECKING:`, which never run."""
    return {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for child in ast.walk(statement)
        if isinstance(child, ast.stmt)
    }


def upward_imports(file: Path) -> list[str]:
    own = part_of(file)
    found = []
    for name, node in imports(ast.parse(file.read_text(encoding="utf-8"))):
        top, _, rest = name.partition(".")
        assert top not in ("trainers", "rewards"), f"{file}: import ixt_rl.{name}, not {name}"
        part = rest.split(".")[0]
        if top != "ixt_rl" or part in ("", "__version__"):
            continue
        assert part in RANK, f"{file}: no layer is given for ixt_rl.{part}; add it to LAYERS"
        if RANK[part] > RANK[own]:
            found.append(f"line {node.lineno}: {own} imports {name}")
    return found


@pytest.mark.parametrize("file", sources(), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_layers_import_only_downwards(file: Path):
    if part_of(file) == "__init__":
        assert not [name for name, _ in imports(ast.parse(file.read_text())) if name.startswith("ixt_rl")]
        return
    assert part_of(file) in RANK, f"no layer is given for {part_of(file)}; add it to LAYERS"
    assert upward_imports(file) == []


@pytest.mark.parametrize("file", sources(), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_heavy_packages_are_imported_only_where_they_may_be(file: Path):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    where = file.relative_to(ROOT).as_posix()
    never_run = for_type_checkers(tree)
    top_level = set(tree.body)
    for name, node in imports(tree):
        package = name.partition(".")[0]
        if package not in ONLY_IN or node in never_run:
            continue
        assert where.startswith(ONLY_IN[package]), f"{where}, line {node.lineno} imports {package}"
        if package in ("vllm", "ray", "openai"):
            assert node not in top_level, f"{where}, line {node.lineno}: import {package} inside a function"


def test_an_upward_import_would_be_found(tmp_path, monkeypatch):
    """The reader itself: it sees imports inside functions, and of submodules by `from ixt_rl import x`."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "ixt_rl" / "kernels" / "bad.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "from ixt_rl import run\nfrom ixt_rl.errors import DataError\n"
        "def f():\n    import ixt_rl.trainers.intro\n    from ixt_rl.rollout.engine import X\n"
    )
    assert upward_imports(file) == [
        "line 1: kernels imports ixt_rl.run",
        "line 4: kernels imports ixt_rl.trainers.intro",
        "line 5: kernels imports ixt_rl.rollout.engine.X",
    ]
