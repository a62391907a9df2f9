"""What all trainers here share: checkpoints that are whole, exact resume, evaluation that leaves training alone.

    _save_checkpoint:  transformers' files -> `write_files`, `own_state` of every rank -> seal -> older ones removed
    train(resume):     seal checked -> `read_files`, `restore` -> transformers' own -> generators, sums of the open log
    evaluate:          generators, ledger and the model's mode are afterwards as they were

Overridden private methods of transformers' Trainer: `_save_checkpoint`, `_load_optimizer_and_scheduler`, `_evaluate`;
attributes: `_tr_loss`,
`_total_loss_scalar`, `_globalstep_last_logged`. tests/contract checks them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainerCallback
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from ixt_rl.errors import ConfigError, DataError, IxtRlError
from ixt_rl.ledger import Ledger
from ixt_rl.trainers.checkpoints import STATE, damage, last_whole_checkpoint, remove, rotate, seal, spread_by
from ixt_rl.trainers.cpu_ranks import strategies_on_cpus
from ixt_rl.trainers.tracked import TrackedMeans
from ixt_rl.trainers.unused import may_lack_gradients


class ResumableTrainer(TrackedMeans):
    """Mixin before a trainer of TRL's. Subclasses extend `own_state` and `restore`, `write_files` and `read_files`."""

    ledger: Ledger
    _initial_global_step: int
    any_ranks: ClassVar[bool] = False
    """Whether other ranks can go on from a checkpoint: what `own_state` adds is the same on each."""
    _resumed: Path | None = None  # the checkpoint of a resumed run, until its first batches are read

    # ---------------------------------------------------------------- for subclasses

    def own_state(self) -> dict[str, Any]:
        """What this rank knows beside transformers' state, as numbers, texts, tensors, lists and dicts. All ranks
        call it, after an update. Subclasses add to `super().own_state()`."""
        return {"tokens": dict(self.ledger.tokens)}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `own_state` gave. The policy is wrapped and has the checkpoint's weights."""
        self.ledger.tokens.clear()
        self.ledger.tokens.update(state["tokens"])

    def write_files(self, folder: Path) -> None:
        """Writes further files into a checkpoint's folder; all ranks call it, before the checkpoint is sealed."""

    def read_files(self, folder: Path) -> None:
        """Reads what `write_files` wrote."""

    # ---------------------------------------------------------------- ranks

    def flops_of_all(self) -> dict[str, float]:
        """FLOPs of all ranks by phase, as logs name them; what led to the model counts once. All ranks call it."""
        whole = self.ledger.of_all(lambda own: gather_object([own]))
        return whole.columns()

    def create_accelerator_and_postprocess(self) -> None:
        with strategies_on_cpus(self.args):
            super().create_accelerator_and_postprocess()

    def _set_up_ddp(self) -> None:
        handler, asked = self.accelerator.ddp_handler, self.args.ddp_find_unused_parameters
        spread = self.is_deepspeed_enabled or self.is_fsdp_enabled
        if self.args.world_size > 1 and handler is not None and asked is None and not spread:
            with self.accelerator.autocast():
                handler.find_unused_parameters = may_lack_gradients(self.model)

    # ---------------------------------------------------------------- checkpoints

    def _save_checkpoint(self, model, trial) -> None:
        folder = Path(str(self._get_output_dir(trial=trial))) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save and folder.exists():
            remove(folder)  # what a killed run left, or the same state
        self.accelerator.wait_for_everyone()
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # the older ones go last
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.write_files(folder)
        state = {**self.own_state(), "open_log": self._open_log()}
        torch.save(state, folder / STATE.format(rank=self.args.process_index))
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal(folder)
            best = self.state.best_model_checkpoint
            rotate(folder.parent, limit, (folder, Path(best) if best else None))

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        """As transformers', from a checkpoint to the same weights and logs as if training had not been stopped.

        Args:
            resume_from_checkpoint: a checkpoint's folder, or True for the last whole one of `output_dir`.
            other arguments: as in `transformers.Trainer.train`.

        Raises:
            DataError: the checkpoint is damaged, or there is none that is whole.
            ConfigError: the checkpoint is of another set-up, or nothing is left to train.
        """
        self._set_up_ddp()
        if not resume_from_checkpoint:
            return super().train(None, trial, ignore_keys_for_eval)
        folder = self._checkpoint(resume_from_checkpoint)
        resumed = _Resumed(self)
        self.add_callback(resumed)
        self._resumed = folder
        try:
            return super().train(str(folder), trial, ignore_keys_for_eval)
        finally:
            self._resumed = None
            self.remove_callback(resumed)

    def take(self, checkpoint: Path) -> None:
        """Has the weights and counts of a checkpoint without training on, for a run that was stopped after its last
        update.

        Raises:
            DataError, ConfigError: see `train`.
        """
        folder = self._checkpoint(str(checkpoint))
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            self._begin_from(folder)  # they load a model where they have wrapped it to train it
        else:
            self._load_from_checkpoint(str(folder))
        self._read(folder)

    def _begin_from(self, folder: Path) -> None:
        """Training from a checkpoint, up to where its first batch would be read."""
        begun, others = _Begun(), self.callback_handler.callbacks
        self.callback_handler.callbacks = [begun]
        try:
            super().train(str(folder))
        except _BegunError:
            pass
        finally:
            self.callback_handler.callbacks, self.is_in_train = others, False

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As transformers', and on several CPU ranks too, whose device ("cpu:1") `torch.load` does not know."""
        if checkpoint is None or self.args.device.type != "cpu" or self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        states: dict[str, Any] = {OPTIMIZER_NAME: self.optimizer, SCHEDULER_NAME: self.lr_scheduler}
        for name, stateful in states.items():
            stateful.load_state_dict(torch.load(Path(checkpoint, name), map_location="cpu", weights_only=True))

    def _checkpoint(self, named: str | Path | bool) -> Path:
        """The folder to resume from; every rank gets the main process's finding."""
        found: Any = None
        if self.accelerator.is_main_process:
            if isinstance(named, bool):
                found = last_whole_checkpoint(Path(str(self.args.output_dir))) or DataError(
                    f"{self.args.output_dir}: no whole checkpoint",
                    reason="none was saved, or all are damaged",
                    remedy="train anew",
                )
            else:
                found = damage(Path(named)) or Path(named)
            if isinstance(found, Path):
                found = self._of_another_setup(found) or found
        found = broadcast_object_list([found])[0]
        if isinstance(found, IxtRlError):
            raise found
        return found

    def _of_another_setup(self, folder: Path) -> ConfigError | None:
        """Why this run cannot go on from a whole checkpoint, found before anything of it is loaded."""
        was, written = spread_by(folder), _ranks_of(folder)
        now = "FSDP" if self.is_fsdp_enabled else "DeepSpeed" if self.is_deepspeed_enabled else ""
        if was != now:
            return ConfigError(
                f"{folder}: saved {_under(was)}, resumed {_under(now)}",
                reason="each strategy writes its own pieces of model and optimizer",
                remedy="resume with the strategy it began with, or train anew",
            )
        if written == self.args.world_size or (self.any_ranks and not was):
            return None
        return ConfigError(
            f"{folder}: saved by {written} processes, resumed with {self.args.world_size}",
            reason="each goes on with its own state",
            remedy="resume with as many processes, or train anew",
        )

    def _read(self, folder: Path) -> dict[str, Any]:
        written, own = _ranks_of(folder), self.args.process_index
        same = written == self.args.world_size
        states = [
            torch.load(folder / STATE.format(rank=rank), map_location="cpu", weights_only=True)
            for rank in ([own] if same else range(written))
        ]
        state = states[0] if same else _shared_anew(states, own == 0)
        self.read_files(folder)
        self.restore(state)
        return state

    def _open_log(self) -> dict[str, Any]:
        """Sums since the last log, which a checkpoint may cut through."""
        return {
            "loss": float(self._tr_loss),
            "total_loss": self._total_loss_scalar,
            "since": self._globalstep_last_logged,
            "metrics": {n: [_plain(v) for v in values] for n, values in self._metrics["train"].items()},
            "sums": {name: sums.clone() for name, sums in self._sums.items()},
        }

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The next update's micro-batches. On a stream, making its iterator has used torch's generator once more than
        the straight run: its state is restored after the first batches."""
        found = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._resumed is not None:
            if self.args.ignore_data_skip:
                self._load_rng_state(str(self._resumed))
            self._resumed = None
        return found

    def _skip_epochs(self, epochs: int) -> None:
        """Brings what shuffles to where it stood after whole passes over the data."""

    # ---------------------------------------------------------------- evaluation

    def evaluate(self, *args, **kwargs):
        """As transformers'; what training draws, counts and logs is not touched."""
        training = self.model.training
        try:
            with generators_kept(self.accelerator.device), self.ledger.paused():
                return super().evaluate(*args, **kwargs)
        finally:
            self.model.train(training)

    def _evaluate(self, trial, ignore_keys_for_eval, skip_scheduler=False):
        if skip_scheduler and self._resumed is not None:
            return None  # `eval_on_start`: it was done when the run started
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)


