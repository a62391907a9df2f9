"""examples/ixt_inference.py as a reader runs it: three ways to ask with feedback write the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ixt_rl.backends import is_installed

HAS_VLLM = is_installed("vllm")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long("tests/unit/rollout/test_guidance.py", "tests/integration/test_vllm_engine.py")
def test_the_ways_agree():
    done = subprocess.run(
        [sys.executable, "examples/ixt_inference.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    written: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("    ") and written:
            written[list(written)[-1]].append(line.strip())
        elif line.strip() in ("this library", "plain transformers", "plain vLLM", "guidance 1", "guidance 3"):
            written[line.strip()] = []
    assert list(written)[:2] == ["this library", "plain transformers"]
    assert ("plain vLLM" in written) == HAS_VLLM
    plain = written.pop("this library")
    guided = written.pop("guidance 3")
    assert len(plain) == 2 and all(len(ids.split()) > 3 for ids in plain)
    assert all(ids == plain for ids in written.values()), written
    assert guided != plain
