"""Programs and their tests, each run in a child process of its own: cut off from the network, bounded, disposable.

    completion --code_of--> code --program_of--> program with tests --> child --> right, wrong, undecided

Wrong is what fails its tests or uses up its processor time. What is refused, crashes, or waits until its wall time is
over says nothing about the answer: undecided.
"""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ixt_rl.errors import ConfigError
from ixt_rl.threads import usable_cores

CHILD = Path(__file__).with_name("program_child.py")
MEMORY_MB = 2048
"""Address space of a child."""

FILE_BYTES = 1 << 16
"""Bytes of a file that a child writes."""

AT_ONCE = max(1, min(4, usable_cores()))

WALL, START_S = 4, 10
"""Wall time that a program may take: in multiples of its processor time, and seconds for the start."""

_BLOCK = re.compile(r"```[ \t]*(?:python|py|python3)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """What became of a program: whether it passed its tests (None: undecided), and why."""

    passed: bool | None
    why: str


@dataclass(frozen=True)
class Ran:
    """A program that was run.

    Args:
        outcome: whether it ended, and why not.
        output: what it wrote to stdout; empty unless it was given an input.
        said: what the child says of it.
    """

    outcome: Outcome
    output: bytes = b""
    said: Mapping[str, Any] = field(default_factory=dict)


def code_of(text: str, entry: str | None = None) -> str:
    """The code of a completion: the last fenced block that defines `entry`, the last block, or all of it."""
    said = re.split(r"</think(?:ing)?>", text)[-1]
    blocks = _BLOCK.findall(said)
    defining = [block for block in blocks if entry is not None and _defines(block, entry)]
    return (defining or blocks or [said])[-1]


def program_of(code: str, prompt: str, entry: str, tests: str) -> str:
    """The program that is run: the prompt's head (imports, helpers) before code that defines `entry`, all of the prompt
    before code that goes on from it; then the tests."""
    at = re.search(rf"^(?:async\s+)?def\s+{re.escape(entry)}\b", prompt, re.MULTILINE)
    head = prompt[: at.start()] if at and _defines(code, entry) else prompt
    return f"{head}{code}\n{tests}\n"


def run_programs(programs: Sequence[str], seconds: int) -> list[Outcome]:
    """Outcomes of B programs, in order; as many at once as there are cores, at most 4.

    Args:
        seconds: processor time of each.

    Raises:
        ConfigError: this system lets no child process leave the network, so nothing is run.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda program: run_child(program, seconds).outcome, programs))


def run_child(program: str, seconds: int, more: Mapping[str, Any] | None = None, given: bytes | None = None) -> Ran:
    """Runs one program.

    Args:
        seconds: its processor time.
        more: of the child's task: `call`, the function to be called and its arguments; `file_bytes`, the longest file.
        given: what it reads from stdin; its output is kept then.

    Raises:
        ConfigError: as `run_programs`.
    """
    token = secrets.token_hex(16)
    task: dict[str, Any] = {"program": program, "token": token, "seconds": seconds}
    task |= {"memory_mb": MEMORY_MB, "file_bytes": FILE_BYTES, **(more or {})}
    with (
        tempfile.TemporaryDirectory(prefix="ixt-rl-program-") as folder,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
    ):
        if given is not None:
            stdin.write(given)
            stdin.seek(0)
            task["streams"] = [stdin.fileno(), stdout.fileno()]
        child = subprocess.Popen(
            [sys.executable, "-I", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
            pass_fds=task.get("streams", ()),
        )
        wall = seconds * WALL + START_S
        try:
            child.communicate(json.dumps(task).encode(), timeout=wall)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return Ran(Outcome(None, f"not finished in {wall} s, though its processor time was not used up"))
        out.seek(0)
        stdout.seek(0)
        said = _said(out.read())
        return Ran(_outcome(said, token, child.returncode, seconds), stdout.read(), said)


def _said(written: bytes) -> dict[str, Any]:
    try:
        result = json.loads(written) if written else {}
    except ValueError:
        return {}
    return result if isinstance(result, dict) else {}


def _outcome(result: Mapping[str, Any], token: str, status: int, seconds: int) -> Outcome:
    if status == -signal.SIGXCPU:
        return Outcome(False, f"over {seconds} s of processor time")
    if "unprotected" in result:
        raise ConfigError(
            "programs are not run",
            reason=f"this system lets no child process leave the network ({result['unprotected']})",
            remedy="allow unprivileged user namespaces, or run in a container that does",
        )
    if result.get("passed") == token:
        return Outcome(True, "all tests pass")
    if result.get("refused"):
        return Outcome(None, f"refused: {result['refused'][0]}")
    if "failed" in result:
        return Outcome(False, str(result["failed"]))
    if status < 0:
        return Outcome(None, f"crashed: {signal.Signals(-status).name}")
    return Outcome(False, "it ended before its tests")


def _defines(code: str, entry: str) -> bool:
    return re.search(rf"^(?:async\s+)?def\s+{re.escape(entry)}\b", code, re.MULTILINE) is not None
