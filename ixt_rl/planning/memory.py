"""Bytes on one device, part by part, of one training process.

    always      process, weights, optimizer, copies (posterior, reference, average), an engine in the process
    training    gradients, half-precision copies of weights, activations, the loss's buffers
    rollout     keys and values of what is being sampled
    host        what `launch.offload` keeps in the host's memory

The peak of a device is what is always there and the larger of the next two. Activations of a layer are counted tensor
by tensor as autograd saves them in transformers' Llama, Qwen and Gemma under sdpa; T tokens of a micro-batch, h hidden,
q and k widths of queries and keys, f intermediate, b bytes of the passes' numbers, w of the weights':

    norms       (4 + w + b) h each         input in float32, normalized, output
    attention   b (q + 2 q) + 2 b q        queries, keys and values (for all heads where there is a mask), output
    MLP         4 b f                      gate, up, activated, product

Gradient checkpointing keeps a layer's input (w h) and one layer's activations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from ixt_rl.planning.devices import Strategy
from ixt_rl.planning.shapes import ModelShape

MIB = 2**20
CPU_CHUNK, GPU_CHUNK = 120 * MIB, 2**31
"""What the kernels keep of [tokens, vocabulary] at a time (`ixt_rl.kernels.chunks`, which needs torch)."""
GPU_TOKENS, GPU_TILE = 4096, 16384
"""There: most tokens of a chunk, and entries of a tile, whose logits under policy and posterior are there beside it."""

ZERO_BUCKET, ZERO3_LIVE = 5 * 10**8, 10**9
"""DeepSpeed's defaults: parameters of the buffer that stages 1 and 2 gather gradients in, and how many gathered weights
stage 3 keeps for the backward pass."""

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""A parameter in 4 bits; each 64 share a scale in 8 bits, 256 of which share one in 32."""

_STATES = ("optimizer", "master weights", "gradients")
_OFFLOADED = {"o": _STATES[:2], "og": _STATES, "ogw": ("weights", *_STATES)}
"""What `launch.offload` moves to the host, of what a strategy shares; frozen copies stay."""

When = Literal["always", "training", "rollout", "host"]


class Part(NamedTuple):
    """A part of a device's memory: what it is, its bytes, when they are there."""

    name: str
    bytes: float
    when: When


@dataclass(frozen=True)
class Training:
    """What decides the memory of a training process.

    Args:
        shape: of the model.
        trained: parameters that are trained.
        rows: of a micro-batch, on one device.
        tokens: of a row, the longest there may be.
        scored: tokens of a row that are in the loss.
        numbers: bytes of the numbers that passes compute in.
        weights: bytes a parameter; ours are float32, whatever passes compute in.
        gradients, states: bytes a trained parameter, of gradients and of the optimizer.
        copies: further whole models in the weights' bytes, by what they are: {"reference": 1}.
        averages: float32 averages of the trained weights.
        checkpointing: of activations.
        masked: attention gets a mask, so that keys are repeated for all heads and the mask is kept.
        logits: bytes that a loss keeps of each scored token and vocabulary entry; 0: it walks the head in chunks.
        chunk: bytes of such a chunk; None: our kernels'.
        quantized: parameters of the base that are kept in 4 bits.
        cpu: on a CPU.
    """

    shape: ModelShape
    trained: int
    rows: int
    tokens: int
    scored: int
    numbers: int = 4
    weights: int = 4
    gradients: int = 4
    states: float = 8
    copies: tuple[str, ...] = ()
    averages: int = 0
    checkpointing: bool = False
    masked: bool = True
    logits: float = 0
    chunk: float | None = None
    quantized: int = 0
    cpu: bool = False

    @property
    def positions(self) -> int:
        """Tokens of a micro-batch."""
        return self.rows * self.tokens

    @property
    def whole(self) -> bool:
        """Whether all parameters are trained, not adapters."""
        return self.trained == self.shape.parameters


def layer_activations(job: Training) -> float:
    """Bytes that autograd keeps of one token in one layer."""
    shape, b, w = job.shape, job.numbers, job.weights
    h, q, k = shape.hidden, shape.queries, shape.keys
    norms = shape.norms * (4 + w + b) * h + ((4 + b) * (q + k) if shape.qk_norm else 0)
    attention = b * (q + 2 * (q if job.masked else k)) + 2 * b * q + 4 * shape.heads
    width = shape.intermediate * max(1, shape.routed)
    return norms + attention + 4 * b * width


