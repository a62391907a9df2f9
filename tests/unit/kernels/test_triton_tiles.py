"""Runs triton_checks.py in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="Triton is made for Linux only")
def test_triton_kernels_in_the_interpreter():
    pytest.importorskip("triton", reason="pip install triton")
    here = Path(__file__).resolve()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(here.with_name("triton_checks.py"))],
        capture_output=True,
        text=True,
        cwd=here.parents[3],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
