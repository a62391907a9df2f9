"""Commands that make what a run file names, as the comment at its head gives them."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import PurePath

from ixt_rl.blocks.python_name import MISSING
from ixt_rl.config.problems import ConfigProblem

_WRITERS = ("annotate", "rewrite", "examples")


def with_commands(problems: list[ConfigProblem], text: str) -> list[ConfigProblem]:
    """Problems of a run file; for a path that is not there the remedy is the command of `text` that makes it."""
    return [_with_command(problem, text) if problem.reason.startswith(MISSING) else problem for problem in problems]


def _with_command(problem: ConfigProblem, text: str) -> ConfigProblem:
    path = PurePath(problem.value.strip("'\""))
    for command, made in _commands(text):
        if made == path or made in path.parents:
            said = f"make it first, as the head of the file says: {command}"
            return replace(problem, remedy=f"{said}; or {problem.remedy}")
    return problem


def _commands(text: str) -> list[tuple[str, PurePath]]:
    """(command, what it writes: the last word before its options) of the indented lines of a file's first comment.

    `ixt-rl run` writes none of a run's inputs.
    """
    found = []
    head = re.sub(r"\s*\\\n#\s*", " ", text.partition("\n\n")[0])
    for line in head.splitlines():
        indented = re.match(r"#\s{3,}(\S.*)", line)
        command = re.split(r"\s{3,}", indented[1])[0] if indented else ""
        try:
            words = shlex.split(command)
        except ValueError:  # a quotation mark in plain text
            continue
        if words[:1] != ["python"] and (words[:1] != ["ixt-rl"] or words[1] not in _WRITERS):
            continue
        options = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
        made = PurePath(words[options - 1])
        if made != PurePath("."):
            found.append((command, made))
    return found
