"""A stage of a run file as flags of OpenRLHF's `train_ppo_ray` or `train_sft`. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ixt_rl.blocks.openrlhf_flags import Flag
from ixt_rl.methods.documents import DocumentStage
from ixt_rl.methods.online import OnlineStage

Flags = dict[str, Flag | list[float]]

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine_with_min_lr"}


@dataclass(frozen=True)
class JobSettings:
    """What a job takes from its run, beside its stage.

    Args:
        model: folder or hub id of the model that it starts from.
        attention: of the run's `model` block.
        seed: of the run.
        checkpoints, model_out: folders of DeepSpeed's checkpoints and of the model that is made.
        resume: there is a checkpoint to go on from.
    """

    model: str
    attention: str
    seed: int
    checkpoints: Path
    model_out: Path
    resume: bool


def ppo_flags(stage: OnlineStage, job: JobSettings, prompts: Path, agent: Path) -> Flags:
    """Every flag of `train_ppo_ray` that the stage's keys set, and those of `openrlhf.flags`, without the dashes.

    Args:
        stage: with its number of updates.
        job: see `JobSettings`.
        prompts: file of `{"prompt": ..., "label": ...}`, one for each group of all updates, in their order.
        agent: file with the class `AgentExecutor`.
    """
    settings, sampling = stage.openrlhf, stage.sampling
    assert settings is not None and stage.steps is not None
    micro = micro_batch_rows(stage.rollouts_per_step, stage.micro_batch_size, settings.ranks)
    return {
        **_shared(stage, job, stage.steps, "actor."),
        "actor.gradient_checkpointing_enable": stage.gradient_checkpointing,
        "actor.model_name_or_path": job.model,
        "actor.num_nodes": settings.nodes,
        "actor.num_gpus_per_node": settings.actors,
        "algo.advantage.estimator": "reinforce",  # any without a critic: advantages are the method's
        "algo.advantage.is_correction_level": "off" if settings.correction is None else "token",  # gives log-probs
        "algo.kl.init_coef": 0.0,
        "data.prompt_dataset": str(prompts),
        "data.input_key": "prompt",
        "data.label_key": "label",
        "data.max_len": sampling.max_prompt_tokens + sampling.max_new_tokens,
        "rollout.batch_size": stage.rollouts_per_step // stage.group_size,
        "rollout.n_samples_per_prompt": stage.group_size,
        "rollout.micro_batch_size": micro,
        "rollout.max_new_tokens": sampling.max_new_tokens,
        "rollout.temperature": sampling.temperature,
        "train.agent_func_path": str(agent),
        "train.batch_size": stage.rollouts_per_step,
        "train.micro_batch_size": micro,
        "vllm.num_engines": settings.engines,
        **settings.flags,
    }


def sft_flags(stage: DocumentStage, job: JobSettings, steps: int, rows: Path) -> Flags:
    """Every flag of `train_sft` that the stage's keys set, and those of `openrlhf.flags`, without the dashes.

    Args:
        stage: on documents.
        job: see `JobSettings`.
        steps: its updates.
        rows: folder of the rows of all updates (`token_files`).
    """
    settings = stage.openrlhf
    assert settings is not None
    return {
        **_shared(stage, job, steps, ""),
        "data.dataset": str(rows),
        "data.max_len": stage.packing.capacity,
        "data.max_samples": steps * stage.batch_size,  # else it takes the first million rows
        "model.gradient_checkpointing_enable": stage.gradient_checkpointing,
        "model.model_name_or_path": job.model,
        "train.batch_size": stage.batch_size,
        "train.max_epochs": 1,  # the rows are those of all updates
        "train.micro_batch_size": micro_batch_rows(stage.batch_size, stage.micro_batch_size, settings.ranks),
        **settings.flags,
    }


def _shared(stage: OnlineStage | DocumentStage, job: JobSettings, steps: int, section: str) -> Flags:
    """Optimizer, checkpoints, model: what both programs have; `section`: before names of the optimizer's flags."""
    settings, optim = stage.openrlhf, stage.optim
    assert settings is not None
    return {
        f"{section}optim": "adam",
        f"{section}adam.lr": optim.lr,
        f"{section}adam.betas": list(optim.betas),
        f"{section}adam.weight_decay": optim.weight_decay,
        f"{section}lr_scheduler": _SCHEDULES[optim.schedule],
        f"{section}lr_warmup_ratio": max(0.0, optim.warmup_steps - 0.5) / steps,  # it takes ceil(steps x ratio)
        f"{section}min_lr_ratio": optim.min_lr_ratio,
        f"{section}max_norm": optim.max_grad_norm,
        "ckpt.path": str(job.checkpoints),
        "ckpt.output_dir": str(job.model_out),
        "ckpt.save_steps": -1 if stage.checkpoint_every is None else stage.checkpoint_every,
        "ckpt.disable_ds": stage.checkpoint_every is None,
        "ckpt.load_enable": job.resume,
        "ds.attn_implementation": job.attention,
        "ds.param_dtype": "bf16",
        "ds.zero_stage": settings.zero_stage,
        "train.seed": job.seed,
    }


def micro_batch_rows(rows: int, micro_batch: int | None, ranks: int) -> int:
    """Rows of one forward pass of a rank, of an update of `rows` on all of them."""
    return micro_batch or rows // ranks


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
