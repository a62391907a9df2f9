"""Options of a trainer of one's own: which there are, which other keys of the run file set, and whether values fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ixt_rl.blocks.type_words import in_words, union_members, wrong_type
from ixt_rl.errors import ConfigError, did_you_mean, show
from ixt_rl.methods.spec import MethodSpec
from ixt_rl.python_fields import OptionField

SET_BY = {
    "output_dir": "output_dir",
    "max_steps": "steps",
    "seed": "seeds",
    "learning_rate": "optim.lr",
    "adam_beta1": "optim.betas",
    "adam_beta2": "optim.betas",
    "weight_decay": "optim.weight_decay",
    "warmup_steps": "optim.warmup_steps",
    "lr_scheduler_type": "optim.schedule",
    "lr_scheduler_kwargs": "optim.min_lr_ratio",
    "max_grad_norm": "optim.max_grad_norm",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "save_strategy": "checkpoint_every",
    "save_steps": "checkpoint_every",
    "self_checks": "self_checks",
    "per_device_train_batch_size": "micro_batch_size",
    "gradient_accumulation_steps": "micro_batch_size",
    "gradient_checkpointing": "gradient_checkpointing",
    "steps_per_generation": "steps_per_generation",
    "num_iterations": "num_iterations",
    "num_generations": "group_size",
    "reward_weights": "rewards",
    "max_completion_length": "sampling.max_new_tokens",
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "top_k": "sampling.top_k",
    "min_p": "sampling.min_p",
    "chat_template_kwargs": "template",
    "jsd_beta": "opsd.beta",
    "feedback_template": "feedback.template",
    "feedback_position": "feedback.position",
    "feedback_dropout": "feedback.dropout",
    "feedback_fraction": "feedback.fraction",
    "feedback_cooldown": "feedback.cooldown",
    "train_feedback": "feedback.train",
    "chat": "data",
    "max_length": "packing.capacity",
    "pack": "packing.packed",
    "buffer_rows": "batch_size",
    "ema_decay": "ema",
}
"""Option of our trainers or of TRL's -> the key of a run file that sets it, where they are not called alike."""


_POSTERIOR = {"posterior": "source", "posterior_decay": "decay", "posterior_every": "every"}
"""Options of a told pass -> the key in the method's block `posterior`."""


def set_by(spec: MethodSpec, name: str, own: bool) -> str | None:
    """The key of a run file that sets an option; None where none does.

    Args:
        spec: the method that the trainer is like.
        own: the option is a field of the user's class, which may have a key's name by chance.
    """
    if name in SET_BY:
        return SET_BY[name]
    block = spec.stage.model_fields[spec.block].annotation if spec.block else None
    if name in _POSTERIOR and "posterior" in getattr(block, "model_fields", {}):
        return f"{spec.block}.posterior.{_POSTERIOR[name]}"
    if name in getattr(block, "model_fields", {}):
        return f"{spec.block}.{name}"
    return name if not own and name in spec.stage.model_fields else None


def refused(
    options: Mapping[str, Any],
    fields: Mapping[str, OptionField],
    config: str,
    key_of: Callable[[str, bool], str | None],
    all_seen: bool = True,
) -> Iterator[tuple[str, ConfigError]]:
    """(option, why it cannot be) for options that are unknown, set by another key, missing or of another type.

    Args:
        fields: of the config class, ours and the user's.
        config: the class's name.
        key_of: (option, whether the user's class declares it) -> the key that sets it.
        all_seen: whether these are all of the class's fields, so that others are unknown.
    """
    free = {name: one for name, one in fields.items() if key_of(name, not one.shipped) is None}
    for name, value in options.items():
        key = key_of(name, name in fields and not fields[name].shipped)
        if key is not None:
            yield name, ConfigError(show(value), reason=f"`{key}` of the run file sets it", remedy=f"set `{key}` there")
        elif name not in free:
            if all_seen:
                yield name, _unknown(name, value, list(free), config)
        elif (wrong := _misfit(free[name].annotation, value)) is not None:
            yield name, ConfigError(show(value), reason=wrong[0], remedy=wrong[1])
    for name, one in free.items():
        if one.required and name not in options:
            expected = "a value" if one.annotation is None else " or ".join(in_words(one.annotation))
            yield name, ConfigError("missing", reason="it has no default", remedy=f"add `{name}:` with {expected}")


def _unknown(name: str, value: Any, known: list[str], config: str) -> ConfigError:
    return ConfigError(
        show(value),
        reason=f"{config} has no option `{name}`",
        remedy=did_you_mean(name, known)
        + (f"its options: {', '.join(known)}" if known else "it has none that a run file sets")
        + f"; an option of TRL's is one where {config} declares it as a field, and a field needs @dataclass",
    )


def _misfit(annotation: Any, value: Any) -> tuple[str, str] | None:
    """Reason and remedy where a value, or an item of it, is not of its type; None where it is, or nobody knows."""
    if annotation is None or _fits(annotation, value):
        return None
    for member in union_members(annotation):
        kind, parts = get_origin(member), get_args(member)
        items: Iterable[Any] = value if kind is list and isinstance(value, list) else ()
        items = value.values() if kind is dict and isinstance(value, dict) else items
        found = next((wrong for item in items if (wrong := _misfit(parts[-1], item))), None)
        if found is not None:
            return found
    return wrong_type(annotation, value)


def _fits(annotation: Any, value: Any) -> bool:
    try:
        TypeAdapter(annotation, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError:
        return False
    return True
