"""The policy that a loss compares with: a frozen copy of the initial model, or one brought up to date now and then."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from trl.models.utils import prepare_deepspeed, prepare_fsdp

from ixt_rl.errors import ConfigError
from ixt_rl.trainers.checkpoints import REFERENCE as FILE
from ixt_rl.trainers.dropout import evaluation_mode
from ixt_rl.trainers.head import add_head_function
from ixt_rl.trainers.shared_prompts import as_the_policy
from ixt_rl.trainers.weight_files import load_weights, save_weights

__all__ = ["FILE", "Reference", "is_zero3", "prepared_copy"]


def is_zero3(trainer: Any) -> bool:
    """Whether DeepSpeed partitions the trainer's parameters."""
    return trainer.is_deepspeed_enabled and trainer.accelerator.state.deepspeed_plugin.zero_stage == 3


def prepared_copy(trainer: Any, temperature: float) -> Any:
    """A frozen copy of the trainer's model as it is now, wrapped as the trainer's own, with its head at `temperature`.

    Args:
        trainer: one whose model is not wrapped yet; where ZeRO-3 loaded it in parts, the copy is read from its folder.
        temperature: see `add_head_function`.
    """
    if any(hasattr(weight, "ds_id") for weight in trainer.model.parameters()):  # cannot be copied
        made = type(trainer.model).from_pretrained(trainer.model.config._name_or_path, dtype=trainer.model.dtype)
    else:
        made = copy.deepcopy(trainer.model)
        del made.forward  # patched anew below
    made.requires_grad_(False).eval()
    add_head_function(made, temperature, float32=getattr(trainer.args, "cast_lm_head_to_fp32", False))
    if trainer.is_deepspeed_enabled:
        return prepare_deepspeed(made, trainer.accelerator)
    if trainer.is_fsdp_enabled:
        return prepare_fsdp(made, trainer.accelerator)
    return trainer.accelerator.prepare_model(made, evaluation_mode=True)


class Reference:
    """A copy of a trainer's model as it is now; with LoRA no copy but the model without its adapters.

    Args:
        trainer: a trainer whose model is not wrapped yet.
        temperature: of the copy's head.
        sync_steps: the policy's weights are taken over after every so many updates; None: never.

    Raises:
        ConfigError: with LoRA, FSDP 1, or ZeRO-3 or FSDP, what is asked for cannot be had.
    """

    def __init__(self, trainer: Any, sync_steps: int | None = None, temperature: float = 1.0):
        self.trainer, self.sync_steps = trainer, sync_steps
        self.lora = hasattr(trainer.model, "get_base_model")
        self._refuse()
        self.model: Any = None if self.lora else prepared_copy(trainer, temperature)

    def _refuse(self) -> None:
        trainer = self.trainer
        if self.lora and self.sync_steps:
            raise ConfigError(
                "a synced reference with LoRA",
                reason="the reference is the model without its adapters, which does not change",
                remedy="use reference='frozen', or 'none'",
            )
        if self.sync_steps and (trainer.is_fsdp_enabled or is_zero3(trainer)):
            raise ConfigError(
                "a synced reference with FSDP or ZeRO-3",
                reason="a checkpoint holds the policy, and not the pieces of a reference that has moved",
                remedy="use ZeRO-2 or DDP, or reference='frozen'",
            )
        if trainer.is_fsdp_enabled and not self.lora and not trainer.accelerator.is_fsdp2:
            raise ConfigError(
                "a reference with FSDP 1",
                reason="FSDP 1 may not wrap a second model whose head is used outside its own forward",
                remedy="set fsdp_version: 2, or reference='none'",
            )

    @contextmanager
    def active(self, policy: Any) -> Iterator[Any]:
        """Yields the model to call, without gradient; `policy` is the wrapped model of the forward pass that trains."""
        with torch.no_grad():
            if self.model is not None:
                with as_the_policy(self._plain, self.trainer):
                    yield self.model
            else:
                adapted = self.trainer.accelerator.unwrap_model(self.trainer.model)
                with adapted.disable_adapter(), evaluation_mode(policy):
                    yield policy

    @torch.no_grad()
    def after(self, update: int) -> None:
        """Takes over the policy's weights, if update number `update` is one after which that is due."""
        if not self.sync_steps or update % self.sync_steps:
            return
        policy = self.trainer.accelerator.unwrap_model(self.trainer.model)
        for ours, current in zip(self._plain.parameters(), policy.parameters(), strict=True):
            ours.copy_(current)

    def save(self, folder: Path) -> None:
        """Writes a reference that moves into a checkpoint's folder; a frozen one is the run's first model."""
        if self.sync_steps:
            save_weights(dict(self._plain.named_parameters()), folder / FILE)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote.

        Raises:
            DataError: the checkpoint has no reference.
        """
        if self.sync_steps:
            load_weights(dict(self._plain.named_parameters()), folder / FILE)

    @property
    def _plain(self) -> Any:
        return self.trainer.accelerator.unwrap_model(self.model)
