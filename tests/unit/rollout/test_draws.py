"""The draw of a token by a row's own number, against the definition."""

from __future__ import annotations

import pytest
import torch

from ixt_rl.rollout.draws import draw

INF = float("inf")


@pytest.mark.parametrize("size", [5, 256, 1000])
def test_the_token_is_the_first_whose_cumulative_probability_exceeds_the_number(size):
    torch.manual_seed(0)
    scores = 3 * torch.randn(400, size)
    scores[torch.rand(400, size) < 0.3] = -INF
    scores[:, 2] = 0.0
    numbers = torch.rand(400, dtype=torch.float64)
    tokens, logprobs = draw(scores, numbers)
    cumulative = scores.double().softmax(-1).cumsum(-1)
    rows = torch.arange(400)
    before = torch.where(tokens > 0, cumulative[rows, (tokens - 1).clamp(min=0)], 0.0)
    assert (before <= numbers + 1e-6).all() and (numbers < cumulative[rows, tokens] + 1e-6).all()
    expected = scores.double().log_softmax(-1)[rows, tokens]
    torch.testing.assert_close(logprobs.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("number", [0.0, 0.25, 0.5, 1 - 2**-53])
def test_no_token_without_probability_is_drawn_at_any_edge(number):
    scores = torch.full((3, 700), -INF)
    scores[0, 699] = 5.0
    scores[1, [0, 699]] = 0.0
    scores[2, [255, 256]] = -80.0
    tokens, logprobs = draw(scores, torch.full((3,), number, dtype=torch.float64))
    low = number < 0.5
    assert tokens.tolist() == [699, 0 if low else 699, 255 if low else 256]
    torch.testing.assert_close(logprobs, torch.tensor([1.0, 0.5, 0.5]).log())


def test_without_numbers_it_is_the_most_likely():
    scores = torch.tensor([[0.0, 2.0, 1.0], [3.0, -INF, 1.0]])
    tokens, logprobs = draw(scores, None)
    assert tokens.tolist() == [1, 0]
    torch.testing.assert_close(logprobs, scores.log_softmax(-1).amax(-1))
