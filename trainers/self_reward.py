"""Rewards that the model gives its own rationales: what LaTRO and RLP share.

    s(z) = log p(y | x, z') = sum_t log p(y_t | x, z', y_<t)

with z' the rationale without the token that ends it, and y a text that the row knows: its answer, or how a document
goes on. One pass without gradient; at the temperature of sampling, as all of the policy's log-probs here are.

    rows -> _generate_and_score_completions -> complete: y of each row, `self_rewards` -> advantages -> the loss

Shapes: B rows, S sequences, N scored tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ixt_rl.conditioning import build
from ixt_rl.conditioning.control import text_ids
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.trainers.baselines import leave_one_out
from ixt_rl.trainers.dropout import evaluation_mode
from ixt_rl.trainers.hooks import hook
from ixt_rl.trainers.policy_gradient import PolicyGradientConfig, PolicyGradientTrainer
from ixt_rl.trainers.reference_policy import Reference
from ixt_rl.trainers.shared_prompts import prompts_once
from ixt_rl.types import Segment, TokenSequence


@dataclass
class SelfRewardConfig(PolicyGradientConfig):
    """`PolicyGradientConfig` with what follows the rationale.

    Args:
        target: the text y, with `{answer}` for the row's; it is tokenized by itself.
    """

    target: str = field(default="{answer}")

    own_options: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{answer}" not in self.target:
            raise ConfigError(
                f"target={self.target!r}",
                reason="every row would be asked for the same text",
                remedy="put {answer} in it",
            )


class SelfRewardTrainer(PolicyGradientTrainer):
    """`PolicyGradientTrainer` whose rewards are `self_rewards`; dataset rows need `answer`. The reward functions are
    logged, and train nothing.

    Raises:
        ConfigError: dynamic sampling, which asks the reward functions what a group teaches.
    """

    config_class: ClassVar[type] = SelfRewardConfig

    def __init__(self, model: Any, reward_funcs: Any, args: SelfRewardConfig, **kwargs: Any):
        super().__init__(model, reward_funcs, args, **kwargs)
        if self.dynamic is not None:
            raise ConfigError(
                f"dynamic sampling with {type(self).__name__}",
                reason="its rewards are the model's own, which no two rationales have in common",
                remedy="leave dynamic sampling out",
            )

    # ---------------------------------------------------------------- override these

    @hook
    def self_rewards(
        self, prompts: list[list[int]], rationales: list[list[int]], targets: list[list[int]], batch: dict[str, Any]
    ) -> Tensor:
        """(B,) fp32 rewards of a generation's rationales; the default is `s` at the top of this file.

        Args:
            prompts, rationales, targets: ids of x, z and y of each row.
            batch: TRL's dict of this rank's rows.
        """
        rows = zip(prompts, rationales, targets, strict=True)
        return self.scores([self.read_after(*row) for row in rows])

    def advantages(self, rewards: Tensor, batch: dict[str, Any]) -> Tensor:
        """Each less the mean of the others of its group."""
        return leave_one_out(rewards.view(-1, self.group_size)).flatten()

    # ---------------------------------------------------------------- scoring

    def targets_of(self, rows: list[dict[str, Any]]) -> list[list[int]]:
        """Ids of y of each row.

        Raises:
            DataError: a row has no answer, or one without a token.
        """
        found = []
        for row in rows:
            if row.get("answer") in (None, []):
                raise DataError(
                    f"no answer to the prompt {row['prompt']!r:.80}",
                    reason="the reward is how likely the model finds it",
                    remedy="give each row an `answer`, a text",
                )
            several = isinstance(row["answer"], list | tuple)  # the first of them
            text = self.args.target.format(answer=row["answer"][0] if several else row["answer"])
            ids = [int(token) for token in text_ids(self.processing_class, text)]
            if not ids:
                raise DataError(
                    f"answer {row['answer']!r} in target {self.args.target!r}",
                    reason="it has no token whose probability could be asked for",
                    remedy="leave the row out",
                )
            found.append(ids)
        return found

    def _check_room(self, longest: int) -> None:
        config = self.accelerator.unwrap_model(self.model).config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None)
        if limit is not None and longest > limit:
            raise DataError(
                f"prompt, rationale and answer of {longest} tokens",
                reason=f"the model has {limit} positions",
                remedy="drop rows with long answers, or shorten prompts or completions",
            )

    def read_after(self, prompt: Sequence[int], rationale: Sequence[int], target: Sequence[int]) -> TokenSequence:
        """[x, z', y], of which y is scored, or trained."""
        ended = len(rationale) > 0 and rationale[-1] in self.eos_token_ids
        return build([
            Segment("prompt", ids=tuple(prompt)),
            Segment("completion", ids=tuple(rationale[:-1] if ended else rationale)),
            Segment("completion", ids=tuple(target), trained=True),
        ])  # fmt: skip

    def scores(self, sequences: list[TokenSequence], reference: Reference | None = None) -> Tensor:
        """(S,) fp32: of each sequence the summed log-probs of its scored tokens, without gradient and dropout.

        Args:
            sequences: equally many on every rank.
            reference: whose they are; None: the policy's.
        """
        size, found = self.args.per_device_train_batch_size, []
        other = nullcontext(self.model) if reference is None else reference.active(self.model)
        with prompts_once(self), other as model, evaluation_mode(model):
            for first in range(0, len(sequences), size):
                batch = self.collate(sequences[first : first + size])
                self.ledger.add("score", int(batch.attention_mask.sum()))

                def logps(hidden: Tensor, head: Head, tokens: Tensor = batch.target_ids) -> Tensor:
                    return selected_logprobs(hidden, head, tokens)[0]

                with torch.no_grad(), self.accelerator.autocast():
                    logp_N = model(**self.model_inputs(batch), head_fn=logps).float()
                sums = torch.zeros(len(batch.loss_mask), device=logp_N.device)
                found.append(sums.index_add(0, batch.target_rows.to(logp_N.device), logp_N))
        return torch.cat(found)

    # ---------------------------------------------------------------- the update

    def complete(self, rows: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        targets = self.targets_of(rows)
        prompts, rationales = self.prompt_lists(batch), self.completion_lists(batch)
        self._check_room(max(sum(map(len, row)) for row in zip(prompts, rationales, targets, strict=True)))
        rewards = self.self_rewards(prompts, rationales, targets, batch)
        read = batch["completion_mask"].any(dim=1)  # what was cut off and is masked is not
        batch["target_ids"], batch["rewards"] = targets, rewards.masked_fill(~read, float("nan"))
        self.track("self_reward", batch["rewards"])
        super().complete(rows, batch)
