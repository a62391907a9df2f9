"""Hashes of what answers and ids depend on: a function's file with what it imports, a model's folder, a tokenizer."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ixt_rl.contents import Hashes, imports_of

_hashes = Hashes()
_MODEL_FILES = (".json", ".safetensors", ".bin", ".txt", ".model", ".jinja")
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "*.model", "*.tiktoken",
)  # fmt: skip


def hash_file(file: Path) -> str:
    """12 hexadecimal digits."""
    return _hashes.of(file)[:12]


def hash_script(file: Path) -> str:
    """12 hexadecimal digits of a Python file and of the files of one's own that it imports."""
    beside = imports_of(file)
    return _hash_files([file, *beside]) if beside else hash_file(file)


def hash_model(folder: Path) -> str:
    """12 hexadecimal digits of all files of a model."""
    return _hash_files([file for file in folder.iterdir() if file.suffix in _MODEL_FILES])


def hash_tokenizer(folder: Path) -> str:
    """12 hexadecimal digits of the files that decide which ids a text has; "" if there is none."""
    files = [file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern)]
    return _hash_files(files) if files else ""


def _hash_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.name} {file.stat().st_size} {hash_file(file)}\n".encode())
    return digest.hexdigest()[:12]
