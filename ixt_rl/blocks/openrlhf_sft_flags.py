"""Every flag of OpenRLHF's `train_sft` 0.11.2: what sets it, that a run file may, or why not."""

from __future__ import annotations

from ixt_rl.blocks.openrlhf_flags import (
    ABOVE_ZERO,
    AT_LEAST_ONE,
    CHECKPOINTS,
    EXPERTS,
    GRADIENTS,
    SWITCH,
    TRACKERS,
    FlagTable,
)

_SET = {
    "adam.betas": "optim.betas",
    "adam.lr": "optim.lr",
    "adam.weight_decay": "optim.weight_decay",
    "ckpt.disable_ds": "checkpoint_every",
    "ckpt.load_enable": "the run itself, which goes on from its last checkpoint",
    "ckpt.output_dir": "the run itself",
    "ckpt.path": "the run itself",
    "ckpt.save_steps": "checkpoint_every",
    "data.dataset": "data",
    "data.max_len": "packing.capacity",
    "data.max_samples": "steps or epochs, and batch_size",
    "ds.attn_implementation": "model.attention",
    "ds.param_dtype": "model.dtype",
    "ds.zero_stage": "openrlhf.zero_stage",
    "lr_scheduler": "optim.schedule",
    "lr_warmup_ratio": "optim.warmup_steps",
    "max_norm": "optim.max_grad_norm",
    "min_lr_ratio": "optim.min_lr_ratio",
    "model.gradient_checkpointing_enable": "gradient_checkpointing",
    "model.model_name_or_path": "model.path, or the stage before",
    "optim": "optim.name",
    "train.batch_size": "batch_size",
    "train.max_epochs": "steps or epochs",
    "train.micro_batch_size": "micro_batch_size",
    "train.seed": "seeds",
}

_FREE = {
    "adam.eps": ABOVE_ZERO,
    "ds.adam_offload": SWITCH,
    "ds.experts_implementation": EXPERTS,
    "ds.grad_accum_dtype": GRADIENTS,
    "ds.overlap_comm": SWITCH,
    "ds.zpg": AT_LEAST_ONE,
    "model.gradient_checkpointing_reentrant": SWITCH,
    "train.full_determinism_enable": SWITCH,
}

_DATA = "rows and masks are made by the stage's feedback, template and packing"
_LORA = "what comes back is the whole model"
_SPLIT = "it would split or pack rows, and positions and masks are those of whole ones"
_EVALUATION = "the stage's own evaluation measures, before and after"
_MUON = "optim.name is adamw here"

_REFUSED = {
    **dict.fromkeys(("ckpt.max_mem", "ckpt.max_num", "ckpt.save_hf", "ds.use_universal_ckpt"), CHECKPOINTS),
    **dict.fromkeys(("data.apply_chat_template", "data.dataloader_num_workers", "data.dataset_probs"), _DATA),
    **dict.fromkeys(("data.dataset_split", "data.disable_fast_tokenizer", "data.input_key"), _DATA),
    **dict.fromkeys(("data.input_template", "data.multiturn", "data.output_key"), _DATA),
    **dict.fromkeys(("data.tokenizer_chat_template", "model.pretrain_mode_enable", "use_ms"), _DATA),
    **dict.fromkeys(("ds.deepcompile", "ds.tensor_parallel_size", "ds.use_liger_kernel"), _SPLIT),
    **dict.fromkeys(("ds.packing_samples", "ds.ring_attn_head_stride", "ds.ring_attn_size"), _SPLIT),
    **dict.fromkeys(("ds.load_in_4bit", "ds.lora.alpha", "ds.lora.dropout", "ds.lora.rank"), _LORA),
    "ds.lora.target_modules": _LORA,
    **dict.fromkeys(("eval.dataset", "eval.split", "eval.steps"), _EVALUATION),
    "local_rank": "the run starts its processes itself",
    **dict.fromkeys(("logger.logging_steps", "logger.tensorboard_dir", "logger.wandb.group"), TRACKERS),
    **dict.fromkeys(("logger.wandb.key", "logger.wandb.org", "logger.wandb.project"), TRACKERS),
    "logger.wandb.run_name": TRACKERS,
    "model.aux_loss_coef": "the loss is the mean over the trained tokens, and nothing beside it",
    **dict.fromkeys(("muon.lr", "muon.momentum", "muon.nesterov", "muon.no_nesterov", "muon.ns_steps"), _MUON),
}

TRAIN_SFT = FlagTable("train_sft", _SET, _FREE, _REFUSED)
