"""Documents and judge of a world, as files: what a job on a corpus reads and asks."""

from __future__ import annotations

import json
from pathlib import Path

from ixt_rl.blocks.rows import WorldRowsBlock
from ixt_rl.files import write_text
from ixt_rl.run.fingerprint import code_hash
from ixt_rl.worlds import WORLDS

_JUDGE = '''"""The judge of the documents of the {world} world, as the library's code {code} has it."""

from ixt_rl.worlds.documents import judge_document


def verifier(fields):
    return judge_document("{world}", fields["text"])
'''
"""The hash is in the file because replies are kept by the file's contents."""


def write_documents(data: WorldRowsBlock, folder: Path) -> Path:
    """The world's documents as JSON lines; a file that is there is the one."""
    file = folder / "documents.jsonl"
    if not file.is_file():
        texts = WORLDS[data.world]().corpus(data.documents, data.seed)  # type: ignore[attr-defined]
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, "".join(json.dumps({"id": row, "text": text}) + "\n" for row, text in enumerate(texts)))
    return file


def write_judge(data: WorldRowsBlock, folder: Path) -> str:
    """A Python file with the world's verifier; returns the judge's name."""
    file = folder.resolve() / "world_judge.py"  # workers of Ray have other current folders
    write_text(file, _JUDGE.format(world=data.world, code=code_hash()[:12]))
    return f"python:{file}:verifier"
