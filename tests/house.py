"""How the library's files import each other, read from the source: for tests, and to look at.

    .venv/bin/python -m tests.house        # folders, arrows between them, circles

Imports inside functions and for type checkers count: what a file needs to be understood is what it names.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOPS = ("ixt_rl", "trainers", "rewards")


def sources(root: Path = ROOT) -> list[Path]:
    return sorted(file for top in TOPS for file in (root / top).rglob("*.py"))


def module_of(file: Path, root: Path = ROOT) -> str:
    """`ixt_rl.trainers.intro` for trainers/intro.py, which lies beside the package that it is part of."""
    parts = file.relative_to(root).with_suffix("").parts
    parts = parts if parts[0] == "ixt_rl" else ("ixt_rl", *parts)
    return ".".join(parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """The folder below `ixt_rl` that a module stands in, or its own name where it stands in none."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Dotted names that a source imports, `from a import b` as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Module -> the modules of the library that it imports."""
    modules = {module_of(file, root): file for file in sources(root)}
    found: dict[str, set[str]] = {}
    for module, file in modules.items():
        names = [name for name, _ in imports(ast.parse(file.read_text(encoding="utf-8")))]
        whole = {next((m for m in (name, name.rpartition(".")[0]) if m in modules), "") for name in names}
        found[module] = {name for name in whole if name not in ("", "ixt_rl", module)}
    return found


def circles(arrows: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of nodes that each reach the others: strongly connected ones, of more than one node."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in arrows.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in arrows:
        if node not in index:
            visit(node)
    return found


def between(arrows: Mapping[str, Iterable[str]]) -> Counter[tuple[str, str]]:
    """(room, room) -> imports from the one to the other."""
    pairs = ((room_of(module), room_of(other)) for module, others in arrows.items() for other in others)
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def main() -> None:
    arrows = graph()
    lines = {module_of(file): len(file.read_text(encoding="utf-8").splitlines()) for file in sources()}
    rooms: Counter[str] = Counter()
    for module, count in lines.items():
        rooms[room_of(module)] += count
    crossed = between(arrows)
    print(f"{len(lines)} files, {sum(lines.values())} lines, {len(rooms)} rooms, {len(crossed)} arrows between rooms")
    for room, count in rooms.most_common():
        to = ", ".join(f"{other} {n}" for (own, other), n in sorted(crossed.items()) if own == room)
        print(f"{room:13} {sum(room_of(m) == room for m in lines):3} files {count:6} lines -> {to}")
    inside = circles(arrows)
    print(f"circles of files: {len(inside)}")
    for group in inside:
        print("  " + ", ".join(group))


if __name__ == "__main__":
    main()
