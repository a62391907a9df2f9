"""A hash of a model's weights by value: whether a base is the one that an adapter was trained on."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from ixt_rl.rollout.weights.policy import policy_tensors


def weights_hash(model: nn.Module) -> str:
    """sha256 of a model's weights by name, shape and value in float32; of an adapted model as its forward pass is now.

    Collective where weights are sharded.
    """
    digests = {name: _digest(tensor) for name, tensor in policy_tensors(model)}
    whole = hashlib.sha256()
    for name in sorted(digests):
        whole.update(name.encode() + digests[name])
    return whole.hexdigest()


def _digest(tensor: Tensor) -> bytes:
    values = tensor.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(str(tuple(values.shape)).encode() + values.numpy().tobytes()).digest()
