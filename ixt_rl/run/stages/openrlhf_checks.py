"""Self-checks of stages on rollouts that OpenRLHF trains, as far as this process can see.

    head      on the model that the stage starts from: actors compute their losses from it
    factor    an actor's own update of that model, told what the plain prompt says: factors are 1
    ends      what ends a completion, and who says otherwise
    engine    in every update, what actors log: how far their engines' log-probs are from theirs, in the mean

Rollouts are not packed, so `packing` has nothing to compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ixt_rl.blocks.model import SelfChecksBlock
from ixt_rl.errors import ParityError, SelfCheckError
from ixt_rl.integrations.openrlhf.updates import Method, Rationale, micro_batch, told_by, update
from ixt_rl.models import model_ends, tokenizer_notes
from ixt_rl.rollout.parity import default_limit
from ixt_rl.trainers.dropout import disable_dropout
from ixt_rl.trainers.forward_checks import check_plain_head, made_up
from ixt_rl.trainers.head import add_head_function

_ROUNDING = 0.1
"""How far a factor may be from 1 where products are in 16 bits."""


def check_before(model: Any, tokenizer: Any, checks: SelfChecksBlock, method: Method, temperature: float) -> list[str]:
    """Runs what can be compared before the job, on a model that is used for nothing else.

    Returns:
        What is not compared, and who names other ends, in words.

    Raises:
        SelfCheckError: numbers differ that must be equal.
    """
    notes = tokenizer_notes(tokenizer)
    if checks.head:
        check_plain_head(model, temperature)
    if checks.factor:
        check_told_factor(model, method, temperature)
    if checks.ends:
        ends = model_ends(model, tokenizer)
        named = tokenizer.convert_ids_to_tokens(ends.turn)
        notes += ["; ".join([f"ends: {named} ({ends.rule})", *ends.disagreements])] if ends.disagreements else []
    if checks.engine and method.correction is None:
        notes.append("self_checks.engine compares nothing: with openrlhf.correction: null engines give no log-probs")
    return notes


def check_told_factor(model: Any, method: Method, temperature: float) -> float:
    """The factor that is farthest from 1 in an actor's update on made-up rows, told nothing more.

    Both passes have the same hidden states, to the bit; what is left is the rounding of two kernels for log-probs.

    Raises:
        SelfCheckError: it is not 1, rounding aside.
    """
    add_head_function(model, temperature)
    disable_dropout(model)  # as its actors do
    model.train()
    prompt, completion = (list(made_up(model, 9, seed).input_ids) for seed in (1, 2))
    rows = [Rationale(prompt, prompt, completion), Rationale(prompt[:5], prompt[:5], completion[:4])]
    micro = micro_batch(rows, 1.0, 0, next(model.parameters()).device)
    with torch.no_grad():
        draws = torch.Generator(micro.weights.device).manual_seed(0)
        _, logged = update(model, told_by(model), micro, replace(method, correction=None), draws)
    factors = logged["factor/taken"].float()
    factor = float(factors[(factors - 1).abs().argmax()])
    if not abs(factor - 1) <= (1e-3 if next(model.parameters()).dtype == torch.float32 else _ROUNDING):
        raise SelfCheckError(
            f"self-check factor: told nothing more than the plain prompt, {type(model).__name__} has a factor of "
            f"{factor:.4g}, and not 1",
            reason="in training mode the model computes something else than in evaluation mode, which would go into "
            "every weight",
            remedy="use another architecture, and please report this one; self_checks: {factor: false} trains "
            "nevertheless",
        )
    return factor


def check_update(row: Mapping[str, Any], limit: float | None) -> None:
    """What actors log of their engines' log-probs in an update: in the mean of tokens, where the checks of this
    library's trainers take the largest.

    Args:
        row: of metrics.
        limit: `engine.parity_limit`; None: that of bfloat16.

    Raises:
        ParityError: they are further apart than the limit.
    """
    apart, most = row.get("sampler/logp_abs"), default_limit(torch.bfloat16) if limit is None else limit
    if apart is not None and apart > most:
        raise ParityError(
            f"update {row['step']}: log-probs of OpenRLHF's engines differ from its actors' by {apart:.2g} in the "
            f"mean, limit {most:g}",
            reason="the engines sample from another policy than the one trained: stale or wrong weights, another dtype "
            "or another temperature",
            remedy="see its log and the versions of its environment (`ixt-rl doctor`); if the difference is rounding, "
            "raise engine.parity_limit; self_checks: {engine: false} trains nevertheless",
        )
