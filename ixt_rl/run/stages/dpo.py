"""DPO stages: preference pairs of files, training, and margins of pairs that are held out."""

from __future__ import annotations

import time
from typing import Any

from ixt_rl.conditioning import Conditioner, Conditioning, PromptTemplate, find_ends, load_template
from ixt_rl.files import write_json
from ixt_rl.ledger import Ledger
from ixt_rl.methods.dpo import DpoStage
from ixt_rl.methods.registry import spec_of
from ixt_rl.models import load_tokenizer
from ixt_rl.run.best import best_model
from ixt_rl.run.callbacks import StageCallback
from ixt_rl.run.folder import LEDGER
from ixt_rl.run.stages.adapters import base_model, lora_config
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.preferences import MeasuredPairs, fitting_pairs
from ixt_rl.run.stages.spent import ledger_columns, spent_before
from ixt_rl.run.stages.train import ends_notes, save_model, share_of_batch, train, training_arguments
from ixt_rl.run.trainers import configured, trainer_class


def run(stage: DpoStage, at: StageRun) -> None:
    """DPO on preference pairs; writes the model, rows, margins of held-out pairs and the ledger."""
    started, folder = time.perf_counter(), at.folder
    tokenizer, template = load_tokenizer(at.origin, at.model), _template(stage)
    model = base_model(stage.lora, at)
    conditioner = _conditioner(stage, tokenizer, model, template)
    pairs = fitting_pairs(stage.data.pairs, conditioner, template)
    trainer_of = trainer_class(stage)
    args = configured(stage, trainer_of, **_options(stage, at, len(pairs.trained)))
    trainer = trainer_of(
        model,
        args,
        pairs.trained,
        tokenizer,
        conditioner=conditioner,
        peft_config=lora_config(stage.lora, model),
    )
    trainer.ledger = Ledger(trainer.ledger.size, before=spent_before(at.origin))
    measured = MeasuredPairs.of_stage(stage, trainer, folder, template)
    best = best_model(stage, folder, trainer, ranks=at.ranks)
    with at.console.stage(stage, at.seed, args.max_steps) as progress:
        callback = StageCallback(
            folder,
            progress,
            ledger=lambda: trainer.ledger.of_all(at.ranks.gathered),
            columns=ledger_columns,
            evaluate=None if measured is None else measured.evaluated,
            evaluate_every=stage.evaluation.every if stage.evaluation else 1,
            evaluate_at_start=stage.evaluation is not None and stage.evaluation.at_start,
            best=best,
        )
        train(trainer, callback, folder)
    save_model(trainer, tokenizer, folder, best)
    write_json(folder.path / LEDGER, trainer.ledger.of_all(at.ranks.gathered).totals())
    notes = [f"{len(pairs.trained)} preference pairs to train on", *(measured.notes if measured else pairs.left_out)]
    notes += [*ends_notes(trainer), *(best.notes() if best else ())]
    folder.write_result({"seconds": time.perf_counter() - started, "notes": notes, **(best.result() if best else {})})


def _template(stage: DpoStage) -> PromptTemplate | None:
    """How prompts are shown; None: as the user's message."""
    if stage.template is None:
        return None
    found = load_template(stage.template, "plain")
    assert isinstance(found, PromptTemplate)  # the block takes no other
    return found


def _conditioner(stage: DpoStage, tokenizer: Any, model: Any, template: PromptTemplate | None) -> Conditioner:
    own = {} if template is None else template.chat_template_kwargs
    conditioning = Conditioning(
        chat=stage.is_chat,
        train_turns="last",
        chat_template_kwargs={**own, **stage.chat_template_kwargs},
        max_reply_tokens=stage.data.pairs.max_reply_tokens,
    )
    if template is not None:
        template.check(tokenizer)
    return Conditioner(tokenizer, conditioning, ends=find_ends(tokenizer, model.generation_config))


def _options(stage: DpoStage, at: StageRun, pairs: int) -> dict[str, Any]:
    """`DPOConfig`'s; `pairs` that are trained."""
    share = share_of_batch(stage.batch_size, stage.micro_batch_size, at.launch.ranks)
    steps = stage.steps or -(-pairs * int(stage.epochs or 1) // stage.batch_size)
    return {
        **training_arguments(stage.optim, steps, at.seed or 0, at, stage.checkpoint_every),
        **share,
        "gradient_checkpointing": stage.gradient_checkpointing,
        **spec_of(stage).options(stage),
    }
