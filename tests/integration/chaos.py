"""Rehearses kills: a job is started, struck at a random moment, and started again, until it ends by itself.

    with Nursery("tests.integration.chaos_jobs") as nursery:
        seconds = nursery.run("intro('straight')")                      # undisturbed
        strikes = disturbed(nursery, "intro('struck')", 5, Random(0), seconds)

A job is any call of a module's function that goes on where its last call was stopped. Its process is forked from one
that has imported everything, so that a strike costs the work since the last checkpoint and no second of imports.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]


class Nursery:
    """A process with `module` imported, which forks a child for each job; one job at a time.

    Args:
        module: whose functions are called; imports all that jobs need, and computes nothing.
        folder: where jobs run, and where `jobs.log` gets what they print.
    """

    def __init__(self, module: str, folder: Path):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.log = folder / "jobs.log"
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.chaos", module], env=environment, cwd=folder,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self._hear()  # it is ready

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def start(self, call: str) -> int:
        """Starts a job; its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(call).encode() + b"\n")
        self._process.stdin.flush()
        return self._hear()

    def ended(self, within: float | None) -> int | None:
        """The job's exit status, minus the signal where one ended it; None if it has not ended `within` seconds."""
        assert self._process.stdout is not None
        if within is not None and not select.select([self._process.stdout], [], [], within)[0]:
            return None
        return self._hear()

    def run(self, call: str) -> float:
        """A job from start to end, undisturbed; seconds it took."""
        started = time.monotonic()
        self.start(call)
        status = self.ended(None)
        assert status == 0, f"{call} ended with {status}\n{self.log.read_text()[-4000:]}"
        return time.monotonic() - started

    def _hear(self) -> int:
        assert self._process.stdout is not None
        heard = self._process.stdout.readline()
        assert heard, f"the nursery died\n{self.log.read_text()[-4000:]}"
        return int(heard)


def disturbed(
    nursery: Nursery,
    call: str,
    strikes: int,
    random: Random,
    longest: float,
    signals: Sequence[int] = (signal.SIGKILL,),
) -> list[float]:
    """Strikes a job up to `strikes` times, each after up to `longest` seconds, then lets it end.

    Args:
        nursery: starts it.
        call: the job.
        strikes: fewer are made where the job ends before.
        random: draws moments and signals.
        longest: a share of what the undisturbed job takes.
        signals: what to strike with.

    Returns:
        The seconds after which each strike came.

    Raises:
        AssertionError: the job ended otherwise than by a strike or with status 0.
    """
    made: list[float] = []
    while len(made) < strikes:
        pid = nursery.start(call)
        moment = random.uniform(0, longest)
        status = nursery.ended(moment)
        if status is None:
            os.kill(pid, random.choice(list(signals)))
            made.append(moment)
            nursery.ended(None)
            continue
        assert status == 0, f"{call} ended with {status}\n{nursery.log.read_text()[-4000:]}"
        return made
    nursery.run(call)
    return made


def _serve(module: str) -> None:
    """Forks a child for each call that comes in; says its process id, and how it ended."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what imports and jobs print goes to the log
    __import__(module)
    names = vars(sys.modules[module])
    print(0, file=answers, flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                eval(json.loads(line), dict(names))
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(pid, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
