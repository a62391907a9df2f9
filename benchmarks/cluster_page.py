"""The tables of cluster.py."""

from __future__ import annotations

from typing import Any

TITLES = {
    "phases": "an update",
    "broadcast": "new weights by broadcast",
    "object-store": "new weights through the object store",
}


def text(found: dict[str, Any]) -> str:
    """Markdown: what was measured, what is assumed, what follows."""
    settings, simulated = found["settings"], found["simulated"]
    lines = ["| measured here | |", "|---|---|", *(f"| {name} | {value} |" for name, value in measured(found))]
    lines += ["", "| assumed | |", "|---|---|"]
    lines += [f"| {name} | {value:g} |" for name, value in found["assumed"].items()]
    size = simulated["weights_bytes"] / 1e9
    what = f"{settings['trainers']} trainers, {settings['engines']} engines, {settings['model']} ({size:.1f} GB)"
    lines += ["", f"| {what} | s |", "|---|---|"]
    for part, title in TITLES.items():
        lines.append(f"| **{title}** | **{sum(simulated[part].values()):.1f}** |")
        lines += [f"| {name} | {seconds:.2f} |" for name, seconds in simulated[part].items()]
    return "\n".join(lines) + "\n"


def measured(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of what was measured: its name and its value in words."""
    parts, n = found["measured"], found["settings"]["n"]
    sizes, rates = parts["messages"], parts["rates"]
    rows = [
        (f"bytes of a request, of its {n} rollouts", f"{sizes['request_bytes']:,.0f}, {sizes['answer_bytes']:,.0f}")
    ]
    for engines, rate in parts["dispatching"]["rates"].items():
        cost = 1000 * rate["cpu_seconds_per_group"]
        said = f"{rate['groups_per_second']:,.0f} groups/s, {cost:.2f} ms of a core a group"
        rows.append((f"dispatcher, engines that answer at once: {engines}", said))
    batch = f"{sizes['batch_bytes'] / 1e6:.0f} MB, {sizes['write_seconds']:.2f} s, {sizes['read_seconds']:.2f} s"
    rows += [
        ("asking all engines twice, a core", f"{parts['dispatching']['ask_seconds']:.3f} s"),
        ("rollouts of a batch, pickled, written, read", batch),
        ("checksums, object store, a core", f"{rates['checksum'] / 1e9:.1f}, {rates['store'] / 1e9:.1f} GB/s"),
    ]
    for ranks, each in parts["meetings"].items():
        said = f"{1000 * each['seconds']:.1f} ms, {1000 * each['cpu_seconds']:.2f} ms of a core for all"
        rows.append((f"meetings of a bucket of the broadcast, {ranks} ranks", said))
    return rows
