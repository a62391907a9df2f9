"""Layers import only downwards, and heavy packages only where they may be: read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house import ROOT, circles, graph, imports, module_of, room_of, sources

LAYERS = [
    {"types", "errors", "yaml_io", "ledger", "backends", "import_path"}
    | {"redaction", "offline", "quiet", "files", "locks", "signals", "differences", "contents"}
    | {
        "python_names",
        "python_source",
        "python_fields",
        "threads",
        "place",
        "under_way",
        "ngrams",
        "tokenizer_files",
        "shares",
    },
    {"blocks", "kernels", "rewards", "pages"},
    {"methods", "conditioning", "models", "suites"},
    {"config", "data", "rollout"},
    {"judging"},
    {"rewriting", "worlds", "trainers"},
    {"evaluation", "pretrained", "planning", "integrations"},
    {"corpus", "report"},
    {"run"},
    {"cli", "doctor", "__main__"},
]
"""From the bottom up. A module may import its own layer and those below; `ixt_rl` itself is below all."""

RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

BELOW = [
    ("ixt_rl.rollout.weights", "ixt_rl.rollout.pool"),
    ("ixt_rl.corpus", "ixt_rl.corpus.annotate"),
    ("ixt_rl.corpus", "ixt_rl.corpus.rewrite"),
    ("ixt_rl.corpus", "ixt_rl.corpus.examples"),
    ("ixt_rl.run", "ixt_rl.run.stages"),
    ("ixt_rl.trainers", "ixt_rl.trainers.sip"),
    ("ixt_rl.evaluation", "ixt_rl.evaluation.suites"),
    ("ixt_rl.evaluation", "ixt_rl.evaluation.records"),
]
"""(room, subfolder): files right in the room do not import what stands in the subfolder, but for its faces below."""

MAY = {("ixt_rl.run.pipeline", "ixt_rl.run.stages.context"), ("ixt_rl.run.pipeline", "ixt_rl.run.stages.engines")}
"""What a run is given to pass on."""

MOST_LINES = 400

ONLY_IN = {
    "trl": ("trainers/", "ixt_rl/rollout/trl_adapter.py"),
    "vllm": ("ixt_rl/rollout/",),
    "ray": ("ixt_rl/rollout/pool/", "ixt_rl/doctor/pool.py"),
    "openai": ("ixt_rl/judging/",),
    "openrlhf": ("ixt_rl/integrations/openrlhf/",),
    "click": ("ixt_rl/cli/",),
}
"""Where a package may be imported at all; vllm, ray and openai only inside functions."""


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


def upward_imports(file: Path, root: Path = ROOT) -> list[str]:
    own = room_of(module_of(file, root))
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
    own = room_of(module_of(file))
    if own == "__init__":
        imported = {name for name, _ in imports(ast.parse(file.read_text())) if name.startswith("ixt_rl")}
        assert imported <= {"ixt_rl.threads.bound_spinning"}, "all that is imported passes through here"
        return
    assert own in RANK, f"no layer is given for {own}; add it to LAYERS"
    assert upward_imports(file) == []


def test_no_files_import_each_other_in_circles():
    assert circles(graph()) == []


@pytest.mark.parametrize(("room", "inside"), BELOW)
def test_a_room_does_not_import_its_subfolders(room: str, inside: str):
    found = [
        f"{module} imports {name}"
        for module, names in graph().items()
        if module.startswith(f"{room}.") and not module.startswith(f"{inside}.") and module != inside
        if inside.startswith(f"{room}.") is False or module.rpartition(".")[0] == room
        for name in names
        if name.startswith(f"{inside}.") and (module, name) not in MAY
    ]
    assert found == []


def test_files_are_short():
    files = [*sources(), *(ROOT / "benchmarks").rglob("*.py")]
    lengths = {file.relative_to(ROOT).as_posix(): len(file.read_text().splitlines()) for file in files}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


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


def test_a_public_class_name_means_one_thing():
    found: dict[str, list[str]] = {}
    for file in sources():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(file.relative_to(ROOT).as_posix())
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_a_runner_is_read_at_once():
    """What `MethodSpec.runner` names: at most 60 lines each."""
    lengths = {
        f"{file.stem}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for file in (ROOT / "ixt_rl" / "run" / "stages").glob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and any(arg.annotation and ast.unparse(arg.annotation) == "StageRun" for arg in node.args.args)
    }
    assert {"online.run", "documents.run", "sip.run", "evaluate.run", "pretrain.run"} <= set(lengths)
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}


def test_an_upward_import_would_be_found(tmp_path):
    """The reader itself: it sees imports inside functions, and of submodules by `from ixt_rl import x`."""
    file = tmp_path / "ixt_rl" / "kernels" / "bad.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "from ixt_rl import run\nfrom ixt_rl.errors import DataError\n"
        "def f():\n    import ixt_rl.trainers.intro\n    from ixt_rl.rollout.engine import X\n"
    )
    assert upward_imports(file, tmp_path) == [
        "line 1: kernels imports ixt_rl.run",
        "line 4: kernels imports ixt_rl.trainers.intro",
        "line 5: kernels imports ixt_rl.rollout.engine.X",
    ]


def test_a_circle_would_be_found(tmp_path):
    for name, text in {
        "a": "import ixt_rl.b",
        "b": "def f():\n    from ixt_rl.c import x",
        "c": "from ixt_rl import a",
    }.items():
        (tmp_path / "ixt_rl").mkdir(exist_ok=True)
        (tmp_path / "ixt_rl" / f"{name}.py").write_text(text)
    assert circles(graph(tmp_path)) == [["ixt_rl.a", "ixt_rl.b", "ixt_rl.c"]]
