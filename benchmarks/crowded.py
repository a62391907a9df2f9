"""The demo's inner loop alone and beside a busy process, by how long OpenMP's idle threads spin.

    .venv/bin/python benchmarks/crowded.py --spin 300000 3000 --rounds 5 --out runs/crowded

For each spin count (`GOMP_SPINCOUNT`; libgomp's own is 300000, ixt-rl sets 3000) a process trains the demo's base with
`--threads` threads: updates of the base stage, documents and optimizer included. In each round each takes its turn
alone, then each beside a process that does nothing but count; the others wait meanwhile. The table has medians over
rounds of milliseconds an update, and of the ratios beside : alone of one round. Writes crowded.json and crowded.md to
--out.

On a machine with more cores than threads give `--busy` as many processes as cores, or there is nothing to wait for.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import arm, peak_mib, ratio, write

from ixt_rl.threads import usable_cores

COUNTING = [sys.executable, "-c", "while True: pass"]


def updates(threads: int) -> Iterator[float]:
    """Seconds of one update of the demo's base stage after the other."""
    import torch

    from ixt_rl.conditioning import pad, prompt_completion
    from ixt_rl.config.load import load_run
    from ixt_rl.models import new_model
    from ixt_rl.worlds import WORLDS

    torch.set_num_threads(threads)
    config = load_run("demo/addition")
    base = config.stages[0]
    world = WORLDS[base.data.world](base.data.view)
    tokenizer = world.tokenizer()
    model = new_model(config.model.new, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=base.optim.lr)
    rows = [prompt_completion(*one) for one in world.documents(base.batch_size * 8, base.seed)]
    step = 0
    while True:
        begun = time.perf_counter()
        first = step % 8 * base.batch_size
        batch = pad(rows[first : first + base.batch_size], tokenizer.pad_token_id)
        labels = batch.input_ids.masked_fill(~batch.loss_mask, -100)
        model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids,
            labels=labels,
        ).loss.backward()  # fmt: skip
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        yield time.perf_counter() - begun


def serve(threads: int) -> None:
    """For each line of stdin, seconds: updates for that long; their mean, and the process's MiB so far, on stdout."""
    loop = updates(threads)
    for _ in range(3):
        next(loop)
    print("ready", flush=True)
    for line in sys.stdin:
        taken = [next(loop)]
        while sum(taken) < float(line):
            taken.append(next(loop))
        print(statistics.mean(taken), peak_mib(), flush=True)


class Trainer:
    """A child process with a spin count of its own."""

    def __init__(self, spin: int, threads: int):
        root = Path(__file__).resolve().parents[1]
        env = os.environ | {"GOMP_SPINCOUNT": str(spin), "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}
        self.child = subprocess.Popen(
            [sys.executable, __file__, "--serve", "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip
        self._read()

    def turn(self, seconds: float) -> float:
        assert self.child.stdin is not None
        print(seconds, file=self.child.stdin, flush=True)
        mean, self.peak_mib = map(float, self._read().split())
        return mean

    def _read(self) -> str:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"a trainer ended with status {self.child.wait()}")
        return line


@contextmanager
def busy(processes: int) -> Iterator[None]:
    children = [subprocess.Popen(COUNTING) for _ in range(processes)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def measure(args: argparse.Namespace) -> tuple[dict[int, list[tuple[float, float]]], dict[int, float]]:
    """(alone, beside) of each round, seconds an update, and peak MiB, by spin count."""
    trainers = {spin: Trainer(spin, args.threads) for spin in args.spin}
    found: dict[int, list[tuple[float, float]]] = {spin: [] for spin in args.spin}
    try:
        for _ in range(args.rounds):
            alone = {spin: trainer.turn(args.seconds) for spin, trainer in trainers.items()}
            with busy(args.busy):
                for spin, trainer in trainers.items():
                    found[spin].append((alone[spin], trainer.turn(args.seconds)))
    finally:
        for trainer in trainers.values():
            trainer.child.kill()
    return found, {spin: trainer.peak_mib for spin, trainer in trainers.items()}


def report(found: dict[int, list[tuple[float, float]]], peaks: dict[int, float], args: argparse.Namespace) -> None:
    head = f"threads={args.threads}, busy={args.busy}, rounds={args.rounds}, load before={args.load:.2f}"
    lines = [head, "", "| spin count | alone, ms | beside, ms | beside : alone (range) | peak MiB |", "|---" * 5 + "|"]
    arms = []
    for spin, rounds in found.items():
        alone, beside = ([1000 * x for x in column] for column in zip(*rounds, strict=True))
        slower = ratio(beside, alone)
        names = f"alone, spin {spin}", f"beside, spin {spin}"
        arms.append(arm(names[0], statistics.median(alone), "ms an update", peaks[spin]))
        arms.append(arm(names[1], statistics.median(beside), "ms an update", peaks[spin], **{names[0]: slower}))
        lines.append(
            f"| {spin} | {arms[-2]['value']:.0f} | {arms[-1]['value']:.0f} "
            f"| {slower[0]:.1f} ({slower[1]:.1f}-{slower[2]:.1f}) | {peaks[spin]:.0f} |"
        )
    write(args.out, "crowded", {"load": args.load, "rounds": found, "arms": arms}, "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spin", type=int, nargs="+", default=[300000, 3000])
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--busy", type=int, default=1, help="processes beside")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    parser.add_argument("--out", type=Path, default=Path("runs/crowded"))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.threads)
        return
    args.load = os.getloadavg()[0]
    report(*measure(args), args)


if __name__ == "__main__":
    main()
