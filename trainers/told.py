"""The told pass: the kept rationales once more, through a model that is told more than the policy, without gradient.

    told_prompt        x (+) y          the row's answer, or what else the template shows
    told_wrong_prompt  x (+) y'         a wrong one, for contrast

Which model that is says `posterior.py`. The pass gives hidden states of the same N completion tokens (InTRO walks the
head itself), or their log-probs.

Shapes: B rows, N loss-bearing tokens, D hidden.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ixt_rl.conditioning import prompt_completion
from ixt_rl.errors import ConfigError
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.trainers.posterior import Posterior
from ixt_rl.trainers.style import style_shares, without_digits
from ixt_rl.trainers.told_prompts import TOLD, WRONG, with_told_ids

__all__ = ["TOLD", "WRONG", "ToldOptions", "ToldPass"]

_NEEDS = {"ema": ("posterior_decay", 0.99), "lagged": ("posterior_every", 10)}


@dataclass
class ToldOptions:
    """Options of every trainer with a told pass.

    Args:
        posterior: the model that is told: `live`, a `frozen` copy of the initial model, its `ema`, or a `lagged` copy.
        posterior_decay: decay of the moving average, per update; `ema` only.
        posterior_every: updates after which the copy takes over the policy's weights; `lagged` only.
    """

    posterior: Literal["live", "frozen", "ema", "lagged"] = field(default="live")
    posterior_decay: float | None = field(default=None)
    posterior_every: int | None = field(default=None)

    def check_told(self) -> None:
        """Raises ConfigError for a posterior without its number, or a number without its posterior."""
        for source, (option, example) in _NEEDS.items():
            value = getattr(self, option)
            if (self.posterior == source) != (value is not None) or (option == "posterior_every" and value == 0):
                raise ConfigError(
                    f"posterior={self.posterior!r} with {option}={value}",
                    reason="a moving average needs its decay, and nothing else has one"
                    if source == "ema"
                    else "a copy that lags behind needs how many updates (1 or more), and nothing else does",
                    remedy=f"give both (posterior={source!r}, {option}={example}) or neither",
                )


class ToldPass:
    """Told prompts of an online trainer's rows, and the pass over them.

    Args:
        trainer: a `TrainedRowsTrainer` whose `args` are `ToldOptions`, and whose model is not wrapped yet.
        columns: of the rows, those with told prompts that are needed.
    """

    def __init__(self, trainer: Any, columns: tuple[str, ...] = (TOLD,)):
        self.trainer, self.columns = trainer, columns
        self.posterior = Posterior(trainer)

    def prepared(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Dataset rows with the ids of their told prompts, before anything is sampled.

        Raises:
            DataError: a column is missing, a prompt in it is empty, or has no room in the model's positions.
        """
        for column in self.columns:
            rows = with_told_ids(self.trainer, rows, column)
        return rows

    def complete(self, rows: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        """Adds the ids of the told prompts to TRL's dict, in place, and whether some token of all ranks carries a digit
        (`numbers`, 0-d)."""
        for column in self.columns:
            batch[f"{column}_ids"] = [row[f"{column}_ids"] for row in rows]
        digit = ~self._style[batch["completion_ids"].to(self._style.device)] & batch["completion_mask"].bool()
        batch["numbers"] = self.trainer.accelerator.gather(digit.any()).any()  # 0-d: goes to every micro-batch

    def hidden(
        self, model: Any, inputs: dict[str, Any], rows: list[tuple[int, list[int], list[int]]], column: str = TOLD
    ) -> tuple[Tensor, Head | None]:
        """Hidden states (N, D) of `[x (+) y, z]` without gradient, and the posterior's own head if any.

        Args:
            model: the wrapped model of the forward pass that trains.
            inputs: a micro-batch, with what `complete` has added.
            rows: (row of the micro-batch, prompt ids, completion ids) of those that are trained.
            column: whose prompts are told.
        """
        return self.posterior.hidden(model, self._inputs(inputs, rows, column)[0])

    def logps(
        self, model: Any, inputs: dict[str, Any], rows: list[tuple[int, list[int], list[int]]], column: str = TOLD
    ) -> Tensor:
        """(N,) fp32 log-probs of the completions' tokens, without gradient; arguments as in `hidden`."""
        passed, targets = self._inputs(inputs, rows, column)
        return self.posterior.run(model, passed, lambda hidden, head: selected_logprobs(hidden, head, targets)[0])

    def _inputs(
        self, inputs: dict[str, Any], rows: list[tuple[int, list[int], list[int]]], column: str
    ) -> tuple[dict[str, Any], Tensor]:
        told = inputs[f"{column}_ids"]
        batch = self.trainer.collate([prompt_completion(told[row] if z else told[row][:1], z) for row, _, z in rows])
        self.trainer.ledger.add("posterior", batch.counted)
        return self.trainer.model_inputs(batch), batch.target_ids

    @functools.cached_property
    def _style(self) -> Tensor:
        size = self.trainer.model.config.get_text_config().vocab_size
        return without_digits(self.trainer.processing_class, size).to(self.trainer.accelerator.device)

    def track_style(self, inputs: dict[str, Any], factor_N: Tensor, ids_N: Tensor) -> None:
        """Logs how much of a factor's work is done on tokens without digits; see `style.py`.

        Args:
            inputs: the micro-batch, with what `complete` has added.
            factor_N: (N,) of the taken tokens.
            ids_N: (N,) these tokens.
        """
        style_N = self._style[ids_N.to(self._style.device)].to(factor_N.device)
        counts = inputs["numbers"].to(factor_N.device)
        for name, (part, whole) in style_shares(factor_N, style_N).items():
            self.trainer.track_share(name, part * counts, whole * counts)

    def save(self, folder: Path) -> None:
        """Writes a posterior that moves into a checkpoint's folder."""
        self.posterior.save(folder)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        self.posterior.load(folder)
