"""A stage of a run file as flags of OpenRLHF's `train_ppo_ray`. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ixt_rl.blocks.openrlhf import Flag
from ixt_rl.methods.online import OnlineStage

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine_with_min_lr"}


def flags_of(
    stage: OnlineStage,
    *,
    model: str,
    attention: str,
    seed: int,
    prompts: Path,
    agent: Path,
    checkpoints: Path,
    model_out: Path,
    resume: bool,
) -> dict[str, Flag | list[float]]:
    """Every flag that the stage's keys set, and those of `openrlhf.flags`, without the dashes.

    Args:
        stage: with its number of updates.
        model: folder or hub id of the model that it starts from.
        attention: of the run's `model` block.
        seed: of the run.
        prompts: file of `{"prompt": ..., "label": ...}`, one for each group of all updates, in their order.
        agent: file with the class `AgentExecutor`.
        checkpoints, model_out: folders of DeepSpeed's checkpoints and of the model that is made.
        resume: there is a checkpoint to go on from.
    """
    settings = stage.openrlhf
    assert settings is not None and stage.steps is not None
    optim, sampling = stage.optim, stage.sampling
    warmup = min(optim.warmup_steps, stage.steps)
    micro = micro_batch(stage)
    found: dict[str, Flag | list[float]] = {
        "actor.model_name_or_path": model,
        "actor.num_nodes": settings.nodes,
        "actor.num_gpus_per_node": settings.actors,
        "actor.optim": "adam",
        "actor.adam.lr": optim.lr,
        "actor.adam.betas": list(optim.betas),
        "actor.adam.weight_decay": optim.weight_decay,
        "actor.lr_scheduler": _SCHEDULES[optim.schedule],
        "actor.lr_warmup_ratio": max(0.0, warmup - 0.5) / stage.steps,  # it takes ceil(steps x ratio)
        "actor.min_lr_ratio": optim.min_lr_ratio,
        "actor.max_norm": optim.max_grad_norm,
        "actor.gradient_checkpointing_enable": stage.gradient_checkpointing,
        "algo.advantage.estimator": "reinforce",  # any without a critic: advantages are the method's
        "algo.advantage.is_correction_level": "off" if settings.correction is None else "token",  # gives log-probs
        "algo.kl.init_coef": 0.0,
        "ckpt.path": str(checkpoints),
        "ckpt.output_dir": str(model_out),
        "ckpt.save_steps": -1 if stage.checkpoint_every is None else stage.checkpoint_every,
        "ckpt.disable_ds": stage.checkpoint_every is None,
        "ckpt.load_enable": resume,
        "data.prompt_dataset": str(prompts),
        "data.input_key": "prompt",
        "data.label_key": "label",
        "data.max_len": sampling.max_prompt_tokens + sampling.max_new_tokens,
        "ds.attn_implementation": attention,
        "ds.param_dtype": "bf16",
        "ds.zero_stage": settings.zero_stage,
        "rollout.batch_size": stage.rollouts_per_step // stage.group_size,
        "rollout.n_samples_per_prompt": stage.group_size,
        "rollout.micro_batch_size": micro,
        "rollout.max_new_tokens": sampling.max_new_tokens,
        "rollout.temperature": sampling.temperature,
        "train.agent_func_path": str(agent),
        "train.batch_size": stage.rollouts_per_step,
        "train.micro_batch_size": micro,
        "train.seed": seed,
        "vllm.num_engines": settings.engines,
    }
    return {**found, **settings.flags}


def micro_batch(stage: OnlineStage) -> int:
    """Rows of one forward pass of an actor."""
    assert stage.openrlhf is not None
    return stage.micro_batch_size or stage.rollouts_per_step // stage.openrlhf.ranks


def command_line(flags: Mapping[str, Any]) -> list[str]:
    """Flags as arguments: True is a bare flag, False none; a list several values."""
    line: list[str] = []
    for name, value in flags.items():
        if value is False:
            continue
        line.append(f"--{name}")
        if value is not True:
            line += [_text(one) for one in (value if isinstance(value, list | tuple) else [value])]
    return line


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
