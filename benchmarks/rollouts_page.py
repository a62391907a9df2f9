"""Tables and figures of `rollouts.py`, from what it measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MIB = 2**20


def spread(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def tables(found: dict[str, Any]) -> Iterator[str]:
    """The report's lines; figures are medians (smallest to largest)."""
    if part := found.get("throughput"):
        speed, cores = part["tokens_per_second"], part["cores_busy"]
        single = speed["pool of 1"]
        yield from (settings_line(part), "")
        yield "| engine | tokens/s | relative to bare vLLM | relative to the pool of 1 | cores busy |"
        yield "|---|---|---|---|---|"
        for name, values in speed.items():
            ratios = [[a / b for a, b in zip(values, base, strict=True)] for base in (speed["bare vLLM"], single)]
            yield f"| {name} | " + " | ".join([spread(values, 0), *map(spread, [*ratios, cores[name]])]) + " |"
        yield from ("", f"Rounds of a pool with exactly bare vLLM's ids: {part['same_completions_as_bare']}", "")
    if part := found.get("update"):
        yield from (settings_line(part), "")
        yield f"| weight update, {part['model_mib']:.1f} MiB | seconds |"
        yield "|---|---|"
        yield from (f"| {name} | {spread(values, 3)} |" for name, values in part["seconds"].items())
        yield ""
    if part := found.get("overlap"):
        yield from (settings_line(part), "")
        yield "| GRPO, pool of 1 | seconds a step | in rollouts | of these weights and parity | share lost |"
        yield "|---|---|---|---|---|"
        for name, steps in part["steps"].items():
            columns = [[step[key] for step in steps] for key in ("step", "rollouts", "sync")]
            share = sum(columns[1]) / sum(columns[0])
            yield f"| {name} | " + " | ".join(spread(values, 3) for values in columns) + f" | {share:.0%} |"
        yield ""
    if part := found.get("memory"):
        first, last = part["samples"][0], part["samples"][-1]
        yield from (settings_line(part), "")
        yield f"| {last['rollouts']} rollouts, {part['updates']} updates | MiB at first | at the end | per 1,000 |"
        yield "|---|---|---|---|"
        for name, slope in part["mib_per_1000_rollouts_after_warm_up"].items():
            yield f"| {name} | {first[name]:.0f} | {last[name]:.0f} | {slope:+.2f} |"
        yield ""


def settings_line(part: dict[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in part["settings"].items())


def figures(found: dict[str, Any], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    def save(figure: Any, name: str) -> None:
        figure.savefig(out / f"{name}.png", dpi=150)
        pyplot.close(figure)

    if part := found.get("throughput"):
        figure, axis = pyplot.subplots(figsize=(7, 2.6), layout="constrained")
        for row, values in enumerate(part["tokens_per_second"].values()):
            axis.barh(row, statistics.median(values), color="C0", alpha=0.6)
            axis.plot(values, [row] * len(values), "k|", markersize=10)
        axis.set(xlabel="tokens/s (bar: median, ticks: rounds)", yticks=range(len(part["tokens_per_second"])))
        axis.set_yticklabels(list(part["tokens_per_second"]))
        axis.invert_yaxis()
        save(figure, "throughput")
    if part := found.get("overlap"):
        figure, axis = pyplot.subplots(figsize=(7, 2.2), layout="constrained")
        left = [0.0, 0.0]
        for label in ("training", "waiting for rollouts", "weights and parity"):
            values = []
            for steps in part["steps"].values():
                step, rollouts, sync = (statistics.mean(s[k] for s in steps) for k in ("step", "rollouts", "sync"))
                shares = {"training": step - rollouts, "weights and parity": sync}
                values.append(shares.get(label, rollouts - sync))
            axis.barh(list(part["steps"]), values, left=left, label=label)
            left = [a + b for a, b in zip(left, values, strict=True)]
        axis.set(xlabel="seconds a step, mean")
        axis.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        save(figure, "overlap")
    if part := found.get("memory"):
        figure, axis = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
        samples = part["samples"]
        for name, slope in part["mib_per_1000_rollouts_after_warm_up"].items():
            label = f"{name} ({slope:+.2f} MiB per 1,000)"
            axis.plot([s["rollouts"] for s in samples], [s[name] for s in samples], ".-", markersize=3, label=label)
        axis.axvline(samples[-1]["rollouts"] / 5, color="grey", linestyle=":", linewidth=1)
        axis.set(xlabel="rollouts (dotted: end of warm-up)", ylabel="resident memory, MiB")
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=8)
        save(figure, "memory")
