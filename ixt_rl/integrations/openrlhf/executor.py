"""What OpenRLHF's engines do for each prompt: sample by its ids, and reward by the stage's own functions.

A job's agent.py makes `AgentExecutor` here, which the engine's Ray actor calls without arguments. An undecided reward
is NaN from here on, and no row of it is trained. An error of a reward is counted by its guard, and beyond the stage's
budget ends the run; OpenRLHF's own executor would log it and train on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

from openrlhf.utils.agent import AgentExecutorBase

from ixt_rl.integrations.openrlhf.rewarding import Together, rewarded
from ixt_rl.rewards.calling import RewardFunction


def executor(
    rewards: Sequence[RewardFunction], weights: Sequence[float], eos_ids: Sequence[int]
) -> type[AgentExecutorBase]:
    """The class for `--train.agent_func_path`.

    Args:
        rewards: functions with TRL's signature.
        weights: of each in the sum.
        eos_ids: every id that ends a completion.
    """

    class RewardedSampling(AgentExecutorBase):
        """One completion of one prompt, and its rewards, which are asked for beside the engine."""

        def __init__(self) -> None:
            self._rewarding: Together | None = None

        async def execute(
            self,
            prompt: str,
            label: str,
            sampling_params: Any,
            max_length: int,
            hf_tokenizer: Any,
            llm_engine: Any,
            images: Any = None,
        ) -> dict[str, Any]:
            row = json.loads(label)
            ids = row["prompt_ids"]
            params = deepcopy(sampling_params)
            params.min_tokens, params.stop_token_ids = 0, list(eos_ids)  # OpenRLHF would forbid EOS at first
            found = (await llm_engine.generate(ids, params)).outputs[0]
            taken = list(found.token_ids)
            logprobs = None
            if params.logprobs is not None:
                of_taken = [step[token].logprob for token, step in zip(taken, found.logprobs, strict=True)]
                logprobs = [0.0] * len(ids) + of_taken
            if self._rewarding is None:
                self._rewarding = Together(partial(rewarded, rewards, tokenizer=hf_tokenizer))
            each = await self._rewarding.ask((row, taken))
            total = sum(weight * value for weight, value in zip(weights, each, strict=True) if weight)
            return {
                "prompt": prompt,
                "label": label,
                "images": None,
                "mm_train_inputs": None,
                "observation_tokens": ids + taken,
                "action_ranges": [(len(ids), len(ids) + len(taken))],
                "rollout_log_probs": logprobs,
                "truncated": found.finish_reason == "length",
                "reward": float(total),
                "scores": None,
                "extra_logs": {f"reward_{place}": value for place, value in enumerate(each)},
            }

    return RewardedSampling
