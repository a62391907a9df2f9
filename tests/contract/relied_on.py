"""Private (and overridden public) parts of TRL 1.16 and transformers 5.15 that this library is written against.

A part stands with the class that defines it: where a new version has a class of TRL's define what it inherited before,
our `super()` reaches another function. docs/versions.md says how to go to a new version.
"""

from __future__ import annotations

TESTED = ("1.16", "1.17")
"""TRL from the first, below the second."""

SAMPLED = "(self, inputs, prompts, completions, completion_ids_list)"
LOG = "(self, logs, start_time=None)"
EVALUATE = "(self, eval_dataset=None, ignore_keys=None, metric_key_prefix='eval')"
ROLLOUT_LOGPS = "(self, prompt_ids, prompt_mask, completion_ids, completion_mask)"
FORWARD = "(self, model, input_ids, attention_mask, logits_to_keep)"
DISTILLED = "(self, model, inputs, distillation_logits)"

OVERRIDDEN = {
    "DemonstrationTeacherContextBuilder._compose_teacher_prompt": "(self, prompt, privileged_context)",
    "DPOTrainer.__init__": (
        "(self, model, ref_model=None, args=None, data_collator=None, train_dataset=None, eval_dataset=None, "
        "processing_class=None, compute_metrics=None, callbacks=None, optimizers=(None, None), "
        "quantization_config=None, peft_config=None)"
    ),
    "DPOTrainer._prepare_dataset": "(self, dataset, processing_class, args, dataset_name)",
    "DPOTrainer._save_checkpoint": "(self, model, trial)",
    "DPOTrainer.compute_loss": "(self, model, inputs, return_outputs=False, num_items_in_batch=None)",
    "DPOTrainer.evaluate": EVALUATE,
    "DPOTrainer.log": LOG,
    "GRPOTrainer.__init__": (
        "(self, model, reward_funcs=None, args=None, train_dataset=None, eval_dataset=None, processing_class=None, "
        "reward_processing_classes=None, callbacks=None, optimizers=(None, None), quantization_config=None, "
        "peft_config=None, tools=None, rollout_func=None, environment_factory=None)"
    ),
    "GRPOTrainer._calculate_rewards": SAMPLED,
    "GRPOTrainer._compute_loss": "(self, model, inputs)",
    "GRPOTrainer._generate": "(self, prompts)",
    "GRPOTrainer._generate_and_score_completions": "(self, inputs)",
    "GRPOTrainer._get_per_token_logps_and_entropies": (
        "(self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, "
        "compute_aux_loss=False, pixel_values=None, image_grid_thw=None, num_images=None, pixel_attention_mask=None, "
        "spatial_shapes=None, num_tiles=None, image_sizes=None, token_type_ids=None, mm_token_type_ids=None, "
        "image_position_ids=None)"
    ),
    "GRPOTrainer._get_train_sampler": "(self, dataset=None)",
    "GRPOTrainer._load_optimizer_and_scheduler": "(self, checkpoint)",
    "GRPOTrainer._prepare_inputs": "(self, generation_batch)",
    "GRPOTrainer._save_checkpoint": "(self, model, trial)",
    "GRPOTrainer.log": LOG,
    "GRPOTrainer.training_step": "(self, model, inputs, num_items_in_batch)",
    "SDFTTrainer.__init__": (
        "(self, model, args=None, train_dataset=None, eval_dataset=None, processing_class=None, callbacks=None, "
        "optimizers=(None, None), peft_config=None)"
    ),
    "SDFTTrainer._compute_rollout_logps": ROLLOUT_LOGPS,
    "SDFTTrainer._compute_self_distillation_loss": DISTILLED,
    "SDFTTrainer._forward_logits": FORWARD,
    "SDFTTrainer._generate": "(self, prompt_ids)",
    "SDFTTrainer._get_train_sampler": "(self, dataset=None)",
    "SDFTTrainer._prepare_training_batch": "(self, inputs)",
    "SDFTTrainer._tokenize_prompts": "(self, prompts)",
    "SDFTTrainer.log": LOG,
    "SDPOTrainer.__init__": (
        "(self, model, reward_funcs=None, args=None, train_dataset=None, eval_dataset=None, processing_class=None, "
        "reward_processing_classes=None, callbacks=None, optimizers=(None, None), peft_config=None)"
    ),
    "SDPOTrainer._calculate_rewards": SAMPLED,
    "SDPOTrainer._compute_rollout_logps": ROLLOUT_LOGPS,
    "SDPOTrainer._compute_self_distillation_loss": DISTILLED,
    "SDPOTrainer._forward_logits": FORWARD,
    "SDPOTrainer._generate": "(self, prompt_ids)",
    "SDPOTrainer._get_train_sampler": "(self, dataset=None)",
    "SDPOTrainer._prepare_training_batch": "(self, inputs)",
    "SDPOTrainer._record_reward_diagnostics": "(self, mode, rewards, rewards_per_func, group_std_rewards)",
    "SDPOTrainer._tokenize_prompts": "(self, prompts)",
    "SDPOTrainer._tokenize_prompts_untruncated": "(self, prompts)",
    "SDPOTrainer.log": LOG,
    "SFTTrainer.__init__": (
        "(self, model, args=None, data_collator=None, train_dataset=None, eval_dataset=None, processing_class=None, "
        "compute_loss_func=None, compute_metrics=None, callbacks=None, optimizers=(None, None), "
        "optimizer_cls_and_kwargs=None, preprocess_logits_for_metrics=None, quantization_config=None, "
        "peft_config=None, formatting_func=None)"
    ),
    "SFTTrainer._save_checkpoint": "(self, model, trial)",
    "SFTTrainer.compute_loss": "(self, model, inputs, return_outputs=False, num_items_in_batch=None)",
    "SFTTrainer.evaluate": EVALUATE,
    "SFTTrainer.log": LOG,
    "SFTTrainer.training_step": "(self, *args, **kwargs)",
    "Trainer._evaluate": "(self, trial, ignore_keys_for_eval, skip_scheduler=False)",
    "Trainer._load_optimizer_and_scheduler": "(self, checkpoint)",
    "Trainer._save_checkpoint": "(self, model, trial)",
    "Trainer.create_accelerator_and_postprocess": "(self)",
    "Trainer.evaluate": EVALUATE,
    "Trainer.evaluation_loop": (
        "(self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix='eval')"
    ),
    "Trainer.get_batch_samples": "(self, epoch_iterator, num_batches, device)",
    "Trainer.train": "(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None)",
}
"""Class.method -> parameters, where a class of ours defines the method anew."""

