"""`ixt-rl` check | run | annotate | report | doctor | schema; heavy modules are imported only where one needs them."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ixt_rl import __version__, backends
from ixt_rl.errors import BackendMissing, ConfigError, DataError, IxtRlError

BAD_INPUT = 2
"""Exit status when the configuration, the data or the installation must change; other failures give 1."""


def _print(text: str, style: str = "", *, stderr: bool = False) -> None:
    """Prints text as it is (no markup, no wrapping), coloured on a terminal."""
    Console(stderr=stderr, soft_wrap=True, highlight=False).print(Text(text, style=style))


def _readable_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Prints the library's own errors without a traceback and turns them into an exit status."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except IxtRlError as error:
            if os.environ.get("IXT_RL_TRACEBACK") == "1":
                raise
            _print(f"{type(error).__name__}: {error}", "red", stderr=True)
            sys.exit(BAD_INPUT if isinstance(error, ConfigError | DataError | BackendMissing) else 1)

    return wrapped


def _require_core() -> None:
    for backend in backends.BACKENDS.values():
        if backend.core:
            backends.require(backend.name, used_for="this command")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ixt-rl")
def main() -> None:
    """Post-training of language models, described by one YAML file.

    \b
    First minutes:
      ixt-rl doctor                              what is installed and works (--pool: Ray and vLLM)
      ixt-rl check configs/demo/addition.yaml    is this file right? (seconds, loads nothing)
      ixt-rl run configs/demo/addition.yaml      run it
      ixt-rl report runs/addition                write its report again
      ixt-rl annotate corpus.jsonl annotated --judge vllm:FOLDER --rubric web-text
                                                 have a judge score documents (--help: examples)

    Set IXT_RL_TRACEBACK=1 to see where an error was raised.
    """


@main.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_readable_errors
def check(files: tuple[Path, ...]) -> None:
    """Validate run files without loading anything.

    Exit status 0: all can run; 2: at least one cannot, and every problem in it was listed.

    \b
    Examples:
      ixt-rl check configs/demo/addition.yaml
      ixt-rl check configs/*/*.yaml
    """
    from ixt_rl.config.load import load_run, notes

    bad = 0
    for file in files:
        try:
            config = load_run(file)
        except ConfigError as error:
            bad += 1
            _print(str(error), "red")
            continue
        stages = ", ".join(f"{stage.name} ({stage.type})" for stage in config.stages)
        _print(f"{file}: ok - {stages}", "green")
        for note in notes(config):
            _print(f"  note: {note}", "yellow")
    if bad:
        sys.exit(BAD_INPUT)


@main.command()
@_readable_errors
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


@main.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Print the configuration with all defaults filled in, and stop.")
@click.option("--fresh", is_flag=True, help="Start over: replace what an earlier run left in the folder.")
@_readable_errors
def run(file: Path, overrides: tuple[str, ...], dry_run: bool, fresh: bool) -> None:
    """Run the stages of FILE, with any key replaced by KEY=VALUE.

    Keys are dotted; a stage goes by its index or name; values are YAML, validated like the file.
    Exit status 0: done; 2: the configuration, data or installation must change; 1: the run failed.

    \b
    Examples:
      ixt-rl run configs/demo/addition.yaml
      ixt-rl run configs/demo/addition.yaml --dry-run
      ixt-rl run configs/demo/addition.yaml name=three-seeds 'seeds=[1, 2, 3]'
      ixt-rl run configs/demo/addition.yaml stages.0.optim.lr=1e-3
    """
    from ixt_rl.config.load import dump_yaml, load_run, notes, resolved

    config = load_run(file, overrides)
    for note in notes(config):
        _print(f"note: {note}", "yellow", stderr=True)
    if dry_run:
        click.echo(dump_yaml(resolved(config)), nl=False)
        return
    _require_core()
    from ixt_rl.run import run_config

    folder = run_config(config, fresh=fresh)
    _print(f"run folder: {folder}")


@main.command()
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@click.option("--judge", required=True, help="python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER.")
@click.option("--rubric", required=True, help="Name of a shipped rubric, or a YAML file.")
@click.option("--field", metavar="FIELD=COLUMN", multiple=True, help="Column with a field of the rubric; a.b: entry.")
@click.option("--base-url", help="Address of the endpoint of openai:MODEL, up to /v1.  [default: OpenAI's]")
@click.option("--judge-option", metavar="NAME=VALUE", multiple=True, help="E.g. concurrency=64, max_model_len=8192.")
@click.option("--judge-parameters", type=int, help="Parameters of an endpoint's model, for the count of FLOPs.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0: greedy.")
@click.option("--max-tokens", type=int, default=1024, show_default=True, help="Longest answer, thinking included.")
@click.option("--repeats", type=int, default=1, show_default=True, help="Votes on every document; their mean counts.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of sampled answers.")
@click.option("--fraction", type=float, default=1.0, show_default=True, help="Share judged, by hash of the texts.")
@click.option("--check-sample", type=int, default=0, show_default=True, help="Documents asked again, for the report.")
@click.option("--retry-failed", is_flag=True, help="Ask again where requests failed in an earlier session.")
@click.option("--prefix", default="feedback", show_default=True, help="Start of the new columns' names.")
@click.option("--format", type=click.Choice(["parquet", "jsonl"]), default="parquet", show_default=True)
@click.option("--shard-rows", type=int, default=10_000, show_default=True, help="Rows of each file of OUT.")
@click.option("--cache", type=click.Path(dir_okay=False, path_type=Path), help="Share replies between jobs.")
@click.option("--prices", type=float, nargs=2, default=(0.0, 0.0), help="Per million tokens read, written.")
@click.option("--name", help="Configuration of a data set of the hub.")
@click.option("--split", default="train", show_default=True, help="Split of a data set of the hub.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Ray: judges side by side.")
@click.option("--cpus-per-worker", type=int, default=1, show_default=True, help="Ray: CPUs of each.")
@click.option("--gpus-per-worker", type=int, default=0, show_default=True, help="Ray: GPUs of each.")
@click.option("--ray-address", help="Ray: a running cluster.  [default: start Ray here]")
@_readable_errors
def annotate(source: str, out: Path, **options: Any) -> None:
    """Have a judge score the rows of IN; write them with feedback columns to OUT.

    IN is a .jsonl or .parquet file, a folder or 'pattern*' of them, or a data set of the hub. OUT is a folder; it gets
    part-000000.parquet, ... in the order of IN, annotation.html and annotation.json. The new columns are
    feedback_level (1 to 5), _scores, _critique, _judge, _status, _reason and _tokens.

    Stopped, by Ctrl-C or kill -9, the same command goes on: finished files stay, and replies of the judge are kept one
    by one. Another job in the same OUT is refused. Equal documents are asked once.

    \b
    Examples:
      # a model in this process, served by vLLM; columns `text`
      ixt-rl annotate corpus.jsonl annotated --judge vllm:models/Qwen3-8B --rubric web-text
      # the best known share of a large corpus, on four GPUs
      ixt-rl annotate 'corpus/*.parquet' annotated --judge vllm:models/Qwen3-8B --rubric web-text \\
          --fraction 0.15 --engine ray --workers 4 --gpus-per-worker 1
      # an endpoint, with its prices, and 200 documents asked twice
      ixt-rl annotate solutions.jsonl scored --judge openai:my-judge --base-url http://localhost:8000/v1 \\
          --rubric reasoning --field problem=question --field solution=answer \\
          --judge-option concurrency=64 --prices 0.1 0.4 --temperature 0.7 --check-sample 200
      # a function of yours: it gets the fields and gives a score, a label, a Verdict, or None
      ixt-rl annotate solutions.jsonl checked --judge python:judge.py:check --rubric verifier --prefix verifier
    """
    _require_core()
    from ixt_rl.annotation.command import run as run_annotation

    try:
        _print(run_annotation(source, out, options))
    except KeyboardInterrupt:
        _print("stopped; the same command goes on from here", "yellow", stderr=True)
        sys.exit(130)


@main.command()
@click.argument(
    "folders",
    metavar="FOLDER...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("comparison.html"),
    show_default=True,
    help="Where the comparison of several folders goes.",
)
@_readable_errors
def report(folders: tuple[Path, ...], out: Path) -> None:
    """Write report.html into a run's folder, or one comparison of several runs.

    \b
    Examples:
      ixt-rl report runs/addition
      ixt-rl report runs/addition runs/three-seeds --out comparison.html
    """
    _require_core()
    from ixt_rl.report import build

    if len(folders) == 1:
        _print(f"report: {build.build_report(folders[0])}")
    else:
        build.build_comparison(list(folders), out)
        _print(f"comparison: {out}")


@main.command()
@click.option("--timeout", default=120.0, show_default=True, help="Seconds after which a hanging import is given up.")
@click.option("--pool", is_flag=True, help="Check the Ray and vLLM pool by using it, in place of the imports.")
@_readable_errors
def doctor(timeout: float, pool: bool) -> None:
    """Import every package and say which work, which do not, and what repairs them.

    The imports run in child processes: the core in one, each optional package in its own.

    With --pool: start a pool of one engine on a tiny model made for it, sample, compare log-probs with
    transformers, update to other weights, compare again, end. Takes up to a minute; needs vllm and ray.

    Exit status 0: the core (with --pool: the pool) works; 1: it does not.

    \b
    Examples:
      ixt-rl doctor
      ixt-rl doctor --pool
    """
    from ixt_rl import doctor as findings_of

    console = Console()
    if pool:
        _require_core()
        from ixt_rl.rollout.pool_check import check_pool

        with console.status("starting a pool of one engine ..."):
            steps = check_pool()
        console.print(findings_of.pool_table(steps))
        sys.exit(0 if all(step.ok for step in steps) else 1)
    with console.status("importing every package in child processes ..."):
        findings = findings_of.examine(timeout)
    console.print(findings_of.table(findings))
    for finding in findings:
        if finding.repair:
            _print(f"{finding.name}: {finding.repair}")
    sys.exit(0 if all(finding.usable for finding in findings if finding.core) else 1)
