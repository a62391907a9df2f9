"""Counts tokens and FLOPs by phase, so that every comparison can have compute on its x-axis.

    rollout, posterior, score    2 N per token        a forward pass
    train                4 N + 2 N_trained per token  forward, gradients of activations, gradients of weights
    annotate                     2 N_judge per token  what a judge or rewriter reads and writes, each by its own size

with N the parameters that a token meets, N_trained those of them that are trained, and a token every position that a
pass computes, prompts included. Where all is trained, `train` is the usual 6 N. LoRA's frozen matrices have no weight
gradients: about 4 N. Of a mixture of experts a token meets the experts it is routed to: k of E of their parameters.
Attention's quadratic term and reused KV caches are left out, as is usual for this estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, Literal, NamedTuple

Phase = Literal["rollout", "posterior", "score", "train", "annotate"]
_ASKED, _UNKNOWN = "annotate by ", "unknown"
FLOPS_PER_PARAMETER: dict[Phase, int] = {"rollout": 2, "posterior": 2, "score": 2, "train": 6, "annotate": 2}

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_ROUTED = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k")


class ModelSize(NamedTuple):
    """Parameters of a model that one token meets.

    Args:
        active: all but those of experts that it is not routed to.
        trained: those of them that are trained.
    """

    active: int
    trained: int


def model_size(model: Any) -> ModelSize:
    """Counts a torch model's parameters, before or after it is wrapped; under ZeRO-3 by the sizes of the whole ones.

    Of what peft's `modules_to_save` train, their copies, which compute in place of the originals.
    """
    config = model.config.get_text_config()
    experts, routed = (
        next((getattr(config, n) for n in names if _is_int(config, n)), 0) for names in (_EXPERTS, _ROUTED)
    )
    share = routed / experts if experts and 0 < routed < experts else 1.0
    active = trained = 0.0
    for name, parameter in model.named_parameters():
        if "original_module" in name.split("."):
            continue
        packed = getattr(parameter, "quant_state", None)  # 4 bits: two numbers a byte, which tell no shape
        size = getattr(parameter, "ds_numel", prod(parameter.shape if packed is None else packed.shape))
        size *= share if "experts" in name.split(".") else 1.0
        active += size
        trained += size if parameter.requires_grad else 0.0
    return ModelSize(round(active), round(trained))


def _is_int(config: Any, name: str) -> bool:
    return isinstance(getattr(config, name, None), int)


class Ledger:
    """Tokens by phase on this process, and the FLOPs they cost.

    Where several processes train one model, each counts its own; what was spent for all of them is in the first one's.

    Args:
        parameters: N, parameters of the model, all trained; or its `model_size`.
        judge_parameters: N_judge of documents that were annotated before; the model's own N if not given.
        before: FLOPs and tokens of the stages that led here, as `totals` gives them.
    """

    def __init__(
        self,
        parameters: int | ModelSize,
        judge_parameters: int | None = None,
        before: dict[str, dict[str, float]] | None = None,
    ):
        self.size = parameters if isinstance(parameters, ModelSize) else ModelSize(parameters, parameters)
        self.parameters = self.size.active
        self.judge_parameters = self.parameters if judge_parameters is None else judge_parameters
        self.before: dict[str, Any] = before or {"flops": {}, "tokens": {}}
        self.tokens: Counter[str] = Counter()
        """By phase; those of `asked` also by size, so that what a checkpoint keeps is all."""
        self._counting = True

    def add(self, phase: str, tokens: int) -> None:
        """Counts `tokens` computed positions in `phase`."""
        if self._counting:
            self.tokens[phase] += tokens

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing counts inside: evaluation and checks are no part of what a method costs."""
        counting, self._counting = self._counting, False
        try:
            yield
        finally:
            self._counting = counting

    def of_all(self, gathered: Callable[[dict[str, int]], list[dict[str, int]]]) -> Ledger:
        """One with the tokens of all processes, which all call this.

        Args:
            gathered: what each of them gives.
        """
        whole = Ledger(self.size, self.judge_parameters, self.before)
        for tokens in gathered(dict(self.tokens)):
            whole.tokens.update(tokens)
        return whole

    def asked(self, tokens: int, parameters: int | None) -> None:
        """Counts what a judge or rewriter of `parameters` read and wrote; if they are None its FLOPs are uncounted."""
        self.add("annotate", tokens)
        self.add(f"{_ASKED}{_UNKNOWN if parameters is None else parameters}", tokens)

    def _asked(self) -> list[tuple[int | None, int]]:
        """(parameters, tokens) of judges and rewriters of each size."""
        names = [name for name in self.tokens if name.startswith(_ASKED)]
        sizes = {name: name.removeprefix(_ASKED) for name in names}
        return [(None if size == _UNKNOWN else int(size), self.tokens[name]) for name, size in sizes.items()]

    @property
    def uncounted(self) -> int:
        """Tokens of judges and rewriters whose size nobody said: they are in no FLOPs."""
        return self.tokens[_ASKED + _UNKNOWN] + self.before["tokens"].get("uncounted", 0)

    def flops(self, phase: Phase) -> float:
        """FLOPs of a phase on this process so far, those before included."""
        spent = self._per_token(phase) * self.tokens[phase]
        if phase == "annotate":
            for size, tokens in self._asked():
                spent += FLOPS_PER_PARAMETER[phase] * ((size or 0) - self.judge_parameters) * tokens
        return float(spent) + self.before["flops"].get(phase, 0)

    def _per_token(self, phase: Phase) -> int:
        if phase == "train":
            return 4 * self.size.active + 2 * self.size.trained
        return FLOPS_PER_PARAMETER[phase] * (self.judge_parameters if phase == "annotate" else self.parameters)

    def total(self) -> float:
        """FLOPs of all phases on this process so far."""
        return sum(self.flops(phase) for phase in FLOPS_PER_PARAMETER)

    def columns(self) -> dict[str, float]:
        """What a metrics row says of each phase: the parts of its `flops`."""
        return {f"flops/{phase}": self.flops(phase) for phase in FLOPS_PER_PARAMETER}

    def totals(self) -> dict[str, dict[str, float]]:
        """FLOPs and tokens of every phase in which there were any: what the next stage starts from."""
        phases = [phase for phase in FLOPS_PER_PARAMETER if self.flops(phase) or self.tokens[phase]]
        tokens = {str(phase): self.tokens[phase] + self.before["tokens"].get(phase, 0) for phase in phases}
        if self.uncounted:
            tokens["uncounted"] = self.uncounted
        return {"flops": {str(phase): self.flops(phase) for phase in phases}, "tokens": tokens}

    def restore(self, flops: dict[Phase, float]) -> None:
        """Goes on from the FLOPs that a stopped run had logged."""
        for phase, spent in flops.items():
            self.tokens[phase] = round(spent / self._per_token(phase))
