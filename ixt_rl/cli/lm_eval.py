"""`ixt-rl lm-eval`: a model in EleutherAI's lm-evaluation-harness, in a process and an environment of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ixt_rl.cli.shell import readable_errors, require_core


@click.command("lm-eval")
@click.argument("model")
@click.argument("model_args", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--tasks", metavar="A,B,...", required=True, help="Tasks or groups of lm_eval.")
@click.option("--limit", type=click.IntRange(1), help="First N questions of each task.  [default: all]")
@click.option("--num-fewshot", type=click.IntRange(0), help="Examples in a prompt.  [default: the task's]")
@click.option("--batch-size", metavar="N|auto", help="Prompts at once.  [default: lm_eval's, 1]")
@click.option("--apply-chat-template", is_flag=True, help="Ask in the tokenizer's chat template.")
@click.option(
    "--include-path", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of task files."
)
@click.option("--python", metavar="PATH", help="Interpreter that has lm_eval.  [default: one made in the cache]")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the results.")
@readable_errors
def lm_eval(model: str, model_args: tuple[str, ...], **words: Any) -> None:
    """Measure MODEL with lm-evaluation-harness 0.4.13 (`--model hf`), which runs beside ixt-rl.

    MODEL is what `ixt-rl eval` takes: a Hugging Face folder, a hub id, a run's folder, or a stage in it. KEY=VALUE goes
    into lm_eval's --model_args: dtype=float32, max_length=2048, trust_remote_code=True.

    Its own environment is made once, in ~/.cache/ixt-rl ($XDG_CACHE_HOME): pip needs an index then, or name one with
    --python. OUT/lm-eval/ gets lm_eval's files as it writes them, every sample with them; OUT/lm-eval.json the numbers,
    command, versions and seconds. Data sets come from the hub, as lm_eval loads them; HF_HUB_OFFLINE=1 holds there too.

    Exit status 0: done; 2: words or installation must change; 1: lm_eval failed; 130: Ctrl-C; 143: SIGTERM.

    \b
    Examples:
      ixt-rl lm-eval models/smollm2 --tasks gsm8k --limit 20 --out lm-eval/smollm2
      ixt-rl lm-eval runs/addition/stages/intro --tasks minerva_math500 --batch-size auto --out lm-eval/intro
      ixt-rl lm-eval models/smollm2 dtype=float32 --tasks sums --include-path tasks --out lm-eval/sums
    """
    require_core()
    from ixt_rl.cli.lm_eval_job import run

    run(model, model_args, words, os.environ)
