"""What is compared before the first update, so that a run on wrong numbers stops and says why.

    head      log-probs of the fused head                  = those of the model's own logits
    packing   documents packed, log-probs and gradient     = the same documents alone
    engine    log-probs as the engine samples              = as the trainer scores
    ends      rollouts stop, and replies are trained to end, where the one rule says; who says otherwise is named
    factor    the factor of a told pass, told what the plain prompt says = 1

The first two are in `forward_checks.py`.

A check is a function of the trainer. It returns what it measured, None where the trainer has nothing of the kind, and
raises `SelfCheckError` where it must. All ranks run the same checks in the same order, on the same made-up tokens. They
leave no trace: random states, gradients, modes, metrics and the ledger are afterwards what they were.

Shapes: B rows, T tokens, N scored tokens, D hidden.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from ixt_rl.conditioning import Ends, find_ends
from ixt_rl.errors import ConfigError, SelfCheckError
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.rollout.parity import PROBE_TOKENS
from ixt_rl.trainers.forward_checks import check_head, check_packing, made_up
from ixt_rl.trainers.resumable import generators_kept


class SelfChecks(TrainerCallback):
    """Runs the checks when training begins; `results` has what they measured, by name.

    Args:
        trainer: any trainer of this library; `args.self_checks` says which checks are left out, `{"head": False}`.

    Raises:
        ConfigError: `args.self_checks` names a check that there is not.
    """

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self.results: dict[str, float | str] = {}
        for name, wanted in getattr(trainer.args, "self_checks", {}).items():
            if name not in CHECKS or not isinstance(wanted, bool):
                raise ConfigError(
                    f"self_checks={trainer.args.self_checks}",
                    reason=f"it says of each check, {', '.join(CHECKS)}, whether it runs",
                    remedy="write {'head': False} to leave one out",
                )

    def on_train_begin(self, args, state, control, **kwargs):
        self.results = run_self_checks(self.trainer)


def run_self_checks(trainer: Any, names: Sequence[str] | None = None) -> dict[str, float | str]:
    """Runs every check that `trainer.args.self_checks` does not leave out, and returns what was measured, by name.

    Args:
        trainer: any trainer of this library.
        names: of the checks to run; None: those of the trainer's class.

    Raises:
        SelfCheckError: a check failed.
    """
    measured: dict[str, float | str] = {}
    for name in getattr(trainer, "checks", CHECKS) if names is None else names:
        check = CHECKS[name]
        if getattr(trainer.args, "self_checks", {}).get(name, True):
            with undisturbed(trainer):
                found = check(trainer)
            if found is not None:
                measured[name] = found
    return measured


@contextmanager
def undisturbed(trainer: Any) -> Iterator[None]:
    """Puts back, when the block ends: random states, modules' modes, metrics and the ledger's counts."""
    modes = {module: module.training for module in trainer.model.modules()}
    tables: list[dict[Any, Any]] = [*trainer._metrics.values()]
    tables += [getattr(trainer, "_sums", {}), getattr(getattr(trainer, "means", None), "_sums", {})]
    tables += [trainer.ledger.tokens] if hasattr(trainer, "ledger") else []
    counted = copy.deepcopy(tables)
    with generators_kept(trainer.accelerator.device):
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
            for table, saved in zip(tables, counted, strict=True):
                table.clear()
                table.update(saved)


# ----------------------------------------------------------------------------------------------- engine


def check_engine(trainer: Any) -> float | None:
    """Largest |log-prob difference| between the model as it samples and as the trainer scores, in nats.

    Engines outside the model are compared when they get its weights: `EngineRollouts.sync`.

    Raises:
        ParityError: it is above `EngineRollouts.parity_limit`.
    """
    rollouts = getattr(trainer, "rollouts", None)
    if rollouts is None or not rollouts.in_process:
        return None
    positions = getattr(trainer.model.config.get_text_config(), "max_position_embeddings", None)
    room = (positions or 1024) - min(PROBE_TOKENS, trainer.args.max_completion_length)
    prompts = [made_up(trainer.model, max(1, min(length, room)), seed) for seed, length in enumerate((24, 9, 5, 3))]
    return rollouts.compare([list(prompt.input_ids) for prompt in prompts], trainer)


# ------------------------------------------------------------------------------------------------- ends


def check_ends(trainer: Any) -> str | None:
    """What ends a turn, the rule that says so (see `conditioning.ends`), and who says otherwise; as text.

    Raises:
        SelfCheckError: rollouts do not stop there, or replies and documents are trained to end with something else.
    """
    rollouts, conditioner = (getattr(trainer, name, None) for name in ("rollouts", "conditioner"))
    if rollouts is None and conditioner is None:
        return None
    tokenizer = trainer.processing_class
    ends = find_ends(tokenizer, getattr(trainer.accelerator.unwrap_model(trainer.model), "generation_config", None))
    shown = ends.summary(tokenizer)
    wrong = ""
    if rollouts is not None and not {ends.turn, ends.document} <= {*trainer.eos_token_ids}:
        wrong = f"rollouts stop at {tokenizer.convert_ids_to_tokens(trainer.eos_token_ids)}"
    elif conditioner is not None and _ends_otherwise(conditioner, ends):
        named = conditioner.ends.summary(tokenizer)
        wrong = f"replies are trained to end with {named['turn']}, documents with {named['document']}"
    if wrong:
        raise SelfCheckError(
            f"self-check ends: {wrong}; a turn ends with {shown['turn']}, a document with {shown['document']}",
            reason=f"the {ends.rule} says so" + "".join(f"; {line}" for line in ends.disagreements),
            remedy="set the tokenizer's eos_token and the generation config's eos_token_id before the trainer is made; "
            "self_checks: {ends: false} trains nevertheless",
        )
    return "; ".join([f"{shown['turn']} ({ends.rule})", *ends.disagreements])


def _ends_otherwise(conditioner: Any, ends: Ends) -> bool:
    """Whether documents, or the replies of chats, end otherwise; transformers may have aligned configs meanwhile."""
    shown = conditioner.ends
    chat = conditioner.conditioning.chat and ends.rule == "chat template"
    return shown.document != ends.document or (chat and shown.reply != ends.reply)


# ----------------------------------------------------------------------------------------------- factor


def check_factor(trainer: Any) -> float | None:
    """A told pass: with the plain prompt for the told one, each factor must be exactly 1; returns 1.

    Both passes run as they do in training, dropout included; with a posterior that is the model without its adapters,
    neither has them: adapters that were trained before are a difference that is meant. A posterior that is a copy has
    moved away from the policy in a resumed run, where nothing is compared.
    """
    if not hasattr(trainer, "told"):
        return None
    if trainer.args.posterior != "live" and trainer.state.global_step:
        return None
    trainer.model.train()
    model = trainer.accelerator.unwrap_model(trainer.model)
    prompt, completion = (list(made_up(model, 9, seed).input_ids) for seed in (1, 2))
    kept = [(0, prompt, completion), (1, prompt[:5], completion[:4])]
    batch = trainer.policy_batch(kept)
    hidden, posterior_head = trainer.told.hidden(trainer.model, {"told_prompt_ids": [prompt, prompt[:5]]}, kept)

    def log_factor(own: Tensor, head: Head) -> Tensor:
        logp_N, _ = selected_logprobs(own, head, batch.target_ids)
        logq_N, _ = selected_logprobs(hidden, posterior_head or head, batch.target_ids)
        return logq_N - logp_N

    with torch.no_grad(), trainer.accelerator.autocast(), trainer.told.posterior.adapters_off():
        factor = float(trainer.model(**trainer.model_inputs(batch), head_fn=log_factor).abs().max().exp())
    if factor != 1.0:
        raise SelfCheckError(
            f"self-check factor: told nothing more than the plain prompt, the factor is {factor:.4g}, and not 1",
            reason="policy and posterior differ by more than the answer (dropout that draws other masks in the two "
            "passes, or other weights), which would go into every weight",
            remedy="leave disable_dropout on, set lora.dropout: 0; self_checks: {factor: false} trains nevertheless",
        )
    return factor


CHECKS: dict[str, Callable[[Any], float | str | None]] = {
    "head": check_head,
    "packing": check_packing,
    "engine": check_engine,
    "ends": check_ends,
    "factor": check_factor,
}
