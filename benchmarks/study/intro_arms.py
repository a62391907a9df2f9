"""InTRO with other factors: arms of the study (`type: python`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ixt_rl.trainers import InTROTrainer
from ixt_rl.trainers.where import Where
from ixt_rl.worlds.addition.problem import ID

ENDS_COLUMNS = (ID["#"], ID["K"])
"""What may follow the last column: both are right there."""


class TailInTRO(InTROTrainer):
    """Factor 1 at the first token, which chooses the style; as ever on the steps."""

    def factor(self, logp: Tensor, logq: Tensor, where: Where) -> Tensor:
        found = super().factor(logp, logq, where)
        return torch.where(where.positions[:, None] == 0, torch.ones_like(found), found)


class StepsInTRO(InTROTrainer):
    """The first token is not trained: the style stays as it is, and only steps are learnt."""

    def factor(self, logp: Tensor, logq: Tensor, where: Where) -> Tensor:
        return super().factor(logp, logq, where) * (where.positions[:, None] > 0)


class UntoldInTRO(InTROTrainer):
    """The posterior is told nothing, in the plain prompt's form: an anchor to the first model, without an answer."""

    def prepared(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return super().prepared([{**row, "told_prompt": row["prompt"]} for row in rows])


class VerifierInTRO(InTROTrainer):
    """A perfect posterior, made by the world's verifier: q = the policy among tokens that can still be right.

    Of the token taken, q / p is 1 / p where it is right and the only one, 0 where it is wrong or comes after a wrong
    one. Where several are right (whether the steps are repeated) the policy has next to nothing elsewhere, and q / p is
    1. The first token, where every style is right, is not trained, as in `StepsInTRO`. Needs `candidates: 1`, the taken
    one, and a world's grader.
    """

    def factor(self, logp: Tensor, logq: Tensor, where: Where) -> Tensor:
        still_right = where.signals.columns["token_right"].cumprod(dim=1)[where.rows, where.positions]
        free = torch.zeros_like(where.taken_ids, dtype=torch.bool)
        for token in ENDS_COLUMNS:
            free = free | (where.taken_ids == token)
        only = (-logp).exp().clamp(max=self.args.spec.limit)
        found = still_right[:, None] * torch.where(free[:, None], torch.ones_like(only), only)
        return found * (where.positions[:, None] > 0)
