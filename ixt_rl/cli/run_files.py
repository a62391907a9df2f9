"""`ixt-rl` run | check | demo | configs | methods | schema: the commands on run files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ixt_rl.cli.shell import BAD_INPUT, readable_errors, require_core, say
from ixt_rl.errors import ConfigError
from ixt_rl.place import follows, place
from ixt_rl.redaction import without_secrets


@click.command()
@click.argument("words", metavar="FILE... [KEY=VALUE]...", nargs=-1, required=True)
@readable_errors
def check(words: tuple[str, ...]) -> None:
    """Validate run files without loading anything, with any key replaced by KEY=VALUE as in `run`.

    FILE is a path, or a name that `ixt-rl configs` lists. A KEY=VALUE counts for every FILE.
    Exit status 0: all can run; 2: at least one cannot, and every problem in it was listed.

    \b
    Examples:
      ixt-rl check demo/addition
      ixt-rl check configs/ixt/*.yaml
      ixt-rl check mine.yaml 'seeds=[1, 2, 3]' stages.0.optim.lr=1e-3
    """
    from ixt_rl.config.load import load_run, notes

    files, overrides = _sorted_words(words)
    bad = 0
    for file in files:
        try:
            config = load_run(file, overrides)
        except ConfigError as error:
            bad += 1
            say(str(error), "red")
            continue
        stages = ", ".join(f"{stage.name} ({stage.type})" for stage in config.stages)
        say(f"{file}: ok - {stages}", "green")
        for note in notes(config):
            say(f"  note: {note}", "yellow")
    if bad:
        sys.exit(BAD_INPUT)


def _sorted_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files and overrides: what holds a `=` is an override, unless a file is called so."""
    overrides = [word for word in words if "=" in word and not os.path.exists(word)]
    files = [word for word in words if word not in overrides]
    if not files:
        raise ConfigError(
            f"check {' '.join(words)}",
            reason="every word is KEY=VALUE, and none names a file",
            remedy="put a YAML file before them, or a name that `ixt-rl configs` lists",
        )
    return files, overrides


@click.command()
@readable_errors
def schema() -> None:
    """Print the JSON schema of a run file.

    Editors complete and check YAML with it.

    \b
    Example:
      ixt-rl schema > ixt-rl.schema.json
    """
    import json

    from ixt_rl.config.schema import RunConfig

    click.echo(json.dumps(RunConfig.model_json_schema(), indent=2))


def _running(command: Callable[..., None]) -> Callable[..., None]:
    """The words and options of a command that runs a file."""
    for option in (
        click.option("--fresh", is_flag=True, help="Start over: replace what an earlier run left in the folder."),
        click.option("--dry-run", is_flag=True, help="Print all defaults, and what each stage would do."),
        click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("file", metavar="FILE")
@_running
@readable_errors
def run(file: str, overrides: tuple[str, ...], dry_run: bool, fresh: bool) -> None:
    """Run the stages of FILE, with any key replaced by KEY=VALUE.

    FILE is a path, or a name that `ixt-rl configs` lists; a path that exists wins.
    Keys are dotted; a stage goes by its index or name; values are YAML, validated like the file.
    Stopped, by Ctrl-C, SIGTERM or kill -9, the same command goes on. A finished stage is reused unless something that
    it depends on has changed.
    Exit status 0: done; 2: the configuration, data or installation must change; 1: the run failed; 130: Ctrl-C; 143:
    SIGTERM. What a stage can be: `ixt-rl methods`.

    \b
    Examples:
      ixt-rl run demo/addition
      ixt-rl run mine.yaml --dry-run
      ixt-rl run demo/addition name=three-seeds 'seeds=[1, 2, 3]'
      ixt-rl run demo/addition stages.0.optim.lr=1e-3
      ixt-rl run demo/addition launch.ranks=2
    """
    _run(file, overrides, dry_run, fresh)


@click.command()
@_running
@readable_errors
def demo(overrides: tuple[str, ...], dry_run: bool, fresh: bool) -> None:
    """Run the demo: `ixt-rl run demo/addition`, with any key replaced by KEY=VALUE.

    A small model is pretrained, then improved by InTRO, GRPO, RAFT and told-NLL: minutes on two cores, no download.
    It ends with runs/addition/report.html.

    \b
    Examples:
      ixt-rl demo
      ixt-rl demo 'seeds=[1, 2, 3]'
    """
    from ixt_rl.config.shipped import DEMO

    _run(DEMO, overrides, dry_run, fresh)


def _run(file: str, overrides: Sequence[str], dry_run: bool, fresh: bool) -> None:
    from ixt_rl.config.load import dump_yaml, load_run, notes, resolved

    config = load_run(file, overrides)
    starts = config.launch.ranks > 1 and place().size == 1 and not dry_run
    for note in [] if starts or follows() else notes(config):  # rank 0 says them
        say(f"note: {note}", "yellow", stderr=True)
    if dry_run:
        from ixt_rl.run.plan import plan

        click.echo(without_secrets(dump_yaml(resolved(config))), nl=False)
        for line in plan(config):
            say(line, stderr=True)
        return
    require_core()
    if starts:
        from ixt_rl.run.ranks.start import start_ranks

        words = ["run", file, *overrides, *(["--fresh"] if fresh else [])]
        say(f"starting {config.launch.ranks} ranks ({config.launch.strategy}); each loads torch first", stderr=True)
        sys.exit(start_ranks(words, config.launch.ranks, cluster=config.engine.pool.address is not None))
    from ixt_rl.run import run_config

    folder = run_config(config, fresh=fresh)
    if not follows():
        say(f"run folder: {folder}")


@click.command()
@click.argument("name", required=False)
@readable_errors
def configs(name: str | None) -> None:
    """List the run files that come with ixt-rl; print the one called NAME.

    \b
    Examples:
      ixt-rl configs
      ixt-rl configs ixt/chain > mine.yaml
    """
    from ixt_rl.config.shipped import names, shipped

    if name is not None:
        click.echo(shipped(name).path.read_text(encoding="utf-8"), nl=False)
        return
    found = [shipped(one) for one in names()]
    print_rows(("name", "what it shows", "how long"), [(one.name, one.about, one.time) for one in found])


@click.command()
@readable_errors
def methods() -> None:
    """List what a stage of a run file can be: the values of `type`, those of installed packages included.

    \b
    Example:
      ixt-rl methods
    """
    from ixt_rl.methods.registry import described

    print_rows(("type", "what a stage of it does"), described())


def print_rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as the terminal; elsewhere a line a row, with tabs between what it has."""
    console = Console()
    if not console.is_terminal:
        for row in (heads, *rows):
            click.echo("\t".join(row).rstrip())
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, no_wrap=head == heads[0])
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


COMMANDS = (run, check, demo, configs, methods, schema)
