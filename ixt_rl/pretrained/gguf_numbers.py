"""Numbers of a GGUF file that a model computes with, against the config that transformers makes of the file.

transformers reads some of them for some architectures and takes its own defaults for the others: the base of
StarCoder2's rotary positions is 10,000 to it, whatever the file says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

EPSILONS = ("rms_norm_eps", "layer_norm_eps", "norm_eps", "norm_epsilon", "layer_norm_epsilon")
"""What configs call the number that keeps a norm from dividing by 0; each has one of them."""

NAMES = {
    "attention.layer_norm_epsilon": EPSILONS,
    "attention.layer_norm_rms_epsilon": EPSILONS,
    "attention.key_length": ("head_dim",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
}
"""What GGUF and transformers call numbers that mean the same in both."""

SCALES = ("logit_scale", "embedding_scale", "residual_scale", "attention.scale")
"""Factors that no architecture reads whose GGUF files transformers reads; 0 and 1 are none."""

WINDOW, BASE, TURNED = "attention.sliding_window", "rope.freq_base", "rope.dimension_count"

NUMBERS = (*NAMES, *SCALES, WINDOW, BASE, TURNED)
"""All that is looked at, by its name behind the architecture's."""


class NumberDropped(Exception):
    """A number of the file that has no place in the config; says which."""


class Changed(NamedTuple):
    """A number that was set: its name in the file, what that says, and what transformers read."""

    name: str
    value: float
    was: Any


def set_numbers(config: Any, architecture: str, fields: Mapping[str, Any]) -> list[Changed]:
    """Sets what a config has otherwise than the file.

    Args:
        config: as transformers read it of the file; changed in place.
        architecture: as the file calls it.
        fields: its fields.

    Raises:
        NumberDropped: the config has no place for a number of the file.
    """
    said = {name: fields.get(f"{architecture}.{name}") for name in NUMBERS}
    given: dict[str, float] = {name: value for name, value in said.items() if value}  # 0 stands for none
    unread = [name for name in SCALES if given.get(name, 1) != 1]
    if unread:
        raise NumberDropped(f"its {unread[0]} is {given[unread[0]]:g}, which transformers drops")
    return [*_by_name(config, given), *_window(config, given), *_positions(config, given)]


def _by_name(config: Any, given: Mapping[str, float]) -> list[Changed]:
    changed = []
    for theirs, names in NAMES.items():
        ours = next((name for name in names if hasattr(config, name)), None)
        if theirs in given and ours is not None and not _equal(getattr(config, ours), given[theirs]):
            changed.append(Changed(theirs, given[theirs], getattr(config, ours)))
            setattr(config, ours, given[theirs])
    return changed


def _window(config: Any, given: Mapping[str, float]) -> list[Changed]:
    """How far attention looks back."""
    value, was = given.get(WINDOW), getattr(config, "sliding_window", None)
    if value is None or _equal(was, value) or value >= config.max_position_embeddings:
        return []
    if not hasattr(config, "sliding_window") or getattr(config, "layer_types", None):
        raise NumberDropped(f"its attention looks back {value} tokens, which transformers drops")
    config.sliding_window = value
    return [Changed(WINDOW, value, was)]


def _positions(config: Any, given: Mapping[str, float]) -> list[Changed]:
    """Base and number of the dimensions that positions turn, where all layers have the same."""
    rotary = getattr(config, "rope_parameters", None)
    if not isinstance(rotary, dict) or "rope_theta" not in rotary:
        return []
    changed = []
    if BASE in given and not _equal(rotary["rope_theta"], given[BASE]):
        changed.append(Changed(BASE, given[BASE], rotary["rope_theta"]))
        rotary["rope_theta"] = given[BASE]
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    turned = int(head * rotary.get("partial_rotary_factor", 1.0))
    if given.get(TURNED, turned) != turned:
        if "partial_rotary_factor" not in rotary:
            raise NumberDropped(f"positions turn {given[TURNED]} of {head} dimensions, in transformers {turned}")
        changed.append(Changed(TURNED, given[TURNED], turned))
        rotary["partial_rotary_factor"] = given[TURNED] / head
    return changed


def _equal(ours: Any, theirs: float) -> bool:
    """As far as float32 tells."""
    return isinstance(ours, int | float) and math.isclose(ours, theirs, rel_tol=1e-6)
