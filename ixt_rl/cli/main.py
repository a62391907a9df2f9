"""`ixt-rl` check | run | annotate | rewrite | ... | doctor; heavy modules are imported only where one needs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ixt_rl import __version__
from ixt_rl.cli import corpus_options as options
from ixt_rl.cli import run_files
from ixt_rl.cli.contamination import contamination
from ixt_rl.cli.evaluate import evaluate
from ixt_rl.cli.lm_eval import lm_eval
from ixt_rl.cli.merge import merge
from ixt_rl.cli.model import model
from ixt_rl.cli.plan import plan
from ixt_rl.cli.shell import readable_errors, require_core, say
from ixt_rl.cli.suites import suites
from ixt_rl.quiet import quiet_imports
from ixt_rl.threads import keep_to_quota


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ixt-rl")
@click.option("--local_rank", "--local-rank", hidden=True, expose_value=False)  # DeepSpeed's launcher adds it
def main() -> None:
    """Post-training of language models, described by one YAML file.

    \b
    First minutes:
      ixt-rl doctor                    what is installed and works (--pool: Ray and vLLM)
      ixt-rl demo                      a first run: minutes on two cores, no download
      ixt-rl configs                   the run files that come with ixt-rl; `configs NAME` prints one
      ixt-rl methods                   what a stage of a run file can be
      ixt-rl check mine.yaml           is this file right? (seconds, loads nothing)
      ixt-rl plan mine.yaml            what would it take of a device, how long? (--gpus H100x8)
      ixt-rl run mine.yaml             run it
      ixt-rl report runs/addition      write its report again
      ixt-rl eval MODEL --suite gsm8k  measure a model on suites of benchmarks
      ixt-rl lm-eval MODEL --tasks gsm8k --out DIR
                                       the same model in EleutherAI's lm-evaluation-harness
      ixt-rl model smollm2 DIR         a small released model to start from
      ixt-rl merge runs/mine OUT       a run's adapter and its base as one ordinary model
      ixt-rl suites                    benchmarks, and the ways of asking them
      ixt-rl contamination train.jsonl --suite gsm8k --data DIR
                                       which of a benchmark's questions stand in training files
      ixt-rl annotate corpus.jsonl annotated --judge vllm:FOLDER --rubric web-text
                                       have a judge score documents (--help: examples)
      ixt-rl rewrite --help            have a rewriter improve how documents go on, for SIP

    Set IXT_RL_TRACEBACK=1 to see where an error was raised.
    """
    keep_to_quota()
    quiet_imports()


for _command in (*run_files.COMMANDS, plan, evaluate, lm_eval, model, merge, suites, contamination):
    main.add_command(_command)


@main.command()
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@options.asking("judge")
@click.option("--rubric", required=True, help="Name of a shipped rubric, or a YAML file.")
@click.option("--field", metavar="FIELD=COLUMN", multiple=True, help="Column with a field of the rubric; a.b: entry.")
@click.option("--repeats", type=int, default=1, show_default=True, help="Votes on every document; their mean counts.")
@click.option("--fraction", type=float, default=1.0, show_default=True, help="Share judged, by hash of the texts.")
@click.option("--check-sample", type=int, default=0, show_default=True, help="Documents asked again, for the report.")
@click.option("--prefix", default="feedback", show_default=True, help="Start of the new columns' names.")
@options.files()
@options.workers("judge")
@readable_errors
def annotate(source: str, out: Path, **words: Any) -> None:
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
    require_core()
    from ixt_rl.cli.annotate import run as run_annotation

    say(run_annotation(source, out, words))


@main.group()
def examples() -> None:
    """Make rows to train a judge or a rewriter on, from documents.

    Documents are cut into a prefix and a suffix. The suffixes are spoiled, so that it is known which one is worse.
    Equal commands write equal files.

    \b
    Next:
      ixt-rl run sip/judge stages.train.data.path=pairs.jsonl
      ixt-rl run sip/rewriter stages.train.data.path=rewrites.jsonl
    """


@examples.command("judge")
@options.excerpts()
@click.option("--rubric", default="pairwise-quality", show_default=True, help="What the judge is asked: name or file.")
@readable_errors
def examples_judge(source: str, out: Path, rubric: str, **words: Any) -> None:
    """Write rows of `prompt` and `label`: which of two suffixes is the original, asked in both orders.

    IN is a .jsonl, .json or .parquet file, a folder or 'pattern*' of them. With --label, rows are single continuations
    with the label of their document: yes or no (true or false) for --rubric safety.

    \b
    Examples:
      ixt-rl examples judge corpus.jsonl pairs.jsonl --tokenizer models/Llama-3.1-8B
      ixt-rl examples judge corpus.jsonl pairs.jsonl --tokenizer bytes --spoiler other --spoiler words --documents 500
      # spoiled by a language model, too
      ixt-rl examples judge 'corpus/*.parquet' pairs.jsonl --tokenizer models/Llama-3.1-8B \\
          --model vllm:models/Qwen3-8B --cache spoiled.sqlite
      # is it safe? answers to prompts, with a column `is_safe`
      ixt-rl examples judge replies.jsonl safety.jsonl --tokenizer bytes --rubric safety \\
          --prompt question --text answer --label is_safe
    """
    require_core()
    from ixt_rl.cli.examples import run as run_examples

    say(run_examples("judge", source, out, rubric, words))


@examples.command("rewriter")
@options.excerpts()
@click.option("--rewrite", default="quality", show_default=True, help="What the rewriter is asked: name or file.")
@click.option("--label-rubric", default="safety", show_default=True, help="Whose labels --label has.")
@readable_errors
def examples_rewriter(source: str, out: Path, rewrite: str, **words: Any) -> None:
    """Write rows of `prompt` and `good`: originals, which are to be copied, and spoiled ones, to be rewritten.

    IN is as for `examples judge`. With --label, a suffix is to be copied where its document's label is the best one
    (yes for safety), and to be rewritten elsewhere.

    \b
    Examples:
      ixt-rl examples rewriter corpus.jsonl rewrites.jsonl --tokenizer models/Llama-3.1-8B
      ixt-rl examples rewriter replies.jsonl unsafe.jsonl --tokenizer bytes --rewrite safety \\
          --prompt question --text answer --label is_safe
    """
    require_core()
    from ixt_rl.cli.examples import run as run_examples

    say(run_examples("rewriter", source, out, rewrite, words))


@main.command()
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@options.asking("rewriter")
@click.option(
    "--prompt", required=True, help="quality, safety, reasoning, table, faq, tutorial, math, a YAML file, or thoughts."
)
@click.option("--tokenizer", type=click.Path(path_type=Path), help="Folder of the model that SIP will train.")
@click.option("--suffix-tokens", type=int, help="Tokens of a suffix, EOS included, and most of a rewrite.")
@click.option("--max-prefix-tokens", type=int, help="Longest prefix; it loses its beginning.  [default: 1920]")
@click.option("--min-prefix-tokens", type=int, help="Shorter documents are skipped.  [default: 1]")
@click.option("--field", metavar="FIELD=COLUMN", multiple=True, help="Column of the `text`; and of a `prompt`, if any.")
@options.files()
@options.workers("rewriter")
@readable_errors
def rewrite(source: str, out: Path, **words: Any) -> None:
    """Have a rewriter improve how the documents of IN go on; write rows, ids and rewrites to OUT.

    IN is a .jsonl or .parquet file, a folder or 'pattern*' of them, or a data set of the hub. Each document is cut into
    a prefix and the --suffix-tokens at its end, as SIP cuts them. The rewriter leaves a good suffix alone (the row then
    keeps the suffix's own ids) and writes a better one in place of a poor one. OUT gets part-000000.parquet, ... in the
    order of IN, rewriting.html and rewriting.json. The new columns are prefix_ids, suffix_ids, rewrite, rewrite_ids
    and rewrite_copied, _status, _reason, _by and _tokens. What has no rewrite is null, with the reason.

    With --prompt thoughts the documents stay whole, and the rewriter puts thoughts between their pieces, <think> ...
    </think>. What is not the original when these are taken out is thrown away. New: thoughts, thoughts_count, ...

    Stopped, by Ctrl-C or kill -9, the same command goes on: finished files stay, and replies are kept one by one.

    \b
    Examples:
      # a model in this process, served by vLLM; ids are those of the model that will be trained
      ixt-rl rewrite corpus.jsonl rewritten --rewriter vllm:models/Qwen3-8B --prompt quality \\
          --tokenizer models/policy --suffix-tokens 128
      # an endpoint, with its prices and 64 requests at once
      ixt-rl rewrite 'corpus/*.parquet' safe --rewriter openai:my-rewriter --base-url http://localhost:8000/v1 \\
          --prompt safety --tokenizer models/policy --suffix-tokens 128 \\
          --rewriter-option concurrency=64 --prices 0.1 0.4
      # a function of yours: it gets prefix and suffix and gives a suffix, the same one, or None; prompt and reply
      ixt-rl rewrite solutions.jsonl repaired --rewriter python:repair.py:repair --prompt reasoning \\
          --tokenizer models/policy --suffix-tokens 64 --field prompt=question --field text=answer
      # thoughts between the sentences, on four GPUs
      ixt-rl rewrite corpus.jsonl thought --rewriter vllm:models/Qwen3-8B --prompt thoughts \\
          --engine ray --workers 4 --gpus-per-worker 1
    """
    require_core()
    from ixt_rl.cli.rewrite import run as run_rewriting

    say(run_rewriting(source, out, words))


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
@readable_errors
def report(folders: tuple[Path, ...], out: Path) -> None:
    """Write report.html into a folder, or one page that compares several.

    FOLDER is a run's, or one of `ixt-rl eval`. Of evaluations the page has scores with intervals, paired differences on
    the same questions, answers that changed, the paper's row where there is one, and curves where the models are
    checkpoints of one run; tables (LaTeX, Markdown) and figures (PDF) go into a folder beside it.

    \b
    Examples:
      ixt-rl report runs/addition
      ixt-rl report runs/addition runs/three-seeds --out comparison.html
      ixt-rl report evaluations/base evaluations/intro --out intro.html
    """
    require_core()
    from ixt_rl.report import build
    from ixt_rl.report.evaluations.evaluated import only_evaluations
    from ixt_rl.report.evaluations.page import build_evaluation_page

    if only_evaluations(folders):
        page = folders[0] / "report.html" if len(folders) == 1 else out
        say(f"report: {build_evaluation_page(folders, page)}")
    elif len(folders) == 1:
        say(f"report: {build.build_report(folders[0])}")
    else:
        build.build_comparison(list(folders), out)
        say(f"comparison: {out}")


@main.command()
@click.option("--timeout", default=120.0, show_default=True, help="Seconds after which a hanging import is given up.")
@click.option("--pool", is_flag=True, help="Check the Ray and vLLM pool by using it, in place of the imports.")
@readable_errors
def doctor(timeout: float, pool: bool) -> None:
    """Import every package and say which work, which do not, and what repairs them; and what the machine has.

    The imports run in child processes: the core in one, each optional package in its own.

    With --pool: start a pool of one engine on a tiny model made for it, sample, compare log-probs with
    transformers, update to other weights, compare again, end. Takes up to a minute; needs vllm and ray.

    Exit status 0: the core (with --pool: the pool) works; 1: it does not.

    \b
    Examples:
      ixt-rl doctor
      ixt-rl doctor --pool
    """
    from ixt_rl.doctor import packages as findings_of
    from ixt_rl.doctor.machine import machine_table
    from ixt_rl.doctor.openrlhf import openrlhf_table

    console = Console()
    if pool:
        require_core()
        from ixt_rl.doctor.pool import check_pool

        with console.status("starting a pool of one engine ..."):
            steps = check_pool()
        console.print(findings_of.pool_table(steps))
        sys.exit(0 if all(step.ok for step in steps) else 1)
    with console.status("importing every package in child processes ..."):
        findings = findings_of.examine(timeout)
    console.print(findings_of.table(findings))
    console.print(machine_table())
    if (openrlhf := openrlhf_table()) is not None:
        console.print(openrlhf)
    for finding in findings:
        if finding.repair:
            say(f"{finding.name}: {finding.repair}")
    sys.exit(0 if all(finding.usable for finding in findings if finding.core) else 1)
