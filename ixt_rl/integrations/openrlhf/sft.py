"""OpenRLHF's SFT trainer on rows of this library: the same ids, the same masks, in the same order.

    TokenFiles -> ConditionedRows, in place of its dataset -> its loader, unshuffled -> its SFTTrainer

Its loss is the one of this library's trainers: the sum over the trained tokens of an update, on all ranks and in all
micro-batches, divided by their number (`iter_grad_accum_global_norm`). Imported in OpenRLHF's environment alone.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from openrlhf.datasets import SFTDataset
from openrlhf.trainer.sft_trainer import SFTTrainer

from ixt_rl.integrations.openrlhf.recording import record, seal_written
from ixt_rl.integrations.openrlhf.token_files import TokenFiles


class GivenRows(TokenFiles):
    """Rows as `train_sft` handles a dataset that it has loaded."""

    def select(self, places: range) -> GivenRows:
        """All of them: `--data.max_samples` says as many."""
        assert len(places) == len(self)
        return self


class ConditionedRows(SFTDataset):
    """Rows whose ids and masks are there already; of the arguments only the first two are read.

    An item is `(input_ids, attention_mask, loss_mask)`, each (1, T): int64, int64, and float32 at the positions that
    predict a trained token. OpenRLHF takes no row of one token, which gets a second that nothing sees.
    """

    def __init__(self, dataset: TokenFiles, tokenizer: Any, *args: Any, **kwargs: Any):
        torch.utils.data.Dataset.__init__(self)  # SFTDataset's own tokenizes
        self.rows, self.tokenizer = dataset, tokenizer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ids, trained = self.rows[place]
        width = max(2, len(ids))
        input_ids = torch.full((1, width), self.tokenizer.pad_token_id)
        attention_mask, loss_mask = torch.zeros(1, width, dtype=torch.long), torch.zeros(1, width)
        input_ids[0, : len(ids)] = torch.from_numpy(ids)
        attention_mask[0, : len(ids)] = 1
        loss_mask[0, : len(ids) - 1] = torch.from_numpy(trained[1:]).float()
        return input_ids, attention_mask, loss_mask


class RecordedSFTTrainer(SFTTrainer):
    """OpenRLHF's loop, whose metrics and checkpoints go to the run folder; `args.ixt_rl` is the job."""

    def save_logs_and_checkpoints(
        self, args: Any, global_step: int, step_bar: Any, logs_dict: Any = None, client_states: Any = None
    ) -> None:
        job = args.ixt_rl
        loss = self.strategy.all_reduce(logs_dict["loss_mean"])  # OpenRLHF logs rank 0's share of it
        if self.strategy.is_rank_0():
            row = {"loss": loss, "grad_norm": logs_dict["grad_norm"], "learning_rate": self.scheduler.get_last_lr()[0]}
            record(job, global_step, row)  # before the checkpoint, which counts only with its rows
        super().save_logs_and_checkpoints(args, global_step, step_bar, logs_dict, client_states)
        if global_step % args.ckpt.save_steps == 0:
            torch.distributed.barrier()  # all ranks have written their part
            if self.strategy.is_rank_0():
                seal_written(Path(args.ckpt.path), global_step, job["steps"])
