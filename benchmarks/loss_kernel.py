"""Time and memory of the fused InTRO loss against its four bare matrix products, a plain version and TRL's kernels.

    .venv/bin/python benchmarks/loss_kernel.py --tokens 512 1024 2048 --dtype float32 bfloat16 --out runs/loss_kernel

writes `loss_kernel.json`, `loss_kernel.md` and `loss_kernel.png` to `--out`.

- Time: all variants run in one process, in turn, `--rounds` times after one warm-up, with the bare products before and
  after each. A round gives each variant's ratio to the mean of its two neighbours, so that a machine that becomes
  faster or slower meanwhile shows less; the table has the median over rounds. Forward and backward are both in it. On a
  machine that others use, read the ratio of CPU times: small operations wait longer for a lost core than big ones.
- Memory: each variant runs once in a fresh process. The figure is the high-water mark of resident memory during the
  run, less what was resident before (code and inputs), less the gradients it leaves behind.

Variants (T tokens, V vocabulary, D hidden):
- `bare`: the four matrix products alone, as whole [T, V] products into buffers allocated beforehand.
- `plain`: two [T, V] log-softmaxes, `torch.multinomial` candidates, autograd; no statistics.
- `plain-exact`: two [T, V] log-softmaxes and their whole cross-entropy, clipped; autograd; no statistics.
- `fused`, `fused-exact`: `ixt_rl.kernels.intro_loss`, n candidates and exact; with all statistics.
- `trl-divergence`: TRL's chunked forward KL from posterior to policy: the gradient of `exact` without a clip.
- `selected`, `trl-logprobs`: log-probs of the taken tokens with their gradients, ours and TRL's (three products are
  the least; both recompute one).
- `nll`: `ixt_rl.kernels.nll_loss`, the taken tokens' cross-entropy with its statistics; `cross-entropy`: torch's on
  [T, V] logits; `chunked`: torch's on chunks of tokens, each with its gradients in forward, as Liger's fused linear
  cross-entropy does (without its kernel). The least is three products, 0.75 times `bare`.

On an accelerator everything runs in one process, clocks wait for the device, a memory figure is the peak of its
allocator beyond what was there before and the gradients, and bare products of bfloat16 are what its library makes of
them: results are rounded to bfloat16, where the kernels keep logits and sums in float32. `--steps` updates are timed as
one.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from common import arm, child, peak_mib, write
from device import ACCELERATOR, DEVICE, DevicePeak, now

from ixt_rl.kernels import Head, IntroSpec, intro_loss, nll_loss, selected_logprobs

VARIANTS = (
    *("bare", "plain", "plain-exact", "fused", "fused-1", "fused-exact", "trl-divergence"),
    *("selected", "trl-logprobs", "nll", "cross-entropy", "chunked"),
)


class LossInputs:
    """Inputs of one size: hidden states whose logits look like a language model's (entropy of a few nats)."""

    def __init__(self, n_tokens: int, vocab: int, dim: int, dtype: torch.dtype, candidates: int):
        torch.manual_seed(0)
        new: dict[str, Any] = {"dtype": dtype, "device": DEVICE}
        self.weight = torch.empty(vocab, dim, **new).normal_(std=4 / dim**0.5).requires_grad_()
        self.hidden = torch.empty(n_tokens, dim, **new).normal_().requires_grad_()
        self.posterior_hidden = self.hidden.detach() + torch.empty(n_tokens, dim, **new).normal_(std=0.1)
        self.tokens = torch.randint(vocab, (n_tokens,), device=DEVICE)
        self.token_weights = torch.full((n_tokens,), 1 / n_tokens, device=DEVICE)
        self.candidates = candidates

    def clear(self) -> None:
        self.hidden.grad = self.weight.grad = None

    def gradient_bytes(self) -> int:
        grads = (self.hidden.grad, self.weight.grad)
        return sum(g.numel() * g.element_size() for g in grads if g is not None)


