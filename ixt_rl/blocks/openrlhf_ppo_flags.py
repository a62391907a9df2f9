"""Every flag of OpenRLHF's `train_ppo_ray` 0.11.2: what sets it, that a run file may, or why not."""

from __future__ import annotations

from ixt_rl.blocks.openrlhf_flags import (
    ABOVE_ZERO,
    AT_LEAST_ONE,
    CHECKPOINTS,
    EXPERTS,
    GRADIENTS,
    SHARE,
    SWITCH,
    TRACKERS,
    FlagTable,
    Takes,
)

_SET = {
    "actor.adam.betas": "optim.betas",
    "actor.adam.lr": "optim.lr",
    "actor.adam.weight_decay": "optim.weight_decay",
    "actor.gradient_checkpointing_enable": "gradient_checkpointing",
    "actor.lr_scheduler": "optim.schedule",
    "actor.lr_warmup_ratio": "optim.warmup_steps",
    "actor.max_norm": "optim.max_grad_norm",
    "actor.min_lr_ratio": "optim.min_lr_ratio",
    "actor.model_name_or_path": "model.path, or the stage before",
    "actor.num_gpus_per_node": "openrlhf.actors",
    "actor.num_nodes": "openrlhf.nodes",
    "actor.optim": "optim.name",
    "algo.advantage.estimator": "type",
    "algo.advantage.is_correction_level": "openrlhf.correction",
    "algo.kl.init_coef": "type",
    "ckpt.disable_ds": "checkpoint_every",
    "ckpt.load_enable": "the run itself, which goes on from its last checkpoint",
    "ckpt.output_dir": "the run itself",
    "ckpt.path": "the run itself",
    "ckpt.save_steps": "checkpoint_every",
    "data.input_key": "data",
    "data.label_key": "data",
    "data.max_len": "sampling.max_prompt_tokens and max_new_tokens",
    "data.prompt_dataset": "data",
    "ds.attn_implementation": "model.attention",
    "ds.param_dtype": "model.dtype",
    "ds.zero_stage": "openrlhf.zero_stage",
    "rollout.batch_size": "rollouts_per_step and group_size",
    "rollout.max_new_tokens": "sampling.max_new_tokens",
    "rollout.micro_batch_size": "micro_batch_size",
    "rollout.n_samples_per_prompt": "group_size",
    "rollout.temperature": "sampling.temperature",
    "train.agent_func_path": "rewards",
    "train.batch_size": "rollouts_per_step",
    "train.micro_batch_size": "micro_batch_size",
    "train.seed": "seeds",
    "vllm.num_engines": "openrlhf.engines",
}

_FREE = {
    "actor.adam.eps": ABOVE_ZERO,
    "actor.gradient_checkpointing_reentrant": SWITCH,
    "ds.adam_offload": SWITCH,
    "ds.experts_implementation": EXPERTS,
    "ds.grad_accum_dtype": GRADIENTS,
    "ds.overlap_comm": SWITCH,
    "ds.zpg": AT_LEAST_ONE,
    "vllm.enable_prefix_caching": SWITCH,
    "vllm.enforce_eager": SWITCH,
    "vllm.gpu_memory_utilization": SHARE,
    "vllm.sync_backend": Takes.one_of("nccl", "gloo"),
    "vllm.sync_with_ray": SWITCH,
    "vllm.tensor_parallel_size": AT_LEAST_ONE,
}

_LOSS = "the stage's method has its own loss, and would not read it"
_ADVANTAGE = "the stage's method forms its own advantages, and would not read it"
_CRITIC = "the methods have no critic"
_REWARD = "rewards are those of the stage, without a reward model"
_DATA = "prompts are rendered before, by the stage's template"
_ASYNC = "every rollout is of the policy that it trains, as the stage says"
_EVALUATION = "the stage's own evaluation measures, before and after"
_LORA = "its LoRA names weights that its vLLM engines do not know"
_SPLIT = "the loss takes whole rows with their hidden states, which this would split or pack"
_MEMORY = "policy and engines have devices of their own"

