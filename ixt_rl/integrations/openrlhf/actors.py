"""OpenRLHF's Ray actors with a method of this library: the policy's training step, and what leads to it.

Imported in the Python of OpenRLHF's environment alone. `args.ixt_rl` is the job (`job.py`).

Shapes: B rollouts of a micro-batch, T tokens.
"""

from __future__ import annotations

import inspect
import json
import time
from pathlib import Path
from typing import Any

import torch
from openrlhf.trainer import ppo_trainer
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ray import ppo_actor
from transformers import AutoModelForCausalLM

from ixt_rl.integrations.openrlhf.experience import judged, reward_metrics
from ixt_rl.integrations.openrlhf.job import ACTOR, HOLDER
from ixt_rl.integrations.openrlhf.recording import in_given_order, record, seal_written
from ixt_rl.integrations.openrlhf.updates import Rationale, Told, method_of, micro_batch, told_by, update
from ixt_rl.rollout.pool.variables import take_variables
from ixt_rl.trainers.dropout import disable_dropout
from ixt_rl.trainers.head import add_head_function, model_head

_NONE = 1e-6  # tokens of a micro-batch that trains none: OpenRLHF divides by their number
_CANDIDATES = 2  # purpose of a seed, as in `ixt_rl.trainers.intro`


class TokenWeightedTrainer(ppo_actor.ActorPPOTrainer):
    """The policy's update: a pass that is told the answer, and the method's loss in place of PPO's."""

    def __init__(self, strategy: Any, actor: Any, *args: Any, **kwargs: Any):
        super().__init__(strategy, actor, *args, **kwargs)
        job = self.args.ixt_rl
        self.temperature = self.args.rollout.temperature
        model = actor.model.module
        disable_dropout(model)
        add_head_function(model, self.temperature)
        self.method = method_of(job["method"])
        self.told = self._told(job["method"])
        self.micro_steps = 0

    def _told(self, method: dict[str, Any]) -> Told:
        model: Any = self.actor.model
        head = None
        if method["posterior"] == "frozen":
            model = AutoModelForCausalLM.from_pretrained(
                method["frozen_model"],
                dtype=torch.bfloat16,
                attn_implementation=self.args.ds.attn_implementation,
                trust_remote_code=method["trust_remote_code"],
            ).to(next(model.parameters()).device)
            add_head_function(model, self.temperature)
            head = lambda: model_head(model, self.temperature)  # noqa: E731

        return told_by(model, head)

    def training_step(
        self, experience: Any, kl_ctl: float, step: int, loss_batch_info: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """One micro-batch; what is logged goes by trained tokens."""
        assert loss_batch_info is not None  # dynamic batches are refused
        self.actor.train()
        rows = rationales(experience)
        device = experience.sequences.device
        engine = self.actor.model
        seed = self.args.ixt_rl["seed"], _CANDIDATES, engine.global_steps, step, torch.distributed.get_rank()
        generator = torch.Generator(device=device).manual_seed(hash(seed) % 2**63)
        scale = loss_batch_info["dp_size"] / max(self._rows_per_update(loss_batch_info), _NONE)
        micro = micro_batch(rows, scale, self.tokenizer.pad_token_id, device)
        loss, logged = update(engine, self.told, micro, self.method, generator)
        self.strategy.backward(loss, self.actor, self.actor_optim)
        self.strategy.optimizer_step(self.actor_optim, self.actor, self.actor_scheduler, name="actor")
        metrics: dict[str, Any] = {"policy_loss": loss.detach().float()}
        weights: dict[str, str | None] = {"policy_loss": "sample"}
        for name in self.args.ixt_rl["logged"]:  # every rank and micro-batch reduces the same
            values = logged.get(name)
            metrics[name] = values.float().mean() if values is not None and len(values) else torch.zeros(())
            weights[name] = "token"
        metrics |= {"actor_lr": self.actor_scheduler.get_last_lr()[0]}
        metrics |= {"actor_grad_norm": self.strategy.get_grad_norm(self.actor)}
        weights |= {"actor_lr": None, "actor_grad_norm": None}
        return {
            "metrics": metrics,
            "weights": weights,
            "num_samples": float(len(experience.sequences)),
            "num_action_tokens": float(experience.action_mask.sum()) or _NONE,
        }

    def _rows_per_update(self, loss_batch_info: dict[str, Any]) -> float:
        """K of all ranks over accumulation, by which DeepSpeed divides: InTRO's kept rationales, of RLSD all."""
        if self.method.intro is not None:
            return float(loss_batch_info["global_batch_size"])
        return self.args.train.batch_size / self.strategy.accumulated_gradient


class GroupedExperience(RemoteExperienceMaker):
    """Rollouts become experience without a forward pass: the training step has all that its loss needs."""

    @torch.no_grad()
    def make_experience_batch(self, rollout_samples: list[Any]) -> list[Any]:
        method = self.args.ixt_rl["method"]
        samples = self.split_rollout_samples(rollout_samples)
        rewards = torch.cat([rewards_of(one) for one in samples])
        trained, advantages = judged(rewards, method)
        sizes = [len(one.sequences) for one in samples]
        for one, here, worth in zip(samples, trained.split(sizes), advantages.split(sizes), strict=True):
            one.action_mask = one.action_mask * here[:, None]  # OpenRLHF counts by it what its loss is a mean over
            one.advantages = worth[:, None].expand(one.action_mask.shape).clone()
        return samples


class RecordedTrainer(ppo_trainer.PPOTrainer.__ray_metadata__.modified_class):  # type: ignore[misc]
    """OpenRLHF's loop over prompts in their order, whose rows and checkpoints go to the run folder."""

    def __init__(self, pretrain: str, strategy: Any, *args: Any, **kwargs: Any):
        _take_variables(strategy)
        ppo_trainer.RemoteExperienceMaker = GroupedExperience
        super().__init__(pretrain, in_given_order(strategy), *args, **kwargs)
        self.job = strategy.args.ixt_rl

    def train_step(self, rollout_samples: list[Any], global_step: int) -> tuple[dict[str, Any], int]:
        begun = time.monotonic()
        rewards = torch.cat([rewards_of(one) for one in rollout_samples])
        status, step = super().train_step(rollout_samples, global_step)
        method, names = self.job["method"], self.job["reward_names"]
        trained, _ = judged(rewards, method)
        self.row = {
            **reward_metrics(rewards, names, method),
            **{name: status.get(name) for name in self.job["logged"]},
            "loss": status.get("policy_loss"),
            "learning_rate": status.get("actor_lr"),
            "grad_norm": status.get("actor_grad_norm"),
            "completions/mean_length": status["rollout/response_length_mean"],
            "completions/clipped_ratio": status["rollout/truncated_rate"],
            "seconds": time.monotonic() - begun,
            **_tokens(rollout_samples, trained),
        }
        return status, step

    def save_logs_and_checkpoints(self, global_step: int, logs_dict: Any = None, client_states: Any = None) -> None:
        record(self.job, global_step, self.row)  # before the checkpoint, which counts only with its rows
        super().save_logs_and_checkpoints(global_step, logs_dict, client_states)
        if global_step % self.args.ckpt.save_steps == 0:
            seal_written(Path(self.args.ckpt.path) / ACTOR, global_step, self.job["steps"])


def policy_class() -> Any:
    """The policy's Ray actor class."""
    base = ppo_actor.PolicyModelActor.__ray_metadata__.modified_class
    return ppo_actor.ray.remote(num_gpus=1)(type("TokenWeightedActor", (_TokenWeighted, base), {}))


def trainer_class() -> Any:
    """The loop's Ray actor class."""
    return ppo_actor.ray.remote(RecordedTrainer)


class _TokenWeighted:
    def init_model_from_pretrained(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        _take_variables(strategy)
        inherited: Any = super().init_model_from_pretrained  # type: ignore[misc]
        # Ray wraps methods, and sends OpenRLHF's class by value, so that its names are no longer its module's
        inspect.unwrap(inherited.__func__).__globals__["ActorPPOTrainer"] = TokenWeightedTrainer
        inherited(strategy, *args, **kwargs)
        assert isinstance(self.trainer, TokenWeightedTrainer)  # type: ignore[attr-defined]


def _take_variables(strategy: Any) -> None:
    """Sets what this node may lack, before a model or a tokenizer of the hub is loaded. Engines have it by agent.py."""
    if strategy.args.ixt_rl["variables"]:
        take_variables(HOLDER)


def rationales(experience: Any) -> list[Rationale]:
    """The trained rollouts of a micro-batch: those whose actions are not masked."""
    found = []
    for place, label in enumerate(experience.labels):
        actions = experience.action_mask[place].bool()
        if not actions.any():
            continue
        row = json.loads(label)
        sampled = experience.rollout_log_probs
        found.append(
            Rationale(
                row["prompt_ids"],
                row["told_ids"],
                experience.sequences[place, 1:][actions].tolist(),
                () if sampled is None else sampled[place][actions].tolist(),
                float(experience.advantages[place][actions][0]),
            )
        )
    return found


def rewards_of(experience: Any) -> torch.Tensor:
    """(B, F) each reward by itself; undecided NaN."""
    names = sorted((name for name in experience.info if name.startswith("reward_")), key=lambda name: int(name[7:]))
    return torch.stack([experience.info[name].float() for name in names], dim=1)


def _tokens(rollouts: list[Any], trained: torch.Tensor) -> dict[str, int]:
    """Computed positions by phase, as `Ledger` counts them."""
    of_all = [int(one.total_length) for one in rollouts]
    kept = [place for place, one in enumerate(trained.tolist()) if one]
    rows = [json.loads(rollouts[place].labels[0]) for place in kept]
    beside = [len(row["told_ids"]) - len(row["prompt_ids"]) for row in rows]
    train = sum(of_all[place] for place in kept)
    return {"tokens/rollout": sum(of_all), "tokens/train": train, "tokens/posterior": train + sum(beside)}
