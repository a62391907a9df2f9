"""Trainers on a tiny model, with rollouts that are the same however the work is split."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from datasets import Dataset

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.conditioning import load_template
from ixt_rl.models import new_model
from ixt_rl.rollout.trl_adapter import EngineRollouts
from ixt_rl.trainers import (
    GPGConfig,
    GPGTrainer,
    GRPOConfig,
    GRPOTrainer,
    InTROConfig,
    InTROTrainer,
    LaTROConfig,
    LaTROTrainer,
    OPSDConfig,
    OPSDTrainer,
    RAFTConfig,
    RAFTTrainer,
    RLCSDConfig,
    RLCSDTrainer,
    RLOOConfig,
    RLOOTrainer,
    RLPConfig,
    RLPTrainer,
    RLSDConfig,
    RLSDTrainer,
    SDFTConfig,
    SDFTTrainer,
    SDPOConfig,
    SDPOTrainer,
    STaRConfig,
    STaRTrainer,
)
from ixt_rl.types import Rollout
from ixt_rl.worlds import AdditionWorld
from ixt_rl.worlds.addition.problem import AdditionProblem, right_rationale

METHODS = {
    "intro": (InTROTrainer, InTROConfig),
    "raft": (RAFTTrainer, RAFTConfig),
    "grpo": (GRPOTrainer, GRPOConfig),
    "rloo": (RLOOTrainer, RLOOConfig),
    "gpg": (GPGTrainer, GPGConfig),
    "star": (STaRTrainer, STaRConfig),
    "opsd": (OPSDTrainer, OPSDConfig),
    "sdpo": (SDPOTrainer, SDPOConfig),
    "sdft": (SDFTTrainer, SDFTConfig),
    "rlsd": (RLSDTrainer, RLSDConfig),
    "rlcsd": (RLCSDTrainer, RLCSDConfig),
    "latro": (LaTROTrainer, LaTROConfig),
    "rlp": (RLPTrainer, RLPConfig),
}
WORLD = AdditionWorld("parity")


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Problems, told their parity and the other one."""
    template, other = load_template(None, "addition"), {"m2 0": "m2 1", "m2 1": "m2 0"}
    out = []
    for row in WORLD.rows("train", count, seed):
        prompt, told = template.render(row["question"], row["answer"])
        _, wrong = template.render(row["question"], other[row["answer"]])
        out.append({**row, "prompt": prompt, "told_prompt": told, "told_wrong_prompt": wrong})
    return out


def parity_reward(prompts, completions, completion_ids, question, **kwargs) -> list[float]:
    return [float(WORLD.grade(q, ids).checked) for q, ids in zip(question, completion_ids, strict=True)]


class ScriptedEngine:
    """Completions that depend only on the prompt and on how often it was asked for: right rationales of
    several styles, and wrong ones. Rollouts are then equal for every split over micro-batches and ranks."""

    policy_version = 0

    def generate(self, prompts, sampling, n=1) -> list[list[Rollout]]:
        seen: Counter = Counter()
        groups = []
        for prompt in prompts:
            group = []
            for _ in range(n):
                group.append(self._rollout(tuple(prompt), seen[tuple(prompt)]))
                seen[tuple(prompt)] += 1
            groups.append(group)
        return groups

    def _rollout(self, prompt: tuple[int, ...], turn: int) -> Rollout:
        problem = AdditionProblem.parse(" ".join(map(str, prompt[1:7])))
        style, check = [("C", False), ("V", True), ("D", False), ("C", True)][turn % 4]
        ids = list(right_rationale(problem, style, check))
        if (sum(prompt) + turn) % 3 == 0:  # a wrong digit in the answer
            ids[-2] = (ids[-2] + 1) % 10
        return Rollout(prompt, tuple(ids), (0.0,) * len(ids), "eos", self.policy_version)

    def update_weights(self, named_tensors, version) -> None:
        self.policy_version = version

    def close(self) -> None: ...


def make_trainer(
    method: str,
    tmp_path,
    model=None,
    *,
    engine=None,
    rollouts=None,
    correction=None,
    reward=parity_reward,
    data=None,
    trainer_class=None,
    peft_config=None,
    eval_dataset=None,
    dynamic_sampling=0,
    **options,
):
    """A trainer of `method` on a tiny model, CPU, fp32, no logging."""
    default_class, config_class = METHODS[method]
    settings = {
        "output_dir": str(tmp_path),
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 34,
        "learning_rate": 1e-3,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "shuffle_dataset": False,
        "logging_steps": 1,
        "seed": 1,
    }
    return (trainer_class or default_class)(
        model if model is not None else tiny(),
        reward if isinstance(reward, list) else [reward],
        config_class(**{**settings, **options}),
        train_dataset=Dataset.from_list(data or rows(32)),
        eval_dataset=None if eval_dataset is None else Dataset.from_list(eval_dataset),
        processing_class=WORLD.tokenizer(),
        rollouts=rollouts or EngineRollouts(engine, parity_limit=math.inf),  # scripted log-probs are no policy's
        correction=correction,
        dynamic_sampling=dynamic_sampling,
        peft_config=peft_config,
        grader=lambda row, ids: WORLD.grade(row["question"], ids),
    )


def tiny(seed: int = 0):
    spec = NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, init_std=0.2, seed=seed)
    return new_model(spec, WORLD.tokenizer())


def trls(trainer_class, config_class, ours, model, **options):
    """TRL's own trainer of the same sizes, data and tokenizer as `ours`, in training mode."""
    names = ("output_dir", "max_steps", "per_device_train_batch_size", "num_generations", "max_completion_length")
    theirs = trainer_class(
        model,
        [lambda **_: [0.0]],
        config_class(
            **{name: getattr(ours.args, name) for name in names},
            **options,
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
        ),
        train_dataset=ours.train_dataset,
        processing_class=WORLD.tokenizer(),
    )
    theirs.model.train()
    return theirs


def generation_batch(trainer, count: int = 2) -> dict[str, Any]:
    """TRL's dict of one generation of `count` prompts, with this library's signals in it."""
    trainer.model.train()
    group = trainer.args.num_generations
    return trainer._generate_and_score_completions([{**row} for row in rows(count) for _ in range(group)])


def split(batch: dict[str, Any], parts: int) -> list[dict[str, Any]]:
    """The batch in equal micro-batches, as TRL's split_tensor_dict does."""
    size = len(batch["prompt_ids"]) // parts
    return [
        {
            key: value
            if value is None or (isinstance(value, torch.Tensor) and value.dim() == 0)
            else value[i * size : (i + 1) * size]
            for key, value in batch.items()
        }
        for i in range(parts)
    ]


def loss_and_gradient(trainer, parts: list[dict[str, Any]]) -> tuple[float, torch.Tensor]:
    """Sum of the micro-batches' losses, and the flat gradient they accumulate."""
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = len(parts)
    total = 0.0
    for part in parts:
        loss = trainer._compute_loss(trainer.model, part)
        loss.backward()
        total += float(loss.detach())
    return total, torch.cat([p.grad.flatten().clone() for p in trainer.model.parameters() if p.grad is not None])
