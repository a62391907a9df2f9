"""What is compared before the first update, so that a run on wrong numbers stops and says why.

    head      log-probs of the fused head                  = those of the model's own logits
    packing   documents packed, log-probs and gradient     = the same documents alone
    engine    log-probs as the engine samples              = as the trainer scores
    ends      rollouts stop, and replies are trained to end, where the one rule says; who says otherwise is named
    factor    InTRO's factor, told what the plain prompt says = 1

A check is a function of the trainer. It returns what it measured, None where the trainer has nothing of the kind, and
raises `SelfCheckError` where it must. All ranks run the same checks in the same order, on the same made-up tokens. They
leave no trace: random states, gradients, modes, metrics and the ledger are afterwards what they were.

Shapes: B rows, T tokens, N scored tokens, D hidden.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback

from ixt_rl.conditioning import Batch, Ends, find_ends, pack, pad, prompt_completion
from ixt_rl.errors import ConfigError, SelfCheckError
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.rollout.parity import PROBE_TOKENS
from ixt_rl.trainers.head import masks_for_backbone, plain_model
from ixt_rl.trainers.resumable import generators_kept
from ixt_rl.types import TokenSequence

LONGEST_WINDOW = 1100
"""Windows and chunks up to this many tokens are exceeded by a document of the packing check; longer ones would make it
slow, and are masked by the same code."""


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


def run_self_checks(trainer: Any) -> dict[str, float | str]:
    """Runs every check that `trainer.args.self_checks` does not leave out, and returns what was measured, by name.

    Raises:
        SelfCheckError: a check failed.
    """
    measured: dict[str, float | str] = {}
    for name, check in CHECKS.items():
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


# ------------------------------------------------------------------------------------------------- head


def check_head(trainer: Any) -> float:
    """Largest |log-prob difference| between the trainer's head and the model's own logits, in nats."""
    trainer.model.eval()
    ours = "head_fn" if getattr(trainer, "scores_by_head_fn", False) else "fused"
    temperature = getattr(trainer, "temperature", 1.0) if ours == "head_fn" else 1.0
    with _precisely(trainer):
        difference, limit = head_difference(trainer.model, ours, temperature)
    if not difference <= limit:
        raise SelfCheckError(
            f"self-check head: log-probs of {_name(trainer)} differ by {difference:.2g} between padded rows under the "
            f"fused head and the model's own logits, limit {limit:g}",
            reason="its architecture does something to hidden states, logits or padding that the fused head does not "
            "know, so that another model would be trained than the one that is loaded",
            remedy="use another architecture, and please report this one; self_checks: {head: false} skips the check",
        )
    return difference


@torch.no_grad()
def head_difference(model: Any, ours: str, temperature: float = 1.0) -> tuple[float, float]:
    """(largest |log-prob difference|, what rounding explains) of made-up tokens: of two documents, padded, by a fused
    head, and of each alone by `model().logits`.

    Args:
        model: with `add_head_function` or TRL's `add_fused_lm_head`.
        ours: which of the two to compare: `head_fn` or `fused`.
        temperature: of the `head_fn`.

    Raises:
        SelfCheckError: the forward pass that trains fails on this model.
    """
    documents = [_document(model, length, seed=length) for length in (12, 7)]
    batch = pad(documents, 0).to(_device(model))
    inputs = batch.model_inputs()
    try:
        if ours == "head_fn":
            logp_N = model(
                **inputs,
                predictor_mask=batch.predictor_mask,
                head_fn=lambda hidden, head: selected_logprobs(hidden, head, batch.target_ids)[0],
            )
        else:
            logp_N = _fused(model, inputs, batch)
    except (torch.OutOfMemoryError, ConfigError):
        raise
    except Exception as error:  # whatever an architecture trips over
        raise _forward_failed(model, error) from error
    own = []
    for document in documents:
        ids = torch.tensor([document.input_ids], device=_device(model))
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, :-1]
        logp = (logits.float() / temperature).log_softmax(-1)
        own.append(logp.gather(1, ids[0, 1:, None].to(logits.device))[:, 0])
    own_N = torch.cat(own)
    return float((logp_N.to(own_N.device) - own_N).abs().max()), _rounding(logits)


# ---------------------------------------------------------------------------------------------- packing


def check_packing(trainer: Any) -> float | None:
    """Largest |log-prob difference| of documents packed and alone, in nats; the gradients are compared as well."""
    if not getattr(trainer.args, "pack", False):
        return None
    trainer.model.eval()
    sharded = trainer.is_fsdp_enabled or _is_zero3(trainer)
    with _precisely(trainer):
        logps, gradients, limit = packing_difference(
            trainer.model, trainer.packed_inputs, trainer.args.max_length, gradient=not sharded
        )
    for what, difference in (("log-probs", logps), ("gradients", gradients)):
        if not difference <= limit:
            raise SelfCheckError(
                f"self-check packing: {what} of {_name(trainer)} differ by {difference:.2g} between packed documents "
                f"and the same ones alone, limit {limit:g}",
                reason="documents of a row see each other: recurrent and convolution layers, and attention that "
                "makes no mask from positions, do not keep them apart",
                remedy="set pack: false (packing.packed in a run file)",
            )
    return logps


def packing_difference(
    model: Any, packed_inputs: Callable[[Batch], tuple[dict[str, Any], Batch]], capacity: int, gradient: bool = True
) -> tuple[float, float, float]:
    """How far made-up documents are apart, packed and alone: (largest |log-prob difference|, largest difference of
    gradients over the largest gradient, what rounding explains). Gradients are those by the embedded tokens.

    Args:
        model: with TRL's `add_fused_lm_head`.
        packed_inputs: a packed batch -> what the forward pass that trains is called with, and the batch it stands for.
        capacity: tokens of a row.
        gradient: False: compare log-probs alone, and return 0 for gradients.

    Raises:
        SelfCheckError: the forward pass that trains fails on this model.
    """
    lengths = _document_lengths(model.config.get_text_config(), capacity)
    documents = [_document(model, length, seed) for seed, length in enumerate(lengths)]
    packed = pack(documents, 0, lengths[0] + lengths[1])  # two in a row; the third in one with padding
    try:
        alone = [_scored(model, pad([one], 0), _own_inputs, gradient) for one in documents]
        found = _scored(model, packed, packed_inputs, gradient)
    except (torch.OutOfMemoryError, ConfigError):
        raise
    except Exception as error:  # whatever an architecture trips over
        raise _forward_failed(model, error, packed=True) from error
    logps, gradients = (torch.cat(parts) for parts in zip(*alone, strict=True))
    scale = gradients.abs().max().clamp(min=1e-12) if gradient else 1.0
    return (
        float((found[0] - logps).abs().max()),
        float((found[1] - gradients).abs().max() / scale) if gradient else 0.0,
        _rounding(next(model.parameters())),
    )


def _scored(model: Any, batch: Batch, inputs_of: Any, gradient: bool) -> tuple[Tensor, Tensor]:
    """(N,) log-probs of a batch's tokens and [tokens, D] gradients of their sum by the embedded tokens."""
    inputs, batch = inputs_of(batch.to(_device(model)))
    embedded: list[Tensor] = []

    def detach(module: Any, args: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1].clone()  # some models write into it

    if not gradient:
        with torch.no_grad():
            return _fused(model, inputs, batch), torch.zeros(0)
    hook = model.get_input_embeddings().register_forward_hook(detach)
    try:
        with torch.enable_grad():
            logp_N = _fused(model, inputs, batch)
    finally:
        hook.remove()
    (by_token,) = torch.autograd.grad(logp_N.sum(), embedded[0])
    return logp_N.detach(), by_token[batch.attention_mask.bool()]


