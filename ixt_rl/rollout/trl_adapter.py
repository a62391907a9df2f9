"""A rollout engine as TRL's `rollout_func`, for this library's trainers and for anyone's GRPOTrainer.

GRPOTrainer(..., rollout_func=EngineRollouts(engine))
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel
from trl.models.utils import unwrap_model_for_generation

from ixt_rl.conditioning.prompts import Prompt, encode_prompt
from ixt_rl.errors import DataError
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.transformers_engine import TransformersEngine
from ixt_rl.types import SamplingParams


def call_seed(*parts: int) -> int:
    """A 63-bit seed from integers; equal parts give equal seeds in every process and run."""
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def step_seed(trainer: Any, purpose: int) -> int:
    """A seed for this micro-step and rank; a resumed run gets the seeds of the straight run."""
    micro_step = trainer._step % trainer.args.gradient_accumulation_steps
    rank = trainer.accelerator.process_index
    return call_seed(trainer.args.seed, trainer.state.global_step, micro_step, rank, purpose)


class EngineRollouts:
    """Calls an engine for TRL: prompts in, ids with log-probs out.

    TRL hands over this process's prompts with each one already repeated `num_generations` times, so
    every one is sampled once. Sampling is seeded by (seed, step, micro-step, rank), so a resumed run draws
    what the straight run drew. Without an engine the trainer's own model samples, in process.

    Args:
        engine: where to sample; None builds a `TransformersEngine` on the trainer's model.
        batch_size: rows generated at once by the default engine.
    """

    def __init__(self, engine: RolloutEngine | None = None, batch_size: int = 256):
        self.engine = engine
        self.batch_size = batch_size

    def __call__(self, prompts: list[Prompt], trainer: Any) -> dict[str, list]:
        """prompt_ids, completion_ids, logprobs, finish_reason and policy_version, one each a prompt."""
        ids = [encode_prompt(trainer.processing_class, prompt) for prompt in prompts]
        _check_room(ids, trainer)
        args, state = trainer.args, trainer.state
        sampling = SamplingParams(
            max_new_tokens=args.max_completion_length,
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k,
            seed=step_seed(trainer, purpose=int(trainer.model.training)),
        )
        if self.engine is None or isinstance(self.engine, TransformersEngine):
            with self.in_process_engine(trainer) as engine:
                groups = engine.generate(ids, sampling)
        else:
            if self.engine.policy_version != state.global_step:
                model = trainer.accelerator.unwrap_model(trainer.model)
                self.engine.update_weights(model.state_dict().items(), state.global_step)
            groups = self.engine.generate(ids, sampling)
        rollouts = [group[0] for group in groups]
        return {
            "prompt_ids": [list(r.prompt_ids) for r in rollouts],
            "completion_ids": [list(r.completion_ids) for r in rollouts],
            "logprobs": [list(r.logprobs) for r in rollouts],
            "finish_reason": [r.finish_reason for r in rollouts],
            "policy_version": [r.policy_version for r in rollouts],
        }

    @contextmanager
    def in_process_engine(self, trainer: Any) -> Iterator[TransformersEngine]:
        """An engine on the trainer's current weights, gathered where they are sharded."""
        unwrapped = unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
            gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
        )
        whole = trainer._dist.summon_full_params(trainer.model_wrapped, recurse=False)  # FSDP 1
        with unwrapped as model, whole, trainer.accelerator.autocast():
            engine = self.engine
            if not isinstance(engine, TransformersEngine):
                pad_id = trainer.processing_class.pad_token_id
                engine = TransformersEngine(model, trainer.eos_token_ids, pad_id, self.batch_size)
            engine.model = model
            engine.update_weights((), trainer.state.global_step)
            yield engine


def _check_room(ids: list[list[int]], trainer: Any) -> None:
    model: PreTrainedModel = trainer.accelerator.unwrap_model(trainer.model)
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(map(len, ids))
    if limit is not None and longest + trainer.args.max_completion_length > limit:
        raise DataError(
            f"a prompt of {longest} tokens plus max_completion_length={trainer.args.max_completion_length}",
            reason=f"the model has {limit} positions",
            remedy="drop or truncate long prompts when the data loads, or shorten completions",
        )
