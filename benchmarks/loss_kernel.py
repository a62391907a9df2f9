"""Time and memory of the fused InTRO loss against its four bare matrix products, a plain version and TRL's kernels.

    python benchmarks/loss_kernel.py --tokens 512 1024 2048 --dtype float32 bfloat16 --threads 2 --out runs/loss_kernel

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
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from common import arm, child, peak_mib, write

from ixt_rl.kernels import Head, IntroSpec, intro_loss, selected_logprobs

VARIANTS = ("bare", "plain", "plain-exact", "fused", "fused-exact", "trl-divergence", "selected", "trl-logprobs")


class LossInputs:
    """Inputs of one size: hidden states whose logits look like a language model's (entropy of a few nats)."""

    def __init__(self, n_tokens: int, vocab: int, dim: int, dtype: torch.dtype, candidates: int):
        torch.manual_seed(0)
        self.weight = torch.empty(vocab, dim, dtype=dtype).normal_(std=4 / dim**0.5).requires_grad_()
        self.hidden = torch.empty(n_tokens, dim, dtype=dtype).normal_().requires_grad_()
        self.posterior_hidden = self.hidden.detach() + torch.empty(n_tokens, dim, dtype=dtype).normal_(std=0.1)
        self.tokens = torch.randint(vocab, (n_tokens,))
        self.token_weights = torch.full((n_tokens,), 1 / n_tokens)
        self.candidates = candidates

    def clear(self) -> None:
        self.hidden.grad = self.weight.grad = None

    def gradient_bytes(self) -> int:
        grads = (self.hidden.grad, self.weight.grad)
        return sum(g.numel() * g.element_size() for g in grads if g is not None)


def bare(problem: LossInputs) -> Callable[[], None]:
    h, h_q, w = problem.hidden.detach(), problem.posterior_hidden, problem.weight.detach()
    logits = torch.zeros(len(h), len(w), dtype=h.dtype)
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


def prepare(name: str, problem: LossInputs) -> Callable[[], None]:
    return {
        "bare": bare,
        "plain": plain,
        "plain-exact": plain_exact,
        "fused": fused,
        "fused-exact": lambda p: fused(p, "exact"),
        "trl-divergence": trl_divergence,
        "selected": selected,
        "trl-logprobs": trl_logprobs,
    }[name](problem)


Seconds = tuple[float, float]  # wall clock, CPU of all threads


def measure_times(problem: LossInputs, variants: list[str], rounds: int) -> dict[str, list[tuple[Seconds, Seconds]]]:
    """Per variant and round: its own seconds, and those of the bare products beside it."""
    found: dict[str, list[tuple[Seconds, Seconds]]] = {name: [] for name in variants}
    others = [name for name in variants if name != "bare"]
    for round_ in range(rounds + 1):
        before = timed("bare", problem)
        found["bare"].append((before, before))
        for name in others:
            own, after = timed(name, problem), timed("bare", problem)
            found[name].append((own, ((before[0] + after[0]) / 2, (before[1] + after[1]) / 2)))
            before = after
        if not round_:  # the first round warms up
            found = {name: [] for name in variants}
    return found


def timed(name: str, problem: LossInputs) -> Seconds:
    run = prepare(name, problem)
    problem.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure_memory(problem: LossInputs, name: str) -> int:
    """Bytes beyond inputs and gradients; for a fresh process."""
    if name.startswith("trl"):
        import trl.kernels.chunked_divergence
        import trl.kernels.chunked_logprob  # noqa: F401
    small = LossInputs(16, 512, 16, problem.hidden.dtype, problem.candidates)
    prepare(name, small)()  # libraries' own start-up allocations
    before = psutil.Process().memory_info().rss
    prepare(name, problem)()
    return round(peak_mib() * 2**20) - before - problem.gradient_bytes()


def measure_all(args: argparse.Namespace) -> list[dict]:
    rows = []
    shape = [f"--{key}={getattr(args, key)}" for key in ("vocab", "hidden", "candidates", "threads", "rounds")]
    for dtype in args.dtype:
        for n_tokens in args.tokens:
            size = (*shape, "--dtype", dtype, "--tokens", str(n_tokens))
            times = child(__file__, *size, "--variants", *args.variants, "--measure", "time")
            for name in args.variants:
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
        f"| {row['dtype']} | {row['tokens']} | {row['variant']} | {row['seconds']:.2f} "
        f"| {row['ratio_to_bare']:.2f} ({low:.2f}-{high:.2f}) "
        f"| {row['cpu_ratio_to_bare']:.2f} | {extra} |"
    )


def write_report(rows: list[dict], args: argparse.Namespace) -> None:
    settings = {k: getattr(args, k) for k in ("vocab", "hidden", "candidates", "threads", "rounds")}
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
    problem = LossInputs(args.tokens[0], args.vocab, args.hidden, getattr(torch, args.dtype[0]), args.candidates)
    if args.measure == "time":
        print(json.dumps(measure_times(problem, args.variants, args.rounds)))
    else:
        print(json.dumps({"bytes": measure_memory(problem, args.variants[0])}))


if __name__ == "__main__":
    main()