CALLED = {
    "SDFTTrainer._get_completion_ids_list": "(self, batch)",
    "SDFTTrainer._log_self_distillation_metric": "(self, mode, value)",
    "SDPOTrainer._get_completion_ids_list": "(self, batch)",
    "SDPOTrainer._log_self_distillation_metric": "(self, mode, value)",
    "Trainer._get_output_dir": "(self, trial)",
    "Trainer._load_from_checkpoint": "(self, resume_from_checkpoint, model=None)",
    "Trainer._load_rng_state": "(self, checkpoint)",
}
"""Private methods that are only called."""

RETURNED = {
    "GRPOTrainer._generate": 8,
    "GRPOTrainer._get_per_token_logps_and_entropies": 3,
    "Trainer.get_batch_samples": 2,
}
"""How many values a method returns whose result is taken apart, or made here."""

SAMPLERS = {"GRPOTrainer", "SDFTTrainer", "SDPOTrainer"}

ATTRIBUTES = {
    "_buffered_inputs": SAMPLERS,
    "_dist": {"GRPOTrainer"},
    "_globalstep_last_logged": {"Trainer"},
    "_is_vlm": {"DPOTrainer", "GRPOTrainer", "SFTTrainer"},
    "_logs": {"GRPOTrainer"},
    "_metrics": {*SAMPLERS, "DPOTrainer", "SFTTrainer"},
    "_pending_extra_logs": {"GRPOTrainer"},
    "_step": SAMPLERS,
    "_total_loss_scalar": {"Trainer"},
    "_total_train_tokens": {"DPOTrainer", "GRPOTrainer", "SFTTrainer"},
    "_tr_loss": {"Trainer"},
}
"""Private attributes that are read or set -> the classes that set them."""

NEWER = {"_initial_global_step": {"Trainer"}}
"""Those that only newer versions of transformers have."""
