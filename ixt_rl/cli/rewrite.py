"""From the words of `ixt-rl rewrite` to a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ixt_rl.cli.jobs import asked, output, pairs, ray, sampling
from ixt_rl.corpus.rewrite.job import RewritingJob
from ixt_rl.corpus.rewrite.rewrite import rewrite
from ixt_rl.corpus.rewrite.suffixes import SuffixJob
from ixt_rl.corpus.rewrite.thoughts import ThoughtsJob
from ixt_rl.corpus.rows import SourceSpec
from ixt_rl.corpus.terminal import Terminal, remarks
from ixt_rl.errors import ConfigError
from ixt_rl.rewriting.prompt import load_rewrite

THOUGHTS = "thoughts"
_OF_SUFFIXES = ("tokenizer", "suffix_tokens", "max_prefix_tokens", "min_prefix_tokens")


def run(source: str, out: Path, words: Mapping[str, Any]) -> str:
    """Runs the command; `words` are its options by name. Returns the line to end with.

    Raises:
        ConfigError, DataError, BackendMissing: see `rewrite`.
    """
    job = _job(words)
    with Terminal() as terminal:
        summary = rewrite(
            job,
            SourceSpec(source, words["name"], words["split"]),
            out,
            retry_failed=words["retry_failed"],
            ray=ray(words),
            watch=terminal,
        )
    counts = ", ".join(f"{summary[name]:,} {name}" for name in ("copied", job.changed, "undecided", "skipped"))
    return f"{counts}\n{remarks(summary['spent'])}report: {out / 'rewriting.html'}"


def _job(words: Mapping[str, Any]) -> RewritingJob:
    common = {
        "prompt": load_rewrite(words["prompt"]),
        "rewriter": asked(words, "rewriter"),
        "sampling": sampling(words),
        "fields": pairs(words["field"], "--field"),
        **output(words),
    }
    given = {name: words[name] for name in _OF_SUFFIXES if words[name] is not None}
    if words["prompt"] == THOUGHTS:
        if given:
            raise ConfigError(
                f"--{next(iter(given)).replace('_', '-')} with --prompt {THOUGHTS}",
                reason="thoughts are put into whole documents: nothing is cut, and no ids are stored",
                remedy="leave it out",
            )
        return ThoughtsJob(**common)
    for name, why in (("tokenizer", "a suffix is cut in tokens"), ("suffix_tokens", "the length decides what is cut")):
        if name not in given:
            raise ConfigError(
                f"--prompt {words['prompt']} without --{name.replace('_', '-')}",
                reason=why,
                remedy="give the model's folder" if name == "tokenizer" else "give the number that SIP will train with",
            )
    return SuffixJob(**common, **given)
