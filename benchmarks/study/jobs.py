"""`ixt-rl run` of many files, some at once, each in a process of its own with one thread.

The processes are forked from a server that has imported torch and the trainers once: that takes as long as a
cell. What a run prints goes to a file beside its run file. Where the study is stopped, so are the runs under way; where
it is killed, they end by themselves, and count.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing.connection import wait
from pathlib import Path

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
_PRELOAD = ["ixt_rl.cli", "ixt_rl.run.pipeline", "ixt_rl.run.stages.online", "ixt_rl.run.stages.pretrain"]
_PRELOAD += ["ixt_rl.run.stages.evaluate", "ixt_rl.trainers.intro", "ixt_rl.trainers.raft", "ixt_rl.trainers.grpo"]
_PRELOAD += ["ixt_rl.run.initial_model", "ixt_rl.run.threads", "page"]
if find_spec("deepspeed"):
    _PRELOAD += ["deepspeed"]  # accelerate imports it where it is installed


def run_files(files: Sequence[Path], jobs: int, until: float) -> Iterator[tuple[Path, int, float]]:
    """Runs the files in order; yields (file, exit status, seconds) as each ends.

    Args:
        jobs: processes at once.
        until: `time.monotonic()` after which none is started.
    """
    os.environ.update(ONE_THREAD)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    waiting, running = list(files), {}
    if waiting:  # until the server has imported all: a stop meanwhile leaves nothing that would start later
        ready = context.Process(target=_nothing, daemon=True)
        ready.start()
        ready.join()
    try:
        while waiting or running:
            while waiting and len(running) < jobs and time.monotonic() < until:
                file = waiting.pop(0)
                process = context.Process(target=_run, args=(str(file),), daemon=True)
                with _not_stopped():  # it is started and known, or neither
                    process.start()
                    running[process.sentinel] = file, process, time.monotonic()
            if not running:
                return
            for sentinel in wait(list(running)):
                file, process, begun = running.pop(sentinel)
                process.join()
                yield file, process.exitcode or 0, time.monotonic() - begun
    finally:
        for _, process, _ in running.values():
            process.terminate()  # SIGTERM: a run stops at its next step, and goes on with the same command
        for _, process, _ in running.values():
            process.join()


@contextmanager
def _not_stopped() -> Iterator[None]:
    """Signals that stop a command wait until the block has ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _nothing() -> None:
    """The child that shows that the server is ready."""


def _run(file: str) -> None:
    """The child: `ixt-rl run FILE`, printing to FILE.log."""
    log = os.open(Path(file).with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log, stream.fileno())
    from ixt_rl.cli import main
    from ixt_rl.run import pipeline

    pipeline._tell = lambda *_: None  # no page for each of a thousand runs: drawing takes a fifth of one
    main(["run", file], prog_name="ixt-rl")