def bare(problem: LossInputs) -> Callable[[], None]:
    h, h_q, w = problem.hidden.detach(), problem.posterior_hidden, problem.weight.detach()
    logits = h.new_zeros(len(h), len(w))
    grad_hidden, grad_weight = torch.zeros_like(h), torch.zeros_like(w)

    def run() -> None:
        torch.mm(h_q, w.t(), out=logits)
        torch.mm(h, w.t(), out=logits)
        torch.mm(logits, w, out=grad_hidden)
        torch.mm(logits.t(), h, out=grad_weight)

    return run


def plain(problem: LossInputs) -> Callable[[], None]:
    def run() -> None:
        logp = torch.log_softmax((problem.hidden @ problem.weight.t()).float(), -1)
        with torch.no_grad():
            logq = torch.log_softmax((problem.posterior_hidden @ problem.weight.t()).float(), -1)
            drawn = torch.multinomial(logp.exp(), problem.candidates - 1, replacement=True)
            ids = torch.cat([problem.tokens[:, None], drawn], 1)
            factor = (logq.gather(1, ids) - logp.gather(1, ids)).exp().clamp(max=200.0)
            del logq
        loss = -(problem.token_weights * (factor * logp.gather(1, ids)).mean(1)).sum()
        del logp
        loss.backward()

    return run


def plain_exact(problem: LossInputs) -> Callable[[], None]:
    def run() -> None:
        logp = torch.log_softmax((problem.hidden @ problem.weight.t()).float(), -1)
        with torch.no_grad():
            logq = torch.log_softmax((problem.posterior_hidden @ problem.weight.t()).float(), -1)
            target = torch.minimum(logq.exp_(), 200 * logp.exp())
            del logq
        loss = -(problem.token_weights * (target * logp).sum(1)).sum()
        del logp, target
        loss.backward()

    return run


def fused(problem: LossInputs, candidates: object = None) -> Callable[[], None]:
    spec = IntroSpec(candidates or problem.candidates)

    def run() -> None:
        loss, _ = intro_loss(
            problem.hidden, problem.posterior_hidden, Head(problem.weight), problem.tokens, problem.token_weights, spec
        )
        loss.backward()

    return run


def trl_divergence(problem: LossInputs) -> Callable[[], None]:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def run() -> None:
        divergence, _ = ChunkedDivergenceFunction.apply(
            problem.hidden, problem.weight, None, problem.posterior_hidden, problem.weight.detach(), None, 0.0
        )
        (divergence * problem.token_weights).sum().backward()

    return run


def selected(problem: LossInputs) -> Callable[[], None]:
    def run() -> None:
        logp, _ = selected_logprobs(problem.hidden, Head(problem.weight), problem.tokens)
        (logp * problem.token_weights).sum().backward()

    return run


def trl_logprobs(problem: LossInputs) -> Callable[[], None]:
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    def run() -> None:
        logp, *_ = ChunkedLogProbFunction.apply(
            problem.hidden, problem.weight, None, problem.tokens, 1.0, 32768, None, 1.0, ()
        )
        (logp * problem.token_weights).sum().backward()

    return run


def nll(problem: LossInputs) -> Callable[[], None]:
    def run() -> None:
        loss, _ = nll_loss(problem.hidden, Head(problem.weight), problem.tokens, problem.token_weights)
        loss.backward()

    return run


def cross_entropy(problem: LossInputs) -> Callable[[], None]:
    def run() -> None:
        logits = (problem.hidden @ problem.weight.t()).float()
        loss = F.cross_entropy(logits, problem.tokens)
        del logits
        loss.backward()

    return run


def chunked(problem: LossInputs) -> Callable[[], None]:
    """Liger's rule: as many chunks as the vocabulary is times wider than the hidden states."""

    def run() -> None:
        hidden, weight = problem.hidden.detach(), problem.weight.detach()
        n, dim = hidden.shape
        chunk = 2 ** math.ceil(math.log2(n / math.ceil(len(weight) / dim)))
        grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        losses = []
        for a in range(0, n, chunk):
            h, ids = hidden[a : a + chunk], problem.tokens[a : a + chunk]
            logp = torch.log_softmax((h @ weight.t()).float(), -1)
            losses.append(-logp.gather(1, ids[:, None]).sum())
            grad = logp.exp_()
            grad[torch.arange(len(ids), device=DEVICE), ids] -= 1
            grad = (grad / n).to(h.dtype)
            torch.mm(grad, weight, out=grad_hidden[a : a + chunk])
            grad_weight.addmm_(grad.t(), h)
        torch.stack(losses).sum().div(n)
        problem.hidden.grad, problem.weight.grad = grad_hidden, grad_weight

    return run


