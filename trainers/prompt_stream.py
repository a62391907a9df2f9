"""What trainers on a stream of prompts have in common: cursor, engine, log-probs, counts; no method of its own.

Shapes: B rows, T tokens, N loss-bearing tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback
from trl import SFTTrainer
from trl.distributed import DistributedBackend

from ixt_rl.conditioning import Batch, pad
from ixt_rl.data.in_memory import Repeated
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.intro.walk import Reweigh
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.kernels.nll import NllStats, nll_loss
from ixt_rl.ledger import Ledger, model_size
from ixt_rl.models import eos_ids
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers.auxiliary import forward_with_auxiliary
from ixt_rl.trainers.checkpoints import damage
from ixt_rl.trainers.dropout import disable_dropout
from ixt_rl.trainers.head import add_head_function, padded_positions
from ixt_rl.trainers.hooks import check_hooks
from ixt_rl.trainers.means import Means
from ixt_rl.trainers.resumable import ResumableTrainer
from ixt_rl.trainers.self_checks import SelfChecks
from ixt_rl.trainers.shared_prompts import prompts_once, scored_inputs
from ixt_rl.trainers.update_stream import Resumable, SharedUpdates
from ixt_rl.types import Rollout, TokenSequence


class PromptTrainer(ResumableTrainer, SFTTrainer):
    """`SFTTrainer` whose data is a stream of prompts and whose loss is the subclass's; rollouts come from an engine.

    Subclasses make micro-batches in `get_batch_samples`, where all prompts of an update are at hand (`prompts_of`), and
    write `compute_loss`, which is the micro-batch's part of the update's loss: nothing divides it afterwards.

    Args:
        model: the policy.
        args: a config with the sampling options of `SIPConfig`.
        train_dataset: a source of prompts with a cursor, or a list of them, repeated in another order each time.
        processing_class: the tokenizer.
        rollouts: samples; None: the model itself, in process.
        metrics: names of what is averaged in `means`.
        other arguments: as in `trl.SFTTrainer`.

    Raises:
        ConfigError: an argument that this trainer has no use for, or a hook with other arguments.
    """

    loss_is_scaled_for_ga: Any = True  # TRL declares it as None
    args: Any  # transformers and TRL type these three too widely to use
    model: Any
    processing_class: Any

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: Any,
        train_dataset: Resumable[Any] | Sequence[Any],
        processing_class,
        *,
        rollouts: EngineRollouts | None,
        metrics: Iterable[str],
        **kwargs: Any,
    ):
        check_hooks(self)
        self.rollouts = rollouts or EngineRollouts()
        self._refuse(kwargs)
        super().__init__(
            model,
            args=args,
            train_dataset=datasets.Dataset.from_list([{"input_ids": [0], "labels": [0]}]),  # ours follows below
            data_collator=_prompts_of_a_batch,
            processing_class=processing_class,
            **kwargs,
        )
        if args.disable_dropout:
            disable_dropout(self.model)
        at_once, ranks = args.per_device_train_batch_size, args.world_size
        per_update = at_once * args.gradient_accumulation_steps * ranks
        source = Repeated(train_dataset, args.seed) if isinstance(train_dataset, Sequence) else train_dataset
        self.train_dataset = self.prompts = SharedUpdates(source, per_update, ranks, at_once)
        args.max_steps = self.prompts.length(args.max_steps)
        add_head_function(self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model, 1.0)
        self.ledger = Ledger(model_size(self.model))
        self.means = Means([*metrics, "aux_loss"])
        self._dist = DistributedBackend(self.accelerator)  # EngineRollouts reads this, the ends and the micro-step
        self.eos_token_ids = list(eos_ids(self.model, processing_class))
        self._step = 0  # one call samples for all micro-batches
        self.add_callback(_AfterUpdate(self))
        self.self_checks = SelfChecks(self)
        self.add_callback(self.self_checks)

    def _refuse(self, kwargs: dict[str, Any]) -> None:
        for name in ("eval_dataset", "data_collator", "formatting_func", "compute_loss_func"):
            if kwargs.get(name) is not None:
                raise ConfigError(
                    f"{type(self).__name__}({name}=...)",
                    reason="prompts come from a stream, and the loss is the objective's",
                    remedy=f"leave {name} out; evaluate generations with a callback",
                )
        if self.rollouts.staleness:
            raise ConfigError(
                f"staleness={self.rollouts.staleness} with {type(self).__name__}",
                reason="rollouts are judged before the next prompts are read",
                remedy="use staleness 0",
            )
        if self.rollouts.max_prompt_tokens is not None:
            raise ConfigError(
                f"max_prompt_tokens={self.rollouts.max_prompt_tokens} with {type(self).__name__}",
                reason="what is trained would follow another prefix than what was sampled",
                remedy="let the stream of prompts limit prefixes",
            )

    # ---------------------------------------------------------------- for subclasses

    def after_update(self, update: int) -> None:
        """Update number `update` has changed the model."""

    def save_beside(self, folder: Path) -> None:
        """Writes what a resumed run needs, beside cursor and counts, into a checkpoint's folder; main process only."""

    def load_beside(self, folder: Path) -> None:
        """Reads what `save_beside` wrote."""

    def sample(self, prefixes: Sequence[tuple[int, ...]], copies: int, part: int = 0) -> list[Rollout]:
        """`copies` rollouts of each prefix, neighbours; seeded by step and part, from the current policy. All ranks
        call it."""
        ids = [list(prefix) for prefix in prefixes for _ in range(copies)]
        found = self.rollouts.sample(ids, self, part)
        self.ledger.add("rollout", sum(len(one.prompt_ids) + len(one.completion_ids) for one in found))
        return found

    def prompts_of(self, batches: Iterable[list[Any]]) -> list[Any]:
        """This rank's prompts of an update, in order; none where the stream ended before its part of it."""
        return [item for batch in batches for item in batch if item is not None]

    def check_lengths(self, prefixes: Sequence[tuple[int, ...]]) -> None:
        """Raises DataError if a prefix is empty, or leaves no room for `max_completion_length` tokens."""
        if not prefixes:
            return
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        shortest, longest = min(map(len, prefixes)), max(map(len, prefixes))
        completion = self.args.max_completion_length
        if not shortest or (limit is not None and longest + completion > limit):
            raise DataError(
                f"prefixes of {shortest} to {longest} tokens with max_completion_length={completion}",
                reason=f"the model has {limit} positions, and a first token has nothing to follow",
                remedy="let the stream of prompts cut them otherwise",
            )

    def collate(self, sequences: Sequence[TokenSequence]) -> Batch:
        """Right-padded batch on the model's device.

        Every rank runs the same passes: no sequences are one token, which trains nothing.
        """
        padding = self.processing_class.pad_token_id
        return pad(sequences or [TokenSequence((padding,), (0,), (False,))], padding).to(self.accelerator.device)

    def logprobs(self, model: Any, batch: Batch, temperature: float = 1.0) -> Tensor:
        """(N,) fp32 log-probs of the batch's trained tokens under `model`, a model with a head function."""
        with self.accelerator.autocast():
            return model(**self._scoring(batch, temperature))

    def trained_logprobs(self, model: Any, batch: Batch, temperature: float = 1.0) -> tuple[Tensor, Tensor | float]:
        """`logprobs` of the forward pass that trains, and what the auxiliary loss adds to the micro-batch's."""
        with self.accelerator.autocast():
            return forward_with_auxiliary(self, model, self._scoring(batch, temperature), self.means.add)

    def trained_nll(
        self, model: Any, batch: Batch, temperature: float = 1.0, reweigh: Reweigh | None = None, whole: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | float]:
        """Sum of minus the log-probs of the batch's trained tokens, 0-d, these (N,) without a gradient, and what the
        auxiliary loss adds: where a token's slope needs nothing but its own log-prob, the head is walked once.

        Args:
            model: that trains.
            batch: its tokens.
            temperature: of the head.
            reweigh: `nll_loss`'s: weights of tokens by their log-probs.
            whole: it needs the log-probs of all tokens at once: one product with the head more, without a gradient.
        """

        def head_fn(hidden: Tensor, head: Head) -> tuple[Tensor, NllStats]:
            head = replace(head, temperature=temperature)
            ones_N, known = torch.ones(len(hidden), device=hidden.device), reweigh
            if whole and reweigh is not None:
                with torch.no_grad():
                    weights_N = reweigh(selected_logprobs(hidden, head, batch.target_ids)[0], slice(None))
                known = lambda logp_C, at: weights_N[at]  # noqa: E731
            return nll_loss(hidden, head, batch.target_ids, ones_N, reweigh=known)

        with self.accelerator.autocast():
            inputs = self._inputs(batch, head_fn)
            (loss, stats), auxiliary = forward_with_auxiliary(self, model, inputs, self.means.add)
        return loss, stats.logp, auxiliary

    def training_step(self, *args, **kwargs):
        """One micro-batch, forward and backward; on a CPU a prompt is read once for all its completions."""
        with prompts_once(self):
            return super().training_step(*args, **kwargs)

    def _scoring(self, batch: Batch, temperature: float) -> dict[str, Any]:
        def head_fn(hidden: Tensor, head: Head) -> Tensor:
            return selected_logprobs(hidden, replace(head, temperature=temperature), batch.target_ids)[0]

        return self._inputs(batch, head_fn)

    def _inputs(self, batch: Batch, head_fn: Callable[[Tensor, Head], Any]) -> dict[str, Any]:
        return {**scored_inputs(batch, self.model.config), "head_fn": head_fn}

    # ---------------------------------------------------------------- what engines are compared with

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, batch_size=None):
        """(B, logits_to_keep) log-probs of the last tokens at the sampling temperature; TRL's name and result."""
        kept = attention_mask.bool()
        kept[:, :-logits_to_keep] = False
        positions = padded_positions(attention_mask)
        batch = Batch(input_ids, attention_mask, positions, attention_mask, kept, attention_mask - 1)
        self.ledger.add("score", int(attention_mask.sum()))
        logp_N = self.logprobs(model, batch, self.args.temperature)
        logps = torch.zeros(kept.shape, dtype=logp_N.dtype, device=logp_N.device).masked_scatter(kept, logp_N)
        return logps[:, -logits_to_keep:], None, None

    # ---------------------------------------------------------------- logs and checkpoints

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training:
            for name, mean in self.means.take(self.accelerator).items():
                if mean == mean:  # not measured since the last log, on no rank
                    self._metrics["train"][name].append(mean)
            logs |= self.flops_of_all()
        super().log(logs, start_time)

    def own_state(self) -> dict[str, Any]:
        return {**super().own_state(), "means": self.means.state_dict(), "rollouts": self.rollouts.state_dict(self)}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.means.load_state_dict(state["means"])
        self.rollouts.load_state_dict(state["rollouts"], self)

    def write_files(self, folder: Path) -> None:
        super().write_files(folder)
        if self.accelerator.is_main_process:
            self.save_beside(folder)
            self.prompts.save(folder, self.state.global_step)

    def read_files(self, folder: Path) -> None:
        super().read_files(folder)
        self.prompts.seek(folder)
        self.load_beside(folder)

    def save_now(self) -> None:
        """A checkpoint after the last finished update, if there is one and it has none; all ranks call it."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.state.global_step and damage(folder) is not None:
            self._save_checkpoint(self.model, trial=None)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)


class _AfterUpdate(TrainerCallback):
    def __init__(self, trainer: PromptTrainer):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.after_update(state.global_step)


def _prompts_of_a_batch(prompts: list[Any]) -> Any:
    """As they are: `get_batch_samples` makes of them what is collated."""
    return prompts
