"""`ixt-rl eval`: a model on suites of benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ixt_rl.cli.shell import readable_errors, require_core, say
from ixt_rl.cli.suite_options import questions, sampling


@click.command("eval")
@click.argument("model", required=False)
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@questions()
@click.option("--preset", default="paper", show_default=True, help="Prompt, sampling, extraction: name or YAML file.")
@click.option("--samples", type=click.IntRange(1), help="Answers a question.  [default: preset's and suite's]")
@click.option("--max-tokens", type=click.IntRange(1), help="Longest answer.  [default: preset's]")
@click.option("--temperature", type=click.FloatRange(0), help="0: greedy.  [default: preset's]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of all that is drawn.")
@sampling()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="[default: evaluations/MODEL's name]")
@click.option(
    "--as",
    "harnesses",
    metavar="HARNESS",
    multiple=True,
    help="Grade by another harness' rules too: qwen25-math, lm-eval, ...",
)
@click.option("--regrade", is_flag=True, help="Grade anew what --out holds; samples nothing and needs no model.")
@readable_errors
def evaluate(model: str | None, overrides: tuple[str, ...], **words: Any) -> None:
    """Measure MODEL on suites of benchmarks; every sample goes into a folder, with its verdict and why.

    MODEL is a Hugging Face folder, a hub id, a run's folder, or a stage in it: runs/NAME/stages/STAGE[/seed1].

    The folder gets evaluation.json (what is measured, how), records.jsonl (a line a sample), results.json and
    report.html. Beside each score stand the shares of answers that were undecided, cut at the limit or not found: what
    is undecided is in no score, and counted. Intervals are 95 %, over questions.

    Stopped, by Ctrl-C or kill -9, the same command goes on. Another evaluation in the same folder is refused.
    KEY=VALUE sets what a run file has in `engine` and `model`: engine.vllm.*, engine.pool.*, model.attention.

    Exit status 0: done; 2: words, data, model or installation must change; 1: it failed; 130: Ctrl-C; 143: SIGTERM.

    \b
    Examples:
      ixt-rl suites                                     what --suite and --preset can be
      ixt-rl eval models/smollm2 --suite gsm8k,math500 --data data --limit 50
      ixt-rl eval Qwen/Qwen3-1.7B --suite amc23,aime25 --data data --engine ray-vllm engine.pool.engines=8
      ixt-rl eval runs/addition/stages/intro --suite mine.yaml --data data
      ixt-rl eval models/smollm2 --suite rows.jsonl --field question=problem --field answer=gold
      ixt-rl eval --regrade --out evaluations/smollm2 --as lm-eval
    """
    require_core()
    from ixt_rl.cli.evaluate_job import regraded, run
    from ixt_rl.cli.evaluate_table import show
    from ixt_rl.report.evaluations.page import build_evaluation_page

    if words["regrade"]:
        folder, results, said = regraded(model, words)
    else:
        folder, results, said = run(model, overrides, words)
    for line in said:
        say(line, "yellow", stderr=True)
    show(results)
    say(f"records and results: {folder}")
    say(f"report: {build_evaluation_page([folder], folder / 'report.html')}")
