"""How tokens and vocabulary are cut."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.kernels import chunks
from ixt_rl.kernels.chunks import even, token_chunks

CPU = torch.device("cpu")
ROW = 4 * 151936  # bytes of a token's exponentials


@pytest.mark.parametrize("n_tokens", [0, 1, 15, 512, 896, 897, 2048, 5000])
@pytest.mark.parametrize("lent", [0, 100, 448, 896, 8192])
@pytest.mark.parametrize("chunk", [None, 1, 7, 300])
def test_chunks_cover_the_tokens_within_their_memory(n_tokens, lent, chunk):
    plan = token_chunks(n_tokens, ROW, lent, CPU, chunk)
    spans = list(plan.spans(n_tokens))
    assert [t for a, b in spans for t in range(a, b)] == list(range(n_tokens))
    assert all(b - a <= plan.own + (0 if a else plan.lent) for a, b in spans)
    assert plan.lent <= lent
    assert plan.own * ROW <= chunks.CPU_BUFFER_BYTES if chunk is None else max(plan.lent, plan.own) <= chunk


def test_the_first_chunk_also_has_what_the_heads_gradient_has_room_for():
    assert token_chunks(2048, ROW, 896, CPU, None) == chunks.Chunks(lent=896, own=384)
    assert list(chunks.Chunks(896, 384).spans(2048))[:2] == [(0, 1280), (1280, 1664)]
    assert token_chunks(500, ROW, 896, CPU, None) == chunks.Chunks(lent=500, own=0)
    assert token_chunks(2048, ROW, 0, CPU, None) == chunks.Chunks(lent=0, own=416)


@pytest.mark.parametrize(
    ("total", "most", "step"), [(1152, 206, 192), (896, 256, 224), (5, 256, 16), (5, 3, 3), (0, 9, 9)]
)
def test_even_pieces(total, most, step):
    assert even(total, most) == step