def prepare(name: str, problem: LossInputs) -> Callable[[], None]:
    return {
        "bare": bare,
        "plain": plain,
        "plain-exact": plain_exact,
        "fused": fused,
        "fused-1": lambda p: fused(p, 1),
        "nll": nll,
        "cross-entropy": cross_entropy,
        "chunked": chunked,
        "fused-exact": lambda p: fused(p, "exact"),
        "trl-divergence": trl_divergence,
        "selected": selected,
        "trl-logprobs": trl_logprobs,
    }[name](problem)


Seconds = tuple[float, float]  # wall clock, CPU of all threads


def measure_times(
    problem: LossInputs, variants: list[str], rounds: int, steps: int = 1
) -> dict[str, list[tuple[Seconds, Seconds]]]:
    """Per variant and round: its own seconds, and those of the bare products beside it."""
    found: dict[str, list[tuple[Seconds, Seconds]]] = {name: [] for name in variants}
    others = [name for name in variants if name != "bare"]
    for round_ in range(rounds + 1):
        before = timed("bare", problem, steps)
        found["bare"].append((before, before))
        for name in others:
            own, after = timed(name, problem, steps), timed("bare", problem, steps)
            found[name].append((own, ((before[0] + after[0]) / 2, (before[1] + after[1]) / 2)))
            before = after
        if not round_:  # the first round warms up
            found = {name: [] for name in variants}
    return found


def timed(name: str, problem: LossInputs, steps: int) -> Seconds:
    run = prepare(name, problem)
    problem.clear()
    wall, cpu = now(), time.process_time()
    for _ in range(steps):
        problem.clear()
        run()
    return (now() - wall) / steps, (time.process_time() - cpu) / steps


def measure_memory(problem: LossInputs, name: str) -> int:
    """Bytes beyond inputs and gradients; on a CPU for a fresh process."""
    if name.startswith("trl"):
        import trl.kernels.chunked_divergence
        import trl.kernels.chunked_logprob  # noqa: F401
    small = LossInputs(16, 512, 16, problem.hidden.dtype, problem.candidates)
    prepare(name, small)()  # libraries' own start-up allocations
    problem.clear()
    if ACCELERATOR is not None:
        peak = DevicePeak()
        prepare(name, problem)()
        return round(peak.mib() * 2**20) - problem.gradient_bytes()
    before = psutil.Process().memory_info().rss
    prepare(name, problem)()
    return round(peak_mib() * 2**20) - before - problem.gradient_bytes()


def inputs(args: argparse.Namespace, n_tokens: int, dtype: str) -> LossInputs:
    return LossInputs(n_tokens, args.vocab, args.hidden, getattr(torch, dtype), args.candidates)


def measure_all(args: argparse.Namespace) -> list[dict]:
    rows = []
    shape = [f"--{key}={getattr(args, key)}" for key in ("vocab", "hidden", "candidates", "threads", "rounds", "steps")]
    for dtype in args.dtype:
        for n_tokens in args.tokens:
            size = (*shape, "--dtype", dtype, "--tokens", str(n_tokens))
            if ACCELERATOR is not None:
                problem = inputs(args, n_tokens, dtype)
                times = measure_times(problem, args.variants, args.rounds, args.steps)
            else:
                times = child(__file__, *size, "--variants", *args.variants, "--measure", "time")
            for name in args.variants:
                if ACCELERATOR is not None:
                    memory = {"bytes": measure_memory(problem, name)}
                else:
                    memory = child(__file__, *size, "--variants", name, "--measure", "memory")
                pairs = times[name]
                ratios = [own[0] / base[0] for own, base in pairs]
                row = {
                    "dtype": dtype,
                    "tokens": n_tokens,
                    "variant": name,
                    "seconds": statistics.median(own[0] for own, _ in pairs),
                    "ratio_to_bare": statistics.median(ratios),
                    "ratio_range": [min(ratios), max(ratios)],
                    "cpu_ratio_to_bare": statistics.median(own[1] / base[1] for own, base in pairs),
                    "extra_mb": None if name == "bare" else memory["bytes"] / 1e6,
                }
                rows.append(row)
                print(markdown_row(row), flush=True)
    return rows


