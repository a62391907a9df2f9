"""How much of a factor's work is done on style: tokens whose text carries no digit.

    style_share  = sum over style tokens of |w - 1| / sum over all trained tokens of |w - 1|
    style_tokens = style tokens / trained tokens

|w - 1| is by how much a factor changes a token's weight; its mean over draws of the policy is, without a clip, twice
the total variation between told and plain distribution. A told prompt that mostly changes how rationales begin, are
laid out or end, and not their numbers, moves `style_share` far above `style_tokens` (the drift of arXiv 2606.11709).

Both are sums over all updates between two logs, so that they do not depend on how an update is split. That numbers are
what rationales are about is true of sums and of most mathematics, and of little else: a generation in which no token
carries a digit is not counted.

Shapes: N trained tokens, V vocabulary.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def without_digits(tokenizer: Any, vocabulary: int) -> Tensor:
    """(V,) bool: tokens whose text carries no digit; special tokens, and ids that the tokenizer does not have, too."""
    style = torch.ones(vocabulary, dtype=torch.bool)
    special = set(tokenizer.all_special_ids)
    for token, place in tokenizer.get_vocab().items():
        if place < vocabulary and place not in special:
            style[place] = not _has_digit(token)
    return style


def style_shares(factor: Tensor, style: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """`factor/style_share` and `factor/style_tokens`, each as (the part, the whole): 0-d fp32.

    Args:
        factor: (N,) the factor of each trained token.
        style: (N,) bool, which tokens are style.
    """
    moved = (factor.float() - 1).abs().nan_to_num(0.0, 0.0)  # a token without an advantage has no factor
    return {
        "factor/style_share": (moved[style].sum(), moved.sum()),
        "factor/style_tokens": (style.float().sum(), style.new_tensor(len(style), dtype=torch.float32)),
    }


def _has_digit(token: str) -> bool:
    byte = _BYTE.fullmatch(token)
    return any("0" <= c <= "9" for c in (chr(int(byte[1], 16)) if byte else token))