_REFUSED = {
    **dict.fromkeys(("actor.aux_loss_coef", "actor.dual_clip", "actor.entropy_coef", "actor.eps_clip"), _LOSS),
    **dict.fromkeys(("actor.eps_clip_low_high", "actor.loss_agg_mode", "actor.policy_loss_type"), _LOSS),
    **dict.fromkeys(("actor.muon.lr", "actor.muon.momentum", "actor.muon.nesterov"), "optim.name is adamw here"),
    **dict.fromkeys(("actor.muon.no_nesterov", "actor.muon.ns_steps"), "optim.name is adamw here"),
    **dict.fromkeys(("algo.advantage.gamma", "algo.advantage.lambd", "algo.advantage.no_std_norm"), _ADVANTAGE),
    **dict.fromkeys(
        [f"algo.advantage.is_correction_{part}" for part in ("gating", "mode", "threshold")],
        "openrlhf.correction is its own",
    ),
    **dict.fromkeys(("algo.dynamic_filtering_enable", "algo.dynamic_filtering_range"), _ADVANTAGE),
    **dict.fromkeys(("algo.kl.estimator", "algo.kl.horizon", "algo.kl.target"), _LOSS),
    **dict.fromkeys(("algo.kl.unbiased_gradient", "algo.kl.use_loss"), _LOSS),
    **dict.fromkeys(("ckpt.best_metric_key", "ckpt.max_mem", "ckpt.max_num", "ckpt.save_hf"), CHECKPOINTS),
    **dict.fromkeys(("critic.freezing_steps", "critic.model_name_or_path", "critic.num_gpus_per_node"), _CRITIC),
    **dict.fromkeys(("critic.num_nodes", "critic.save_value_network", "critic.value_clip", "critic.optim"), _CRITIC),
    **dict.fromkeys(("critic.adam.betas", "critic.adam.eps", "critic.adam.lr", "critic.adam.weight_decay"), _CRITIC),
    **dict.fromkeys(("critic.lr_scheduler", "critic.lr_warmup_ratio", "critic.max_norm"), _CRITIC),
    **dict.fromkeys(("critic.min_lr_ratio", "critic.muon.lr", "critic.muon.momentum"), _CRITIC),
    **dict.fromkeys(("critic.muon.nesterov", "critic.muon.no_nesterov", "critic.muon.ns_steps"), _CRITIC),
    **dict.fromkeys(("data.apply_chat_template", "data.dataloader_num_workers", "data.disable_fast_tokenizer"), _DATA),
    **dict.fromkeys(("data.image_key", "data.input_template", "data.max_images_per_prompt", "data.max_samples"), _DATA),
    **dict.fromkeys(("data.prompt_probs", "data.prompt_split", "actor.freeze_visual_encoder", "use_ms"), _DATA),
    **dict.fromkeys(("ds.enable_sleep", "vllm.enable_sleep", "train.colocate_all"), _MEMORY),
    **dict.fromkeys(("train.colocate_actor_ref", "train.colocate_critic_reward"), _MEMORY),
    **dict.fromkeys(("ds.load_in_4bit", "ds.lora.alpha", "ds.lora.dropout", "ds.lora.rank"), _LORA),
    **dict.fromkeys(("ds.lora.target_modules",), _LORA),
    **dict.fromkeys(("ds.packing_samples", "ds.ring_attn_head_stride", "ds.ring_attn_size"), _SPLIT),
    **dict.fromkeys(("ds.tensor_parallel_size", "ds.use_liger_kernel", "ds.deepcompile"), _SPLIT),
    **dict.fromkeys(("rollout.max_tokens_per_gpu", "train.dynamic_batch_enable", "train.max_tokens_per_gpu"), _SPLIT),
    "ds.use_universal_ckpt": CHECKPOINTS,
    "ds.value_head_prefix": _CRITIC,
    **dict.fromkeys(("eval.dataset", "eval.n_samples_per_prompt", "eval.split", "eval.steps"), _EVALUATION),
    "eval.temperature": _EVALUATION,
    "local_rank": "OpenRLHF's actors set it themselves",
    **dict.fromkeys(("logger.logging_steps", "logger.tensorboard_dir", "logger.wandb.group"), TRACKERS),
    **dict.fromkeys(("logger.wandb.key", "logger.wandb.org", "logger.wandb.project"), TRACKERS),
    "logger.wandb.run_name": TRACKERS,
    **dict.fromkeys(
        ("ref.num_gpus_per_node", "ref.num_nodes", "ref.offload"), "there is no reference model of its own"
    ),
    **dict.fromkeys(("reward.clip_range", "reward.model_name_or_path", "reward.normalize_enable"), _REWARD),
    **dict.fromkeys(("reward.num_gpus_per_node", "reward.num_nodes", "reward.offload"), _REWARD),
    **dict.fromkeys(("reward.overlong_buffer_len", "reward.overlong_penalty_factor", "reward.remote_url"), _REWARD),
    "reward.stop_properly_penalty_coef": _REWARD,
    "rollout.top_p": "truncated sampling would bias every ratio",
    "rollout.vllm_generate_batch_size": _ASYNC,
    **dict.fromkeys(("train.async_enable", "train.async_queue_size", "train.partial_rollout_enable"), _ASYNC),
    **dict.fromkeys(("train.ema_beta", "train.enable_ema"), "the model that is handed on is the policy"),
    "train.full_determinism_enable": "rollouts are drawn by several engines at once, whose order nobody fixes",
    **dict.fromkeys(("train.max_epochs", "train.num_episodes"), "steps or epochs say how long a stage trains"),
}

TRAIN_PPO_RAY = FlagTable("train_ppo_ray", _SET, _FREE, _REFUSED)
