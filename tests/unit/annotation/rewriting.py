"""Small corpora and function rewriters in files, as the command line takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ixt_rl.corpus.rewrite.suffixes import SuffixJob
from ixt_rl.judging.opening import parse_judge
from ixt_rl.models import byte_tokenizer
from ixt_rl.rewriting import load_rewrite
from ixt_rl.types import SamplingParams

REWRITER = '''
import os

LOG = os.environ.get("REWRITER_LOG")


def mend(prefix, suffix):
    """By the row in the text: every fourth is left alone, every fifth is None, "raise" raises."""
    if LOG:
        log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, (prefix + "|" + suffix + "\\n").encode())
        os.close(log)
    if "raise" in suffix:
        raise RuntimeError("as asked")
    row = int(suffix.split()[-1])
    if row % 5 == 0:
        return None
    return "COPY" if row % 8 == 4 else suffix if row % 4 == 0 else suffix.replace("bad", "ok")
'''
SUFFIX = 12  # tokens, of bytes, EOS included
POLICY = byte_tokenizer()


def policy_folder(folder: Path) -> Path:
    POLICY.save_pretrained(folder / "policy")
    return folder / "policy"


def rewriter_file(folder: Path, source: str = REWRITER) -> Path:
    file = folder / "rewriter.py"
    file.write_text(source)
    return file


def passages(count: int) -> list[dict[str, Any]]:
    """Documents that end in ` bad` and a number, `SUFFIX` - 1 characters; every sixth is the one before it again."""
    numbers = [row - row % 6 // 5 for row in range(count)]
    return [{"id": row, "text": f"In document {n} all is well: bad {n:06d}"} for row, n in enumerate(numbers)]


def make_rewriting(folder: Path, **changes: Any) -> SuffixJob:
    settings = {
        "prompt": load_rewrite("quality"), "sampling": SamplingParams(64, temperature=0.0), "fields": {},
        "tokenizer": folder / "policy", "suffix_tokens": SUFFIX, "format": "jsonl", "shard_rows": 10,
    }  # fmt: skip
    if "rewriter" not in changes:
        settings["rewriter"] = parse_judge(f"python:{rewriter_file(folder)}:mend", {}, role="rewriter")
    policy_folder(folder)
    return SuffixJob(**{**settings, **changes})
