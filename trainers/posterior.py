"""The model that is shown the answer: the policy itself, a copy of the initial model, which stays, lags, or averages.

Shapes: N loss-bearing tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from ixt_rl.errors import ConfigError
from ixt_rl.kernels.head import Head
from ixt_rl.trainers.dropout import evaluation_mode
from ixt_rl.trainers.ema import WeightAverage, trained
from ixt_rl.trainers.head import model_head, plain_model
from ixt_rl.trainers.reference_policy import is_zero3, prepared_copy
from ixt_rl.trainers.shared_prompts import as_the_policy
from ixt_rl.trainers.weight_files import load_weights, of_rank, save_weights

LAGGED = "posterior.safetensors"
"""File of a checkpoint: the trained weights of a posterior that lags behind the policy."""


class Posterior:
    """What `ToldOptions.posterior` names. With LoRA the frozen one is the model without its adapters, and the lagged
    one the model with earlier adapters, put in for the pass: no copy.

    Args:
        trainer: a trainer with `ToldOptions`, whose model is not wrapped yet.

    Raises:
        ConfigError: what wraps the model does not go with that posterior.
    """

    def __init__(self, trainer: Any):
        self.trainer, self.kind = trainer, trainer.args.posterior
        self.model: Any = self._copy()  # None where the policy itself serves
        self.adapters = WeightAverage(0.0) if self.kind == "lagged" and self.model is None else None  # the last ones
        decay = trainer.args.posterior_decay
        self.average = None if decay is None else WeightAverage(decay)
        if self.average is not None:
            trainer.add_callback(_MovesPosterior(self, self.average))
        if trainer.args.posterior_every is not None:
            trainer.add_callback(_RefreshesPosterior(self, trainer.args.posterior_every))

    def hidden(self, policy: Any, inputs: dict[str, Any]) -> tuple[Tensor, Head | None]:
        """Hidden states (N, D) without gradient and without dropout, and the posterior's own head if it has one: of
        its copy, or as it was before `modules_to_save` trained it.

        Args:
            policy: the wrapped model of the forward pass that trains.
            inputs: of a forward pass with a head function, but for that.
        """
        found = self.run(policy, inputs, lambda hidden, head: hidden)
        if self.model is not None:
            return found, model_head(self._unwrapped(self.model), self.trainer.temperature)
        return found, self._earlier_head()

    def run(self, policy: Any, inputs: dict[str, Any], head_fn: Callable[[Tensor, Head], Tensor]) -> Tensor:
        """`head_fn` of the pass's hidden states (N, D) and head; arguments as in `hidden`."""
        model = policy if self.model is None else self.model
        with (
            torch.no_grad(), self.trainer.accelerator.autocast(), self.adapters_off(), evaluation_mode(model),
            as_the_policy(self._unwrapped(model), self.trainer),
        ):  # fmt: skip
            return model(**inputs, head_fn=head_fn)

    def _earlier_head(self) -> Head | None:
        """The head as it is inside `adapters_off`; None where that is the policy's."""
        policy, temperature = plain_model(self.trainer), self.trainer.temperature
        current = model_head(policy, temperature)
        if self.kind == "frozen":
            with self.adapters_off():
                head = model_head(policy, temperature)
            return None if head.weight is current.weight else head
        if self.adapters is None or not self.adapters.weights or not current.weight.requires_grad:
            return None
        with self.adapters_off():  # the same tensors hold the policy's again afterwards
            bias = None if current.bias is None else current.bias.detach().clone()
            return replace(current, weight=current.weight.detach().clone(), bias=bias)

    @contextmanager
    def adapters_off(self) -> Iterator[None]:
        """The policy is the posterior inside, where that is the model without its adapters, or with earlier ones."""
        policy = self._unwrapped(self.trainer.model)
        if self.kind == "frozen" and self.model is None:
            with policy.disable_adapter():
                yield
        elif self.adapters is not None and self.adapters.weights:
            with self.adapters.applied(policy):
                yield
        else:
            yield

    def save(self, folder: Path) -> None:
        """Writes a posterior that moves into a checkpoint's folder; a frozen one is the run's first model."""
        if self.average is not None:
            self.average.save(folder, self.trainer)
        if self.adapters is not None:
            self.adapters.save(folder, self.trainer)
        elif self.kind == "lagged":
            save_weights(self._moving(), self._file(folder))

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        if self.average is not None:
            self.average.load(folder, self.trainer.model)
            self.average.put(self._unwrapped(self.model))
        if self.adapters is not None:
            self.adapters.load(folder, self._unwrapped(self.trainer.model))
        elif self.kind == "lagged":
            load_weights(self._moving(), self._file(folder))

    @torch.no_grad()
    def refresh(self) -> None:
        """The posterior takes over the policy's weights."""
        if self.adapters is not None:
            self.adapters.update(self._unwrapped(self.trainer.model))
            return
        current = trained(self._unwrapped(self.trainer.model))
        for name, weight in self._moving().items():
            weight.copy_(current[name])

    def _moving(self) -> dict[str, Tensor]:
        """The weights of the copy that training changes in the policy, by name."""
        names = trained(self._unwrapped(self.trainer.model))
        return {name: weight for name, weight in self._unwrapped(self.model).named_parameters() if name in names}

    def _file(self, folder: Path) -> Path:
        return of_rank(folder / LAGGED, self.trainer.args.process_index)

    def _unwrapped(self, model: Any) -> Any:
        return self.trainer.accelerator.unwrap_model(model)

    def _copy(self) -> Any:
        trainer = self.trainer
        lora = hasattr(trainer.model, "get_base_model")
        if self.kind == "ema" and lora:
            raise ConfigError(
                "posterior='ema' with LoRA",
                reason="an average of adapters is not the adapter of an average",
                remedy="use posterior='frozen' (the adapters are switched off) or 'live'",
            )
        if is_zero3(trainer) and self.kind in ("ema", "lagged"):
            raise ConfigError(
                f"posterior={self.kind!r} with ZeRO-3",
                reason="it would have to gather every parameter when it moves",
                remedy="use ZeRO-2, or posterior='frozen'",
            )
        if self.kind == "live" or lora:
            return None
        if trainer.is_fsdp_enabled and not trainer.accelerator.is_fsdp2:
            raise ConfigError(
                f"posterior={self.kind!r} with FSDP 1",
                reason="FSDP 1 frees the copy's head after its forward, and the loss reads it later",
                remedy="set fsdp_version: 2, or posterior='live'",
            )
        return prepared_copy(trainer, trainer.temperature)


class _MovesPosterior(TrainerCallback):
    """posterior <- decay * posterior + (1 - decay) * policy after every update; float32, whatever the model's dtype."""

    def __init__(self, posterior: Posterior, average: WeightAverage):
        self.posterior, self.average = posterior, average

    def on_train_begin(self, args, state, control, **kwargs):
        if not self.average.weights:
            names = trained(self.posterior._unwrapped(self.posterior.trainer.model))
            copy = self.posterior._unwrapped(self.posterior.model)
            self.average.start({name: weight for name, weight in copy.named_parameters() if name in names})

    def on_step_end(self, args, state, control, **kwargs):
        self.average.update(self.posterior._unwrapped(self.posterior.trainer.model))
        self.average.put(self.posterior._unwrapped(self.posterior.model))


class _RefreshesPosterior(TrainerCallback):
    """posterior <- policy after every so many updates."""

    def __init__(self, posterior: Posterior, every: int):
        self.posterior, self.every = posterior, every

    def on_train_begin(self, args, state, control, **kwargs):
        if self.posterior.adapters is not None and not self.posterior.adapters.weights:
            self.posterior.refresh()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.every == 0:
            self.posterior.refresh()
