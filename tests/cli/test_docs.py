"""What README and docs say can be pasted: links resolve, commands are accepted, self-contained code runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SELF_CONTAINED = [ROOT / "docs" / name for name in ("conditioning.md", "data.md", "worlds.md")]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def quick_commands() -> list[list[str]]:
    """`ixt-rl` commands that only check: the others train for minutes."""
    found = []
    for page in PAGES:
        for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0].endswith("ixt-rl") and words[1] in ("check", "run", "schema"):
                arguments = words[1:] if words[1] != "run" or "--dry-run" in words else [*words[1:], "--dry-run"]
                found.append(arguments)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_commands_are_accepted():
    commands = {tuple(c) for c in quick_commands() if not any("..." in word for word in c)}
    assert len(commands) >= 5
    for command in sorted(commands):
        done = subprocess.run([sys.executable, "-m", "ixt_rl", *command], cwd=ROOT, capture_output=True, text=True)
        if "no such file" not in done.stderr:  # commands on the reader's own files
            assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize("page", SELF_CONTAINED, ids=lambda p: p.name)
def test_self_contained_code_runs(page):
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_all_python_code_parses(page):
    for code in blocks(page, "python"):
        compile(code, page.name, "exec")
