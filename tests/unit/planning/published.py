"""Figures that others have published of single GPUs, with what they are computed from here.

Of TRL's figures (release notes of 1.15: gemma-3-1b, bf16, batch 1, one 79 GiB GPU) the notes do not say how weights and
optimizer are kept: bfloat16 throughout and checkpointed activations are inferred, and that whole logits cost 10 bytes
(bf16 ones, float32 ones, their gradient). A fused head keeps no logits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ixt_rl.planning.devices import GIB, GPUS
from ixt_rl.planning.memory import Training, peak, training_parts
from ixt_rl.planning.seconds import Sampler, tokens_per_second
from ixt_rl.planning.shapes import shape_named

GEMMA = shape_named("google/gemma-3-1b-pt")
TRL = Training(
    GEMMA, GEMMA.parameters, rows=1, tokens=8192, scored=8192, numbers=2, weights=2, gradients=2, states=4,
    checkpointing=True, masked=False, chunk=0.0,
)  # fmt: skip
LOGITS = 2 + 4 + 4.0
LENGTHS = (700, 700)
"""Tokens read and written by those that sample: the sources do not say."""


@dataclass(frozen=True)
class Published:
    """A figure: what it is of, its value, what the planner says, and whether the two agree.

    `fits` is None where that hangs on what the source does not say.
    """

    what: str
    figure: float
    planned: float
    fits: bool | None = True


def gib(job: Training) -> float:
    """All but the process: peaks of torch's allocator do not have it."""
    return peak(training_parts(job)) / GIB


def sampled(model: str, gpu: str, devices: int = 1) -> float:
    """Tokens a second and GPU."""
    return tokens_per_second(Sampler(shape_named(model), GPUS[gpu], devices=devices), *LENGTHS) / devices


def with_reference(job: Training) -> Training:
    return replace(job, copies=("reference",))


_WHOLE = replace(TRL, logits=LOGITS)
_PAIRS = replace(with_reference(TRL), rows=2)
_LONG = replace(TRL, tokens=107520, scored=107520)

FIGURES = [
    Published("TRL SFT, fused head, 8,192 tokens, GiB", 8.87, gib(TRL)),
    Published("TRL SFT, whole logits, 8,192 tokens, GiB", 30.33, gib(_WHOLE)),
    Published("TRL GRPO, fused head, 8,192 tokens, GiB", 10.30, gib(TRL)),
    Published("TRL KTO, fused head, 8,192 tokens, GiB", 11.98, gib(with_reference(TRL))),
    Published("TRL DPO, fused head, 8,192 tokens, GiB", 12.00, gib(_PAIRS)),
    Published("TRL DPO, whole logits, 8,192 tokens, GiB", 48.97, gib(replace(_PAIRS, logits=LOGITS))),
    Published("SmolLM2-1.7B rewriting, vLLM, H100, tokens/s", 9200, sampled("SmolLM2-1.7B", "H100"), None),
    Published("Qwen2.5-0.5B, vLLM, T4, tokens/s", 9052, sampled("Qwen2.5-0.5B", "T4"), None),
    Published("TRL GRPO, whole logits, 8,192 tokens, GiB", 24.15, gib(_WHOLE), False),
    Published("TRL RLOO, fused head, 8,192 tokens, GiB", 14.02, gib(TRL), False),
    Published("TRL SFT, fused head, 107,520 tokens, GiB", 79.0, gib(_LONG), False),
    Published("70B rewriting (REWIRE), H100s, tokens/s and GPU", 306, sampled("Llama-3.1-70B", "H100", 8), False),
]
"""REWIRE: 1.1M tokens a GPU-hour. Both vLLM figures are with suffix speculation, which is not counted."""

if __name__ == "__main__":
    for one in FIGURES:
        print(f"| {one.what} | {one.figure:g} | {one.planned:.4g} | {one.planned / one.figure:.2f} |")
