"""DPO (arXiv 2305.18290) on preference pairs: TRL's trainer and loss, on token ids of the conditioning kernel.

    pairs --Conditioner--> (prompt ids, chosen ids, rejected ids) --TRL--> - log sigmoid(beta (margin - reference's))

The ids are those of supervised fine-tuning on the same replies: chat, ends and cuts are one code's.

An update always has as many pairs as its batch, so that its mean does not depend on how it is split over ranks and
micro-batches: where the pairs end, the next pass over them begins, in another order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

import datasets
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel
from trl import DPOConfig as TRLDPOConfig
from trl import DPOTrainer as TRLDPOTrainer

from ixt_rl.conditioning import Conditioner
from ixt_rl.data.in_memory import Repeated
from ixt_rl.data.preferences import PreferencePair
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.ledger import Ledger, model_size
from ixt_rl.trainers.dropout import disable_dropout
from ixt_rl.trainers.head import plain_model
from ixt_rl.trainers.refused_options import refuse_options
from ixt_rl.trainers.resumable import ResumableTrainer
from ixt_rl.trainers.self_checks import SelfChecks

_OWN_IDS = "pairs are token ids already, made by the conditioning kernel"
_MOVES = "a reference that moves is in no checkpoint"
REFUSED = {
    "max_length": f"{_OWN_IDS}; it limits prompts and replies",
    "truncation_mode": f"{_OWN_IDS}; it cuts replies at their end",
    "dataset_num_proc": _OWN_IDS,
    "pad_token": _OWN_IDS,
    "padding_free": "TRL has switched it off",
    "precompute_ref_log_probs": "the reference's passes are counted as they are made",
    "precompute_ref_batch_size": "the reference's passes are counted as they are made",
    "sync_ref_model": f"{_MOVES}, and a resumed run would compare with another one",
    "ref_model_mixup_alpha": _MOVES,
    "ref_model_sync_steps": _MOVES,
}
"""Options of `DPOConfig` that would do nothing here, or something else."""


@dataclass
class DPOConfig(TRLDPOConfig):
    """`trl.DPOConfig`; options about how texts become ids are refused.

    Args:
        self_checks: `{name: False}` leaves a check out that precedes the first update; see `self_checks.py`.
    """

    max_length: int | None = field(default=None)
    self_checks: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_options(self, REFUSED)


class DPOTrainer(ResumableTrainer, TRLDPOTrainer):
    """`trl.DPOTrainer` on pairs that the conditioner has made ids of.

    Args:
        model: the policy; the reference is the same model as it is now, with LoRA the model without its adapters.
        args: see `DPOConfig`.
        pairs: at least one.
        processing_class: the tokenizer.
        conditioner: shows prompts and replies; its feedback is not shown.

    Raises:
        ConfigError: an option that would do nothing.
        DataError: no pair.
    """

    config_class: ClassVar[type] = DPOConfig
    checks = ("ends",)
    _tag_names = ["trl", "ixt-rl", "dpo"]
    model: Any
    args: Any

    def __init__(
        self,
        model: PreTrainedModel,
        args: DPOConfig,
        pairs: Sequence[PreferencePair],
        processing_class: Any,
        *,
        conditioner: Conditioner,
        **kwargs: Any,
    ):
        if not pairs:
            raise DataError("0 preference pairs", reason="there is nothing to train on", remedy="give at least one")
        if kwargs.get("eval_dataset") is not None:
            raise ConfigError(
                "DPOTrainer(eval_dataset=...)",
                reason="pairs are measured by ixt_rl.evaluation.margins, whatever trains on them",
                remedy="leave it out",
            )
        self.conditioner = conditioner
        rows = datasets.Dataset.from_list([pair_ids(conditioner, pair) for pair in pairs])
        super().__init__(
            model,
            args=args,
            train_dataset=rows.select(_places(args, len(pairs))),
            processing_class=processing_class,
            **kwargs,
        )
        if args.train_sampling_strategy == "random":
            args.train_sampling_strategy = "sequential"  # the rows are in their order
        if args.disable_dropout:  # TRL's does not see attention's own
            disable_dropout(self.model)
        self.ledger = Ledger(model_size(self.model))
        self.self_checks = SelfChecks(self)
        self.add_callback(self.self_checks)

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        """As it is: rows are ids."""
        return dataset

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """TRL's; both passes are counted, and what it logs of tokens is weighed by them."""
        tokens = int(inputs["attention_mask"].sum())
        self.ledger.add("train", tokens)
        self.ledger.add("score", tokens)  # the reference's
        _gather_head(plain_model(self))
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        chosen, rejected = inputs["completion_mask"][:, 1:].sum(dim=1).chunk(2)
        self.weigh("entropy", chosen.sum() + rejected.sum())
        self.weigh("logits/rejected", rejected.sum())
        for name in ("logits/chosen", "mean_token_accuracy"):
            self.weigh(name, chosen.sum())
        return found

    def own_state(self) -> dict[str, Any]:
        return {**super().own_state(), "num_tokens": self._total_train_tokens}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._total_train_tokens = state["num_tokens"]


def pair_ids(conditioner: Conditioner, pair: PreferencePair) -> dict[str, list[int]]:
    """`prompt_ids`, `chosen_ids`, `rejected_ids` as TRL's collator takes them; replies that are not cut have an end."""
    found = []
    for segments in conditioner.segments([pair.chosen, pair.rejected], first=0):
        trained = next(place for place, segment in enumerate(segments) if segment.trained)
        before = [token for segment in segments[:trained] for token in segment.ids or ()]
        found.append((before, [token for segment in segments if segment.trained for token in segment.ids or ()]))
    (prompt, chosen), (_, rejected) = found
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def _places(args: DPOConfig, pairs: int) -> list[int]:
    """Which pair each row of all updates is, on all ranks; sets `max_steps` where it is passes that are asked for."""
    per_update = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    if args.max_steps <= 0:
        args.max_steps = math.ceil(pairs * args.num_train_epochs / per_update)
    count = args.max_steps * per_update
    if args.train_sampling_strategy != "random":
        return [place % pairs for place in range(count)]
    return [*islice(Repeated(range(pairs), args.seed if args.data_seed is None else args.data_seed), count)]


def _gather_head(model: Any) -> None:
    """FSDP 2: the head has all its weights when it is read, also where it is a unit of its own, as `modules_to_save`
    makes it. TRL gathers it itself otherwise, and each rank keeps its own part of the gradient in place of the mean."""
    for module in model.get_output_embeddings().modules():
        if isinstance(module, FSDPModule):
            module.unshard()
