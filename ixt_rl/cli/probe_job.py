"""From the words of `ixt-rl contamination --probe` to what a model completes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ixt_rl.blocks.checks import positions_of
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.cli.sampled_model import (
    checkpoint_config,
    default_batch,
    engine_version,
    model_identity,
    open_engine,
    sampled_block,
)
from ixt_rl.conditioning.prompts import encode_prompt
from ixt_rl.contents import Hashes
from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.contamination.probe import longest_rest, partial_prompts
from ixt_rl.evaluation.contamination.probe_counts import probe_summary
from ixt_rl.evaluation.contamination.probe_job import ProbedSuite, run_probe
from ixt_rl.evaluation.suites import SuiteGrader, SuiteRows
from ixt_rl.models import load_tokenizer
from ixt_rl.offline import offline
from ixt_rl.quiet import quiet_transformers
from ixt_rl.run.named_model import named_model
from ixt_rl.run.threads import torch_threads
from ixt_rl.suites import Preset, load_preset


def probe_model(text: str, suites: Mapping[str, SuiteRows], words: Mapping[str, Any]) -> dict[str, Any]:
    """Asks the model and returns the figures of `probe_summary`, with `model`, `graded` and `said`.

    Args:
        text: the model, as the user named it.
        suites: by name.
        words: options of the command by name.

    Raises:
        ConfigError, DataError, BackendMissing: before a model is loaded.
        BackendFailed: the engine did not start, or failed too often.
    """
    quiet_transformers()
    found, preset = named_model(text), load_preset(words["preset"])
    asked = [_probed(name, of, preset, bool(words["answer_tokens"])) for name, of in suites.items()]
    if not any(suite.prompts for suite in asked):
        raise ConfigError(
            f"--probe with {', '.join(suites)}",
            reason="all questions are too short to be shown in part",
            remedy="name another suite",
        )
    with offline(Path(found.path).is_dir() and all(of.files for of in suites.values())):
        config = checkpoint_config(found, text)
        batch = words["batch_size"] or default_batch()
        block = sampled_block(found, config, batch, words, command="ixt-rl contamination --probe")
        tokenizer = load_tokenizer(found.path, block.model)
        sampling = _sampling(asked, tokenizer, words["answer_tokens"], batch, positions_of(config))
        hashes = Hashes()
        settings = {
            "model": {"name": found.name, **model_identity(found, config, hashes)},
            "preset": preset.name,
            "suites": {
                name: {"files": [hashes.of(file) for file in of.files], "rows": len(of.rows)}
                for name, of in suites.items()
            },
            "answer_tokens": words["answer_tokens"],
            "engine": {"type": block.engine.type, "dtype": block.model.dtype},
        }
        with (
            ExitStack() as opened,
            torch_threads(None, 0),
            Console(stderr=True).status("loading the model ...") as status,
        ):
            records = run_probe(
                asked,
                lambda: open_engine(block, sampling, tokenizer, opened),
                tokenizer,
                words["answer_tokens"],
                batch,
                words["out"],
                settings,
                lambda done, total: status.update(f"{done:,} of {total:,} beginnings completed"),
            )
    graded = bool(words["answer_tokens"])
    clusters = {name: [row["cluster"] for row in of.rows] for name, of in suites.items()}
    summary = probe_summary(records, clusters, {suite.name: suite.short for suite in asked}, graded)
    answers = f", up to {words['answer_tokens']} tokens after the question, graded as under preset {preset.name}"
    engine = f"{block.engine.type} {engine_version(block.engine.type)}, {block.model.dtype}, greedy"
    return {**summary, "model": found.name, "graded": graded, "said": f"{engine}{answers if graded else ''}."}


def _probed(name: str, of: SuiteRows, preset: Preset, graded: bool) -> ProbedSuite:
    return ProbedSuite(
        name, of.rows, *partial_prompts(name, of.rows), SuiteGrader(of.suite, preset) if graded else None
    )


def _sampling(
    asked: list[ProbedSuite], tokenizer: Any, answer_tokens: int, batch: int, positions: int | None
) -> SamplingBlock:
    """Room for the longest beginning and what may follow it.

    Raises:
        ConfigError: the model has too few positions.
    """
    prompts = [prompt for suite in asked for prompt in suite.prompts]
    longest = max(len(encode_prompt(tokenizer, prompt.shown)) for prompt in prompts)
    most = longest_rest(tokenizer, prompts) + answer_tokens
    if positions is not None and longest + most > positions:
        room = positions - longest - most + answer_tokens
        raise ConfigError(
            f"--answer-tokens {answer_tokens}: {longest} tokens of a question, and up to {most} that follow",
            reason=f"the model has {positions} positions",
            remedy=f"give --answer-tokens {room}" if room >= 0 else "name suites with shorter questions",
        )
    return SamplingBlock(max_new_tokens=most, max_prompt_tokens=longest, batch_size=batch)


def show_probe(probe: Mapping[str, Any]) -> None:
    """Prints a row for each suite and share."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("suite", no_wrap=True)
    answers = ("answered right %", "of the verbatim %", "undecided %") if probe["graded"] else ()
    for head in ("shown %", "questions", "verbatim %", "95 % interval", *answers, "truncated %"):
        table.add_column(head, justify="right")
    for name, found in probe["suites"].items():
        for number, (share, figures) in enumerate(found["shares"].items()):
            verbatim = figures["verbatim"]
            low, high = verbatim["low"], verbatim["high"]
            interval = "" if low is None else f"{_percent(low)} to {_percent(high)}"
            cells = [_percent(verbatim["value"]), interval]
            if probe["graded"]:
                cells += [_percent(figures[key]["value"]) for key in ("answered", "answered_of_verbatim")]
                cells.append(_percent(figures["undecided"]))
            cells.append(_percent(figures["truncated"]))
            shown = f"{100 * float(share):.0f}"
            table.add_row(name if number == 0 else "", shown, str(figures["questions"]), *cells)
    console = Console()
    (console if console.is_terminal else Console(width=1000)).print(table)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