def _own_inputs(batch: Batch) -> tuple[dict[str, Any], Batch]:
    """What anyone calls the model with, for one document."""
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}, batch


def _document_lengths(config: Any, capacity: int) -> list[int]:
    """Tokens of three documents, falling; the first is longer than the model's window, where rows can hold that."""
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    longest = max([w + 5 for w in windows if isinstance(w, int) and w <= LONGEST_WINDOW], default=0)
    first = max(4, min(max(longest, 23), capacity * 2 // 3))  # the second begins amid a chunk or block of 8, 16, ...
    return [first, max(3, min(9, first - 1)), 3]


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
    prompts = [_document(trainer.model, max(1, min(length, room)), seed) for seed, length in enumerate((24, 9, 5, 3))]
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
    """InTRO: with the plain prompt for the told one, each factor must be exactly 1; returns 1.

    Both passes run as they do in training, dropout included; with a posterior that is the model without its adapters,
    neither has them: adapters that were trained before are a difference that is meant. A posterior that is a copy has
    moved away from the policy in a resumed run, where nothing is compared.
    """
    if not hasattr(trainer, "posterior"):
        return None
    if trainer.args.posterior != "live" and trainer.state.global_step:
        return None
    trainer.model.train()
    model = trainer.accelerator.unwrap_model(trainer.model)
    prompt, completion = (list(_document(model, 9, seed).input_ids) for seed in (1, 2))
    kept = [(0, prompt, completion), (1, prompt[:5], completion[:4])]
    batch = trainer.policy_batch(kept)
    hidden, posterior_head = trainer._posterior_pass(trainer.model, {"told_prompt_ids": [prompt, prompt[:5]]}, kept)

    def log_factor(own: Tensor, head: Head) -> Tensor:
        logp_N, _ = selected_logprobs(own, head, batch.target_ids)
        logq_N, _ = selected_logprobs(hidden, posterior_head or head, batch.target_ids)
        return logq_N - logp_N

    with torch.no_grad(), trainer.accelerator.autocast(), trainer.posterior.adapters_off():
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

# ---------------------------------------------------------------------------------------------- helpers


def _fused(model: Any, inputs: dict[str, Any], batch: Batch) -> Tensor:
    """(N,) log-probs of a batch's loss-bearing tokens by TRL's fused head."""
    labels = batch.input_ids.masked_fill(~batch.loss_mask, -100)
    with masks_for_backbone(
        model.get_base_model() if hasattr(model, "get_base_model") else model, batch, inputs
    ) as given:
        outputs = model(**{**given, "use_cache": False}, labels=labels, fused_lm_head=True)
    return outputs.log_probs[outputs.label_mask]


def _document(model: Any, length: int, seed: int) -> TokenSequence:
    """A made-up document of ids that mean nothing special; every token but the first is scored."""
    config = model.config.get_text_config()
    special = {value for name, value in vars(config).items() if name.endswith("token_id") and isinstance(value, int)}
    plain = [token for token in range(min(config.vocab_size, 512)) if token not in special]
    drawn = np.random.default_rng(seed).integers(0, len(plain), length)
    return prompt_completion([], [plain[index] for index in drawn])


@contextmanager
def _precisely(trainer: Any) -> Iterator[None]:
    """Float32 weights compute in float32, where faults stand out from rounding; flash attention cannot."""
    flash = str(trainer.model.config._attn_implementation).startswith("flash")
    with trainer.accelerator.autocast() if flash else nullcontext():
        yield


def _rounding(x: Tensor) -> float:
    """Largest |log-prob difference| that rounding explains, for tensors like `x`."""
    if x.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled(x.device.type):
        return 0.5
    return 2e-2 if x.is_cuda and torch.backends.cuda.matmul.allow_tf32 else 1e-3


def _forward_failed(model: Any, error: Exception, packed: bool = False) -> SelfCheckError:
    return SelfCheckError(
        f"self-check {'packing' if packed else 'head'}: the forward pass that trains fails on {type(model).__name__}",
        reason=f"{type(error).__name__}: {error}",
        remedy="set pack: false (packing.packed in a run file)" if packed else "use another architecture",
    )


def _name(trainer: Any) -> str:
    return type(plain_model(trainer)).__name__


def _device(model: Any) -> torch.device:
    return next(model.parameters()).device


def _is_zero3(trainer: Any) -> bool:
    return trainer.is_deepspeed_enabled and trainer.accelerator.state.deepspeed_plugin.zero_stage == 3
