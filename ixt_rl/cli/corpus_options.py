"""Options that the commands of all jobs share; imports nothing heavy, because the command line does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]


def asking(role: str, what: str = "answer") -> Callable[[Command], Command]:
    """Whom to ask, a `judge` or a `rewriter`, and how; `what` it writes."""
    forms = "python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER."
    return all_of(
        click.option(f"--{role}", required=True, help=forms),
        click.option("--base-url", help="Address of the endpoint of openai:MODEL, up to /v1.  [default: OpenAI's]"),
        click.option(
            f"--{role}-option", metavar="NAME=VALUE", multiple=True, help="E.g. concurrency=64, max_model_len=8192."
        ),
        click.option(f"--{role}-parameters", type=int, help="Parameters of an endpoint's model, to count FLOPs."),
        click.option("--temperature", type=float, default=0.0, show_default=True, help="0: greedy."),
        click.option(
            "--max-tokens", type=int, default=1024, show_default=True, help=f"Longest {what}, thinking included."
        ),
        click.option("--seed", type=int, default=0, show_default=True, help=f"Of sampled {what}s."),
        click.option("--retry-failed", is_flag=True, help="Ask again where requests failed in an earlier session."),
        click.option("--prices", type=float, nargs=2, default=(0.0, 0.0), help="Per million tokens read, written."),
        click.option("--cache", type=click.Path(dir_okay=False, path_type=Path), help="Share replies between jobs."),
    )


def files() -> Callable[[Command], Command]:
    """What is read and written."""
    return all_of(
        click.option("--format", type=click.Choice(["parquet", "jsonl"]), default="parquet", show_default=True),
        click.option("--shard-rows", type=int, default=10_000, show_default=True, help="Rows of each file of OUT."),
        click.option("--name", help="Configuration of a data set of the hub."),
        click.option("--split", default="train", show_default=True, help="Split of a data set of the hub."),
    )


def workers(role: str) -> Callable[[Command], Command]:
    """Where judges or rewriters run."""
    return all_of(
        click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True),
        click.option(
            "--workers", type=click.IntRange(1), default=1, show_default=True, help=f"Ray: {role}s side by side."
        ),
        click.option("--cpus-per-worker", type=int, default=1, show_default=True, help="Ray: CPUs of each."),
        click.option("--gpus-per-worker", type=int, default=0, show_default=True, help="Ray: GPUs of each."),
        click.option("--ray-address", help="Ray: a running cluster.  [default: start Ray here]"),
    )


def excerpts() -> Callable[[Command], Command]:
    """From which documents examples are made, and who spoils them."""
    return all_of(
        click.argument("source", metavar="IN"),
        click.argument("out", metavar="OUT.jsonl", type=click.Path(dir_okay=False, path_type=Path)),
        click.option("--tokenizer", required=True, help="In whose tokens documents are cut: FOLDER, or bytes."),
        click.option("--suffix-tokens", type=int, default=128, show_default=True, help="Tokens of a suffix."),
        click.option(
            "--max-prefix-tokens", type=int, default=1920, show_default=True, help="Longer ones lose their head."
        ),
        click.option("--text", default="text", show_default=True, help="Column of the document, or of the reply."),
        click.option("--prompt", help="Column of what the text replies to.  [default: none]"),
        click.option("--label", help="Column that says whether the text is fine; it is then not spoiled."),
        click.option(
            "--documents", type=click.IntRange(1), help="Use the first so many that can be cut.  [default: all]"
        ),
        click.option(
            "--spoiler", multiple=True, help="other, sentences, words, repeat, cut, junk, model.  [default: all]"
        ),
        click.option("--model", help="Who is the spoiler `model`: openai:MODEL, hf:FOLDER, vllm:FOLDER, python:..."),
        click.option("--model-option", metavar="NAME=VALUE", multiple=True, help="E.g. concurrency=64."),
        click.option("--base-url", help="Address of the endpoint of openai:MODEL, up to /v1."),
        click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the model."),
        click.option("--max-tokens", type=int, default=512, show_default=True, help="Longest answer of the model."),
        click.option(
            "--cache", type=click.Path(dir_okay=False, path_type=Path), help="File to keep the model's replies."
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Of who spoils what, and how."),
    )


def all_of(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Decorators as one, in the order in which help lists them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