def activations(job: Training) -> float:
    """Bytes that autograd keeps of a micro-batch, and the gradients that are under way in one layer."""
    layer = layer_activations(job)
    under_way = 3 * job.numbers * job.shape.intermediate * max(1, job.shape.routed)
    if job.checkpointing:
        kept = job.shape.layers * job.weights * job.shape.hidden + layer
    else:
        kept = job.shape.layers * layer
    masks = job.rows * job.tokens**2 * (1 + job.numbers) if job.masked else 0
    return job.positions * (kept + under_way) + masks


def loss_buffers(job: Training) -> float:
    """Bytes of hidden states, of a chunk of [tokens, vocabulary], and of the embedding's gradient beside the head's."""
    shape, scored = job.shape, job.rows * job.scored
    hidden = 3 * 4 * scored * shape.hidden
    if job.logits:
        chunk = job.logits * scored * shape.vocabulary
    elif job.cpu or job.chunk is not None:
        chunk = min(CPU_CHUNK if job.chunk is None else job.chunk, 2 * 4 * scored * shape.vocabulary)
    else:
        tokens = min(scored, GPU_TOKENS)
        chunk = min(GPU_CHUNK, 4 * tokens * shape.vocabulary) + 2 * 4 * tokens * min(GPU_TILE, shape.vocabulary)
    return hidden + chunk + (job.gradients * shape.embedding if job.whole and shape.tied else 0)


def training_parts(job: Training, strategy: Strategy = "ddp", ranks: int = 1, offload: bool = False) -> list[Part]:
    """Parts of a training process on one of `ranks` devices, its own overhead and engines apart.

    `offload`: what the strategy shares is in the host's memory, as `launch.offload` has it; a CPU is its own host.
    With DeepSpeed's stages weights are kept in the passes' numbers, beside float32 ones that belong to the optimizer.
    """
    zero = strategy.startswith("zero") and ranks > 1
    shared = {"zero1": "o", "zero2": "og", "zero3": "ogw", "fsdp2": "ogw"}.get(strategy, "") if ranks > 1 else ""

    def divided(size: float, letter: str) -> float:
        return size / ranks if letter in shared else size

    shape, count = job.shape, job.shape.parameters
    half = zero and job.numbers < 4
    stored = job.numbers if half else job.weights
    frozen = 0 if job.whole else job.trained
    packed = (stored - NF4_BYTES) * job.quantized
    parts = [
        Part("weights", divided(stored * (count + frozen) - packed, "w"), "always"),
        Part("optimizer", divided(job.states * job.trained, "o"), "always"),
    ]
    if half or shared in ("o", "og"):  # in float32 stage 3 updates the weights themselves
        parts.append(Part("master weights", divided(4 * job.trained, "o"), "always"))
    parts += [Part(name, divided(job.weights * count, "w"), "always") for name in job.copies]
    if job.averages:
        parts.append(Part("moving average", divided(4 * job.averages * job.trained, "w"), "always"))
    gradients = divided(job.gradients * job.trained, "g")
    parts.append(Part("gradients", gradients, "training"))
    if strategy == "ddp" and ranks > 1:
        parts.append(Part("gradient buckets", gradients, "training"))
    if shared in ("o", "og"):  # of which a CPU has the pages that are written
        bucket = min(ZERO_BUCKET, job.trained) if job.cpu else ZERO_BUCKET
        parts.append(Part("gradient buckets", stored * bucket, "training"))
    if shared.endswith("w"):  # two layers, and the largest of embedding and head, are whole at a time
        at_once = 2 * shape.layer_parameters(shape.experts) + shape.embedding
        live = max(at_once, min(count, ZERO3_LIVE)) if zero else at_once
        parts.append(Part("gathered weights", job.numbers * live, "training"))
    elif job.numbers < stored:
        linear = count - job.quantized - shape.embedding * (1 if shape.tied else 2)
        kept = linear if job.whole or not job.checkpointing else shape.layer_parameters(shape.experts)
        parts.append(Part("weights in half precision", job.numbers * kept, "training"))
    parts.append(Part("activations", activations(job), "training"))
    parts.append(Part("loss buffers", loss_buffers(job), "training"))
    away = _OFFLOADED.get(shared, ()) if offload and not job.cpu else ()
    return [part._replace(when="host") if part.name in away else part for part in parts]


def peak(parts: list[Part]) -> float:
    """Bytes at most: what is always there, and the larger of training and rollout."""
    sums = {when: sum(part.bytes for part in parts if part.when == when) for when in ("always", "training", "rollout")}
    return sums["always"] + max(sums["training"], sums["rollout"])


def lasting(job: Training) -> Training:
    """The same without a micro-batch: what a device holds while nothing is computed."""
    return replace(job, rows=0)
