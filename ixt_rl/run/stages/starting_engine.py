"""What samples from the model that a stage starts from, before a trainer has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.models import eos_ids, load_model
from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.sync import send_whole
from ixt_rl.run.stages.context import StageRun


def starting_engine(at: StageRun, sampling: SamplingBlock, tokenizer, stop: Sequence[str] = ()) -> RolloutEngine:
    """The run's engine with the weights of `at.origin`, or one in process on them; `stop` as for `Engines.get`.

    An engine outside the model is for rank 0 to ask for, alone.
    """
    model = load_model(at.origin, at.model, train=False)
    ends = eos_ids(model, tokenizer)
    engine = at.engines.get(sampling, at.origin, ends, stop)
    if engine is not None:
        send_whole(engine, model, 0)
        return engine
    return in_process_engine(model, ends, sampling, tokenizer)


def in_process_engine(
    model: PreTrainedModel, ends: tuple[int, ...], sampling: SamplingBlock, tokenizer
) -> TransformersEngine:
    """An engine on a model that is loaded, which moves to the accelerator if there is one."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    model.to(device or "cpu")  # type: ignore[arg-type]  # transformers wraps `to` for its type
    return TransformersEngine(model, ends, tokenizer.pad_token_id, sampling.batch_size, tokenizer)
