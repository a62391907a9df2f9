"""Self-checks of the forward pass that trains: its head, and packed documents, on made-up tokens.

Shapes: B rows, T tokens, N scored tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ixt_rl.conditioning import Batch, pack, pad, prompt_completion
from ixt_rl.errors import ConfigError, SelfCheckError
from ixt_rl.kernels.head import product_dtype
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.trainers.head import add_head_function, backbone, masks_for_backbone, plain_model
from ixt_rl.trainers.reference_policy import is_zero3
from ixt_rl.trainers.row_attention import row_attention
from ixt_rl.types import TokenSequence

LONGEST_WINDOW = 1100
"""Windows and chunks up to this many tokens are exceeded by a document of the packing check; longer ones would make it
slow, and are masked by the same code."""


# ------------------------------------------------------------------------------------------------- head


def check_head(trainer: Any) -> float:
    """Largest |log-prob difference| between the trainer's head and the model's own logits, in nats."""
    trainer.model.eval()
    with _precisely(trainer):
        found = head_difference(trainer.model, getattr(trainer, "temperature", 1.0))
    return _the_same(_name(trainer), *found)


def check_plain_head(model: Any, temperature: float) -> float:
    """`check_head` of a model that another project trains by `add_head_function`, which it is given here."""
    add_head_function(model, temperature)
    return _the_same(type(model).__name__, *head_difference(model, temperature))


def _the_same(name: str, difference: float, limit: float) -> float:
    if not difference <= limit:
        raise SelfCheckError(
            f"self-check head: log-probs of {name} differ by {difference:.2g} between padded rows under the "
            f"fused head and the model's own logits, limit {limit:g}",
            reason="its architecture does something to hidden states, logits or padding that the fused head does not "
            "know, so that another model would be trained than the one that is loaded",
            remedy="use another architecture, and please report this one; self_checks: {head: false} skips the check",
        )
    return difference


@torch.no_grad()
def head_difference(model: Any, temperature: float = 1.0) -> tuple[float, float]:
    """(largest |log-prob difference|, what rounding explains) of made-up tokens: of two documents, padded, by a fused
    head, and of each alone by `model().logits`.

    Args:
        model: with `add_head_function`.
        temperature: of its head.

    Raises:
        SelfCheckError: the forward pass that trains fails on this model.
    """
    documents = [made_up(model, length, seed=length) for length in (12, 7)]
    batch = pad(documents, 0).to(_device(model))
    inputs = batch.model_inputs()
    try:
        with _dtypes_of(model) as computed:
            logp_N = model(
                **inputs,
                predictor_mask=batch.predictor_mask,
                head_fn=lambda hidden, head: selected_logprobs(hidden, head, batch.target_ids)[0],
            )
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
    return float((logp_N.to(own_N.device) - own_N).abs().max()), _rounding(computed, logits)


# ---------------------------------------------------------------------------------------------- packing


def check_packing(trainer: Any) -> float | None:
    """Largest |log-prob difference| of documents packed and alone, in nats; the gradients are compared as well."""
    if not getattr(trainer.args, "pack", False):
        return None
    trainer.model.eval()
    sharded = trainer.is_fsdp_enabled or is_zero3(trainer)
    with _precisely(trainer), row_attention(plain_model(trainer)):
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
    documents = [made_up(model, length, seed) for seed, length in enumerate(lengths)]
    packed = pack(documents, 0, lengths[0] + lengths[1])  # two in a row; the third in one with padding
    try:
        alone = [_scored(model, pad([one], 0), _own_inputs, gradient) for one in documents]
        with _dtypes_of(model) as computed:
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
        _rounding(computed, next(model.parameters())),
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


# ---------------------------------------------------------------------------------------------- helpers


def _fused(model: Any, inputs: dict[str, Any], batch: Batch) -> Tensor:
    """(N,) log-probs of a batch's loss-bearing tokens by TRL's fused head."""
    labels = batch.input_ids.masked_fill(~batch.loss_mask, -100)
    with masks_for_backbone(_without_adapters(model), batch, inputs) as given:
        outputs = model(**{**given, "use_cache": False}, labels=labels, fused_lm_head=True)
    return outputs.log_probs[outputs.label_mask]


def made_up(model: Any, length: int, seed: int) -> TokenSequence:
    """A made-up document of ids that mean nothing special; every token but the first is scored."""
    config = model.config.get_text_config()
    special = {value for name, value in vars(config).items() if name.endswith("token_id") and isinstance(value, int)}
    plain = [token for token in range(min(config.vocab_size, 512)) if token not in special]
    drawn = np.random.default_rng(seed).integers(0, len(plain), length)
    return prompt_completion([], [plain[index] for index in drawn])


@contextmanager
def _precisely(trainer: Any) -> Iterator[None]:
    """Float32 weights compute in float32, where faults stand out from rounding; flash attention cannot.

    Accelerate's mixed precision is a forward of the model's that opens autocast; the one it was made of is in its place
    while the block lasts.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if str(trainer.model.config._attn_implementation).startswith("flash"):
        with trainer.accelerator.autocast():
            yield
        return
    mixed, plain = (vars(model).get(name) for name in ("forward", "_original_forward"))
    if plain is None:
        yield
        return
    model.forward = plain
    try:
        yield
    finally:
        model.forward = mixed


@contextmanager
def _dtypes_of(model: Any) -> Iterator[set[torch.dtype]]:
    """The dtypes of products in the backbone's passes while the block lasts: autocast's, else the hidden states'."""
    seen: set[torch.dtype] = set()

    def see(module: Any, args: Any, output: Any) -> None:
        seen.add(product_dtype(output[0], output[0]))

    hook = backbone(_without_adapters(model)).register_forward_hook(see)
    try:
        yield seen
    finally:
        hook.remove()


def _rounding(computed: set[torch.dtype], x: Tensor) -> float:
    """Largest |log-prob difference| that rounding explains, of passes in these dtypes on the device of `x`."""
    if computed & {torch.bfloat16, torch.float16}:
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


def _without_adapters(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
