"""One update of OpenRLHF's own actor trainer on DeepSpeed, without Ray, beside the same update computed plainly.

Run by each rank in the Python of OpenRLHF's environment: actor_step.py MODEL METHOD OUT. Writes rank 0's logs to OUT.
"""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace as Space
from typing import Any

import torch
from openrlhf.models import Actor
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.utils import get_tokenizer
from openrlhf.utils.deepspeed import DeepspeedStrategy

from ixt_rl.integrations.openrlhf.actors import GroupedExperience, TokenWeightedTrainer, rationales
from ixt_rl.integrations.openrlhf.updates import Told, method_of, micro_batch, update

METHODS: dict[str, dict[str, Any]] = {
    "intro": {"type": "intro", "candidates": 1, "include_taken": True, "clip": 200.0, "keep_reward": 1.0,
              "deciding": [0], "posterior": "live"},
    "rlsd": {"type": "rlsd", "factor_epsilon": 0.2, "mix": 1.0, "scale_rewards": "group", "posterior": "frozen"},
}  # fmt: skip
LOGGED = ["factor/taken", "factor/clipped", "entropy", "sampler/logp_abs"]


def arguments(job: dict[str, Any]) -> Space:
    advantage = Space(is_correction_level="token", is_correction_mode="mask", is_correction_gating="ratio",
                      is_correction_threshold=[0.5, 5.0])  # fmt: skip
    actor = Space(eps_clip_low_high=(0.2, 0.2), dual_clip=None, loss_agg_mode="token-mean", policy_loss_type="ppo",
                  aux_loss_coef=0, entropy_coef=None)  # fmt: skip
    train = Space(max_epochs=1, dynamic_batch_enable=False, batch_size=16, colocate_all=False, async_enable=False)
    ds = Space(param_dtype="bf16", zero_stage=2, packing_samples=False, tensor_parallel_size=1)
    ds.attn_implementation = "sdpa"
    return Space(
        ixt_rl=job, local_rank=-1, ds=ds, train=train, actor=actor, vllm=Space(sync_backend="nccl"), use_ms=False,
        rollout=Space(temperature=1.0, micro_batch_size=4), data=Space(disable_fast_tokenizer=False),
        algo=Space(advantage=advantage, kl=Space(use_loss=False)),
    )  # fmt: skip


def rollout(place: int, generator: torch.Generator) -> Experience:
    ids, told = [10, 1, 2, 13], [10, 1, 2, 5, 13]
    taken = torch.randint(1, 9, (3 + place % 5,), generator=generator).tolist() + [11]
    sequence = torch.tensor([ids + taken])
    actions = torch.zeros_like(sequence)
    actions[:, len(ids) :] = 1
    reward = torch.tensor([float("nan") if place == 6 else float(place % 3 == 0)])
    label = json.dumps({"prompt_ids": ids, "told_ids": told, "prompt": "", "columns": {}})
    return Experience(
        sequences=sequence, attention_mask=torch.ones_like(sequence), action_mask=actions[:, 1:],
        rollout_log_probs=torch.full(sequence.shape, -2.0)[:, 1:], prompts=[""], labels=[label], images=[None],
        mm_train_inputs=[None], rewards=reward, response_length=torch.tensor([len(taken)]),
        truncated=torch.tensor([False]), total_length=torch.tensor([sequence.shape[1]]),
        info={"reward": reward, "reward_0": reward},
    )  # fmt: skip


def main(model: str, method: str, out: str) -> None:
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    correction = {"level": "token", "mode": "truncate", "cap": 2.0}
    both = {"group_size": 4, "weights": [1.0], "correction": correction}
    both |= {"frozen_model": model, "trust_remote_code": False}
    job = {"method": {**METHODS[method], **both}, "logged": LOGGED, "seed": 1}
    args = arguments(job)
    strategy = DeepspeedStrategy(seed=1, micro_train_batch_size=4, train_batch_size=16, zero_stage=2, args=args)
    strategy.setup_distributed()
    actor = Actor(model, attn_implementation="sdpa", ds_config=strategy.get_ds_train_config())
    tokenizer = get_tokenizer(model, actor.model, "left", strategy)
    adam = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0}
    settings = {"optim": "adam", "muon": {}, "adam": adam, "lr_scheduler": "constant_with_warmup",
                "lr_warmup_ratio": 0.0, "min_lr_ratio": 0.0, "max_norm": 1.0, "scheduler_steps": 3}  # fmt: skip
    actor, optimizer, scheduler = strategy.prepare((actor, settings))
    trainer = TokenWeightedTrainer(
        strategy, actor, ema_model=None, actor_optim=optimizer, actor_scheduler=scheduler, micro_train_batch_size=4,
        tokenizer=tokenizer,
    )  # fmt: skip
    maker = GroupedExperience.__new__(GroupedExperience)
    maker.args, maker.strategy, maker.tokenizer = args, strategy, tokenizer
    generator = torch.Generator().manual_seed(0)
    batches = maker.make_experience_batch([rollout(place, generator) for place in range(16)])
    plain = plainly(trainer, batches, tokenizer.pad_token_id)  # before the weights move
    own = len(batches) // ranks
    for batch in batches[rank * own : (rank + 1) * own]:
        trainer.replay_buffer.append(batch)
    status = trainer.ppo_train(0.0)
    if rank == 0:
        with open(out, "w", encoding="utf-8") as file:
            json.dump({"status": {name: float(value) for name, value in status.items()}, "plain": plain}, file)


def plainly(trainer: TokenWeightedTrainer, batches: list[Experience], pad_id: int) -> dict[str, float]:
    """Norm of the gradient and mean factor of the whole update in one pass of the bare module."""
    module = trainer.actor.model.module
    rows = [row for batch in batches for row in rationales(batch)]
    count = len(rows) if trainer.method.intro is not None else 16

    def told(**inputs: Any) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = module(**inputs)
        return found

    method = method_of(trainer.args.ixt_rl["method"])
    loss, logged = update(module, Told(told), micro_batch(rows, 1 / count, pad_id, "cpu"), method)
    grads = torch.autograd.grad(loss, list(module.parameters()))
    norm = torch.stack([grad.float().square().sum() for grad in grads]).sum().sqrt()
    return {"norm": norm.item(), "factor": logged["factor/taken"].mean().item(), "loss": loss.item()}


if __name__ == "__main__":
    main(*sys.argv[1:])
