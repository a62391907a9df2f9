from __future__ import annotations

import pytest

from ixt_rl.kernels import chunks


@pytest.fixture(autouse=True)
def narrow_tiles(monkeypatch):
    """Many vocabulary tiles, and a ragged last one, at test sizes."""
    monkeypatch.setattr(chunks, "CPU_TILE", 64)
