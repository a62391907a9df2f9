"""Random problems of a given size, shared by the kernel tests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ixt_rl.kernels import Head


@dataclass
class Problem:
    hidden: Tensor  # [N, D]
    posterior_hidden: Tensor  # [N, D]
    weight: Tensor  # [V, D]
    bias: Tensor | None  # [V]
    tokens: Tensor  # [N]
    token_weights: Tensor  # [N], with zeros in it
    options: dict

    @property
    def head(self) -> Head:
        return Head(self.weight, self.bias, **self.options)

    @property
    def leaves(self) -> list[Tensor]:
        return [x for x in (self.hidden, self.weight, self.bias) if x is not None]

    def grads(self) -> list[Tensor]:
        grads = [x.grad for x in self.leaves]
        for x in self.leaves:
            x.grad = None
        return grads

    def to(self, dtype: torch.dtype) -> Problem:
        """A copy in another dtype, of the very same values, with leaves of its own."""

        def leaf(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.detach().to(dtype).requires_grad_()

        return Problem(
            leaf(self.hidden), self.posterior_hidden.to(dtype), leaf(self.weight), leaf(self.bias), self.tokens,
            self.token_weights.double(), self.options,
        )  # fmt: skip


def make_problem(n, dim, vocab, *, bias=False, dtype=torch.float32, shift=0.3, seed=0, **options) -> Problem:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=g) * std).to(dtype)

    hidden = normal(n, dim)
    posterior_hidden = (hidden.float() + shift * torch.randn(n, dim, generator=g)).to(dtype)
    weight = normal(vocab, dim, std=2 / dim**0.5).requires_grad_()
    bias_ = normal(vocab).requires_grad_() if bias else None
    tokens = torch.randint(vocab, (n,), generator=g)
    token_weights = torch.rand(n, generator=g) * (torch.rand(n, generator=g) > 0.2)
    return Problem(hidden.requires_grad_(), posterior_hidden, weight, bias_, tokens, token_weights, options)


def relative_error(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-12))
