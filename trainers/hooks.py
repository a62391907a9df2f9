"""Hooks: methods that a subclass may override, what they are told of rationales, and how old signatures are refused.

Shapes: R rows, F reward functions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from torch import Tensor

from ixt_rl.errors import ConfigError

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class Signals:
    """What is known of rationales, one row each, in the order of the batch that they go with.

    Args:
        rewards: (R,) fp32 weighted sums of the rewards; NaN where one with a weight is undecided.
        rewards_per_func: (R, F) fp32 each reward by itself, unweighted, in the order of `reward_funcs`; NaN undecided.
        advantages: (R,) fp32 the method's advantages, by default GRPO's; 0 where the sum is undecided.
        kept: (R,) bool; False only for the row without tokens that stands in where a micro-batch trains nothing.
        rows_per_update: 0-d fp32, K: rationales of the whole update that a mean is taken over (where some are kept,
            those; of policy gradients all), divided by the number of ranks because the ranks' gradients are averaged.
        columns: whatever else has one value a row, by name, tensors and lists: what `add_signals` has added, and
            TRL's own (`completion_mask`, ...).
        tokens_per_update: 0-d fp32, as K: the completion tokens of those rationales; of policy gradients alone.
    """

    rewards: Tensor
    rewards_per_func: Tensor
    advantages: Tensor
    kept: Tensor
    rows_per_update: Tensor
    columns: Mapping[str, Any]
    tokens_per_update: Tensor | None = None

    @classmethod
    def of(cls, batch: Mapping[str, Any], rows: Tensor, rows_per_update: Tensor) -> Signals:
        """The signals of `rows` (R,) int64 of TRL's dict, which shuffles and splits them with its own columns."""
        count = len(batch["completion_ids"])
        found: dict[str, Any] = {}
        for name, value in batch.items():
            if isinstance(value, Tensor) and value.dim() and len(value) == count:
                found[name] = value[rows]
            elif isinstance(value, list) and len(value) == count:
                found[name] = [value[row] for row in rows.tolist()]
        own = {field.name: found.pop(field.name) for field in fields(cls) if field.name in found}
        return cls(**own, rows_per_update=rows_per_update, columns=found)

    def to(self, device: Any) -> Signals:
        """The same on `device`."""
        moved = {name: _moved(value, device) for name, value in vars(self).items() if name != "columns"}
        return Signals(**moved, columns={name: _moved(value, device) for name, value in self.columns.items()})


def hook(method: Method) -> Method:
    """Marks a method that subclasses may override; `check_hooks` compares what they write with it."""
    method.is_hook = True  # type: ignore[attr-defined]
    return method


def check_hooks(trainer: Any) -> None:
    """Refuses overrides that could not be called as the hook is; called before anything is loaded.

    Raises:
        ConfigError: the arguments of an override have other names, or are too few or too many.
    """
    declared: dict[str, Callable[..., Any]] = {}
    for owner in reversed(type(trainer).__mro__):
        declared |= {name: value for name, value in vars(owner).items() if getattr(value, "is_hook", False)}
    for name, method in declared.items():
        wanted = [*inspect.signature(method).parameters][1:]  # without self
        own = inspect.signature(getattr(trainer, name))
        if not _takes(own, wanted):
            call = f"{name}({', '.join(wanted)})"
            raise ConfigError(
                f"{type(trainer).__name__}.{name}{own}",
                reason=f"the hook is called as {call}",
                remedy=f"write `def {name}(self, {', '.join(wanted)})`; {method.__qualname__}'s docstring says what "
                "they hold",
            )


def _takes(signature: inspect.Signature, names: list[str]) -> bool:
    """Whether a function can be called with these arguments, by place and by name."""
    parameters = [*signature.parameters.values()]
    placed = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    further = [*placed[len(names) :], *(one for one in parameters if one.kind is one.KEYWORD_ONLY)]
    if any(one.default is one.empty for one in further):
        return False
    told = [one.name for one in placed[: len(names)]]
    rest = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    return told == names[: len(told)] and (rest or len(told) == len(names))


def _moved(value: Any, device: Any) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value