def markdown_row(row: dict) -> str:
    low, high = row["ratio_range"]
    extra = "-" if row["extra_mb"] is None else f"{row['extra_mb']:.0f}"
    return (
        f"| {row['dtype']} | {row['tokens']} | {row['variant']} | {row['seconds']:.4g} "
        f"| {row['ratio_to_bare']:.2f} ({low:.2f}-{high:.2f}) "
        f"| {row['cpu_ratio_to_bare']:.2f} | {extra} |"
    )


def write_report(rows: list[dict], args: argparse.Namespace) -> None:
    settings = {k: getattr(args, k) for k in ("vocab", "hidden", "candidates", "threads", "rounds", "steps")}
    settings |= {"torch": torch.__version__}
    arms = [
        arm(
            f"{row['variant']}, {row['dtype']}, T={row['tokens']}",
            row["seconds"],
            "s, forward and backward",
            None if row["extra_mb"] is None else row["extra_mb"] * 1e6 / 2**20,
            **({} if row["variant"] == "bare" else {"bare": [row["ratio_to_bare"], *row["ratio_range"]]}),
        )
        for row in rows
    ]
    header = [
        ", ".join(f"{k}={v}" for k, v in settings.items()),
        "",
        "| dtype | tokens | variant | seconds | times bare, median (range) | CPU time, times bare "
        "| MB beyond inputs and gradients |",
        "|---|---|---|---|---|---|---|",
    ]
    found = {"settings": settings, "rows": rows, "arms": arms}
    write(args.out, "loss_kernel", found, "\n".join([*header, *map(markdown_row, rows)]) + "\n")
    plot(rows, args.out / "loss_kernel.png")


def plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    figure, axes = plt.subplots(len(dtypes), 2, figsize=(10, 4 * len(dtypes)), squeeze=False)
    for (left, right), dtype in zip(axes, dtypes, strict=True):
        for name in dict.fromkeys(row["variant"] for row in rows):
            mine = [row for row in rows if row["variant"] == name and row["dtype"] == dtype]
            tokens = [row["tokens"] for row in mine]
            look = {"marker": "o", "label": name, "color": f"C{VARIANTS.index(name)}"}  # the same in both panels
            left.plot(tokens, [row["seconds"] for row in mine], **look)
            if name != "bare":
                right.plot(tokens, [row["extra_mb"] for row in mine], **look)
        left.set(title=f"{dtype}: time", xlabel="tokens", ylabel="seconds, forward and backward", ylim=(0, None))
        right.set(title=f"{dtype}: memory beyond inputs and gradients", xlabel="tokens", ylabel="MB", yscale="log")
        left.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--hidden", type=int, default=896)
    parser.add_argument("--candidates", type=int, default=5)
    parser.add_argument("--dtype", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds after the warm-up")
    parser.add_argument("--steps", type=int, default=1, help="updates that are timed as one")
    parser.add_argument("--out", type=Path, default=Path("runs/loss_kernel"))
    parser.add_argument("--measure", choices=("all", "time", "memory"), default="all", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    if args.measure == "all":
        if "bare" not in args.variants:
            args.variants = ["bare", *args.variants]
        write_report(measure_all(args), args)
        return
    problem = inputs(args, args.tokens[0], args.dtype[0])
    if args.measure == "time":
        print(json.dumps(measure_times(problem, args.variants, args.rounds, args.steps)))
    else:
        print(json.dumps({"bytes": measure_memory(problem, args.variants[0])}))


if __name__ == "__main__":
    main()
