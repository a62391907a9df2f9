"""Whether DDP has to look for parameters that an update leaves without a gradient."""

from __future__ import annotations

from typing import Any

import torch

from ixt_rl.trainers.dropout import evaluation_mode


def may_lack_gradients(model: Any) -> bool:
    """Whether an update may leave a trainable parameter of `model` without a gradient, on one rank or on all.

    Ranks whose gradients are not of the same parameters wait for each other for ever, unless DDP walks through the
    graph of every pass (`find_unused_parameters`). All passes of a dense model have one graph, those without a trained
    token among them: what two tokens reach, all reach. What tokens are routed past, or a layer that is dropped at
    random, no pass tells.

    Args:
        model: a causal language model, adapters included, where it trains.
    """
    routed = any(name.endswith("experts") for name, _ in model.named_modules())
    if routed or bool(getattr(model.config, "layerdrop", 0.0)):
        return True
    device = model.get_input_embeddings().weight.device
    with evaluation_mode(model), torch.enable_grad():
        logits = model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device), use_cache=False).logits
    reached = _leaves(logits.grad_fn)
    return any(parameter.requires_grad and id(parameter) not in reached for parameter in model.parameters())


def _leaves(node: Any) -> set[int]:
    """The ids of the tensors that a graph's gradients end at."""
    found: set[int] = set()
    seen, left = {None}, [node]
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        left += [following for following, _ in node.next_functions]
    return found
