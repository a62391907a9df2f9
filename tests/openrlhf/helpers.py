"""Where the real OpenRLHF is, and runs that it takes part in: the shim stands in for CUDA calls alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ixt_rl.config.load import dump_yaml
from ixt_rl.files import read_rows
from ixt_rl.integrations.openrlhf.environment import FOLDER, VARIABLE

ROOT = Path(__file__).resolve().parents[2]
SHIM = Path(__file__).parent / "shim"

_MADE = ROOT / FOLDER / "bin" / "python"  # by `make openrlhf-env`
PYTHON = os.environ.get(VARIABLE) or (str(_MADE) if _MADE.exists() else None)

needs_openrlhf = [
    pytest.mark.openrlhf,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(PYTHON is None, reason=f"needs OpenRLHF: make openrlhf-env, or name its Python by {VARIABLE}"),
]


def on_two_ranks(script: str, *words: str) -> None:
    """Runs a script beside this file in OpenRLHF's Python, as two processes that find each other, to their good end."""
    shared = {**os.environ, "PYTHONPATH": f"{SHIM}:{ROOT}", "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    command = [str(PYTHON), str(Path(__file__).parent / script), *words]
    ranks = [
        subprocess.Popen(command, env={**shared, "RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.DEVNULL)
        for rank in ("0", "1")
    ]
    try:
        assert [rank.wait(1200) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Run:
    """`ixt-rl run` in a process of its own, with the shim on the path of what it starts, not on its own.

    Args:
        output_dir: of the run; runs that share it share their base.
        name: of the run.
        stages: of its file.
        new: changes of its new model.
    """

    def __init__(self, output_dir: Path, name: str, stages: list[dict[str, Any]], **new: Any):
        self.folder = output_dir / name
        self.stage = self.folder / "stages" / stages[-1]["name"] / "seed1"
        shape = {"architecture": "llama", "hidden_size": 128, "layers": 2, "heads": 4, "intermediate_size": 384}
        model = {"new": {**shape, **new}, "dtype": "bfloat16"}
        value = {"name": name, "output_dir": str(output_dir), "model": model, "stages": stages}
        self.file = output_dir / f"{name}.yaml"
        self.file.write_text(dump_yaml(value))

    def start(self) -> subprocess.Popen[bytes]:
        code = (
            f"import os, sys; os.environ['PYTHONPATH'] = {str(SHIM)!r}\n"
            f"from ixt_rl.cli import main; main(['run', {str(self.file)!r}])"
        )
        env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        env |= {VARIABLE: str(PYTHON)}
        return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, start_new_session=True)

    def finish(self) -> None:
        """To its end, which is a good one."""
        process = self.start()
        try:
            assert process.wait() == 0, self.log()
        finally:
            _kill(process)

    def kill_after(self, checkpoint: int) -> None:
        """Ends its process, and nothing else, once a checkpoint is whole; what that had started ends then."""
        process = self.start()
        try:
            while not (self.stage / "checkpoints" / f"checkpoint-{checkpoint}" / "complete.json").is_file():
                assert process.poll() is None, self.log()
                time.sleep(0.2)
            time.sleep(2)  # its rows are read
        finally:
            _kill(process)
        deadline = time.monotonic() + 60
        while subprocess.run(["pgrep", "-f", str(self.folder)], capture_output=True).returncode == 0:
            assert time.monotonic() < deadline, "processes were left"
            time.sleep(1)

    def log(self) -> str:
        file = self.stage / "openrlhf" / "log.txt"
        return file.read_text()[-3000:] if file.is_file() else "OpenRLHF was not started"

    def rows(self, phase: str = "train") -> list[dict[str, Any]]:
        return [row for row in read_rows(self.stage / "metrics.jsonl") if row["phase"] == phase]


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