class _Resumed(TrainerCallback):
    """Reads our part of a checkpoint once transformers has read its own."""

    def __init__(self, trainer: ResumableTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        trainer = self.trainer
        folder = trainer._resumed
        assert folder is not None
        saved = trainer._read(folder)["open_log"]
        if state.global_step >= state.max_steps:
            raise ConfigError(
                f"{folder}, of a run of {state.max_steps} updates",
                reason="nothing is left to train",
                remedy="take the model it holds, or raise max_steps to train on",
            )
        trainer._skip_epochs(int(state.epoch))
        trainer._tr_loss = torch.tensor(saved["loss"], device=args.device)
        trainer._total_loss_scalar = saved["total_loss"]
        trainer._initial_global_step = 0  # newer transformers divide that sum by the updates since
        trainer._globalstep_last_logged = saved["since"]
        trainer._metrics["train"].clear()
        trainer._metrics["train"].update(saved["metrics"])
        trainer._sums.update(saved["sums"])

    def on_step_end(self, args, state, control, **kwargs):
        if args.ignore_data_skip:  # a stream is one epoch; transformers counts its steps anew
            state.epoch = state.global_step / state.max_steps


class _BegunError(Exception):
    """Ends a training that was begun for its model alone."""


class _Begun(TrainerCallback):
    def on_train_begin(self, args, state, control, **kwargs):
        raise _BegunError


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Python's, numpy's and torch's generators are afterwards as they were, on the CPU and on `device`."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one, which other code draws from
    devices = [] if device.type == "cpu" else [torch.accelerator.current_device_index()]
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _shared_anew(states: list[dict[str, Any]], first: bool) -> dict[str, Any]:
    """What one of other ranks goes on with: the first of them with the tokens and sums of all."""
    tokens: Counter[str] = Counter()
    tracked: dict[str, torch.Tensor] = {}
    for state in states if first else []:
        tokens.update(state["tokens"])
        for name, sums in state["open_log"]["sums"].items():
            tracked[name] = tracked.get(name, 0) + sums
    logs = [state["open_log"] for state in states]
    losses = {name: sum(log[name] for log in logs) / len(logs) for name in ("loss", "total_loss")}
    return {**states[0], "tokens": dict(tokens), "open_log": {**logs[0], **losses, "sums": tracked}}


def _ranks_of(checkpoint: Path) -> int:
    """How many have written their state into it."""
    return len(list(checkpoint.glob(STATE.format(rank="*"))))


def _under(spread: str) -> str:
    return f"under {spread}" if spread else "by ranks that have the model whole (ddp, one process)"


def _plain(value: Any) -> int | float:
    """A number that can be saved without pickling: numpy's own are not."""
    return value if type(value) in (int, float) else float(value)
