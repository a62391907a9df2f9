"""`ixt-rl plan`: memory of a device and time of an update, before anything runs."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from ixt_rl.cli.shell import readable_errors, say

if TYPE_CHECKING:
    from ixt_rl.planning.plan import StagePlan

TOO_LARGE = 1
"""Exit status where a stage does not fit."""


@click.command()
@click.argument("file", metavar="FILE")
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--gpus", metavar="NAME[xCOUNT]", help="H100x8, A100-40, RTX4090, ...; default: this machine's CPUs.")
@click.option(
    "--strategy",
    type=click.Choice(["ddp", "zero1", "zero2", "zero3", "fsdp2"]),
    help="What each of several training devices holds.  [default: the file's launch.strategy]",
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(1),
    help="Mean length of a prompt.  [default: 200; of prefixes half of the longest]",
)
@click.option("--completion-tokens", type=click.IntRange(1), help="Mean length.  [default: half of max_new_tokens]")
@click.option(
    "--kept", type=click.FloatRange(0, 1), help="Share of rationales that InTRO and RAFT keep.  [default: 0.5]"
)
@readable_errors
def plan(file: str, overrides: tuple[str, ...], gpus: str | None, strategy: Any, **means: Any) -> None:
    """Say what FILE would take of a device, part by part, and how long an update would take; load nothing.

    FILE and KEY=VALUE are those of `run`. A model is a folder (its config.json is enough), or a name of a known shape,
    such as Qwen/Qwen2.5-7B. Memory is for the longest rows that the file allows; times are FLOPs and bytes over what a
    device reaches, stated below the table. What does not fit is said, with the nearest change that does.
    Exit status 0: all fits; 1: something does not; 2: the file or a word is wrong.

    \b
    Examples:
      ixt-rl plan demo/addition
      ixt-rl plan intro/math --gpus H100
      ixt-rl plan intro/math model.path=Qwen/Qwen2.5-7B --gpus H100x8 --strategy zero3
      ixt-rl plan intro/math --gpus A10x8 launch.ranks=8 launch.strategy=fsdp2 launch.offload=true
    """
    from ixt_rl.config.load import load_run
    from ixt_rl.planning.advice import nearest
    from ixt_rl.planning.devices import machine as machine_of
    from ixt_rl.planning.plan import plan_run
    from ixt_rl.planning.shapes import shape_of
    from ixt_rl.planning.work import Assumed

    config = load_run(file, overrides)
    launch = config.launch
    machine = machine_of(gpus, strategy or launch.strategy, launch.offload, launch.ranks)
    assumed = Assumed(**{key: value for key, value in means.items() if value is not None})
    shape, plans = shape_of(config.model), plan_run(config, machine, assumed)
    say(f"{machine.described}; model of {shape.parameters / 1e9:.3g} B parameters")
    for found in plans:
        _show(found)
        if found.planned and launch.ranks not in (1, found.ranks):
            say(f"  launch.ranks={launch.ranks}, and this is a plan for {found.ranks} training devices", "yellow")
    reach = machine.device.efficiency
    say(
        f"\ntimes take for given: {reach.train:.0%} of the device's FLOP/s in training, {reach.forward:.0%} in passes "
        f"without gradient, {reach.decode:.0%} of its bytes/s in sampling; {assumed.described}"
    )
    misfit = False
    for index, found in enumerate(plans):
        for said in found.misfits:
            misfit = True
            say(said, "red")
        if found.misfits:
            change = nearest(config, index, machine, assumed)
            say(
                "  nothing tried makes it fit: smaller micro-batches, checkpointing, more devices, LoRA"
                if change is None
                else f"  fits with {_as_typed(change.words)}: {_size(change.plan.peak)}",
                "yellow",
            )
    if misfit:
        sys.exit(TOO_LARGE)


def _show(found: StagePlan) -> None:
    """The memory and the time of one stage."""
    say(f"\n{found.name} ({found.type})", "bold")
    if not found.planned:
        say("  " + "; ".join(found.notes))
        return
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for part in found.parts:
        table.add_row(part.name, _size(part.bytes), _WHEN[part.when])
    table.add_row("peak", _size(found.peak), f"of {_size(found.limit)} that a device has for it")
    for part in found.engine:
        table.add_row(part.name, _size(part.bytes), "on a device of its own")
    for phase, seconds in found.seconds.items():
        speed = f", {found.sampled / seconds:,.0f} tokens/s" if phase == "sampling" else ""
        table.add_row(phase, _time(seconds), f"an update{speed}")
    if found.device_hours is not None:
        devices = "a device" if found.devices == 1 else f"{found.devices} devices together"
        table.add_row("all updates", _time(3600 * found.device_hours), f"of {devices}, a seed")
    Console(width=110, highlight=False).print(table)
    for note in found.notes:
        say(f"  {note}")


def _as_typed(words: tuple[str, ...]) -> str:
    return " ".join(word if word.startswith("--") else shlex.quote(word) for word in words)


def _size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**27 else f"{count / 2**20:.1f} MiB"


def _time(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.3g} s"


_WHEN = {"always": "", "training": "while it trains", "rollout": "while it samples", "host": "in the host's memory"}
