"""`ixt-rl examples`: the words of the command line as a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ixt_rl.corpus.examples.examples import make_examples
from ixt_rl.corpus.examples.excerpts import MODEL, ExamplesJob
from ixt_rl.corpus.examples.spoil import SPOILERS
from ixt_rl.types import SamplingParams


def run(kind: Literal["judge", "rewriter"], source: str, out: Path, asks: str, words: Mapping[str, Any]) -> str:
    """Runs the command; `words` are its options by name. Returns the line to end with.

    Raises:
        ConfigError, DataError, BackendMissing, BackendFailed: see `make_examples`.
    """
    return f"{out}: {make_examples(_job(kind, source, asks, words), out)}"


def _job(kind: Literal["judge", "rewriter"], source: str, asks: str, words: Mapping[str, Any]) -> ExamplesJob:
    """The job that the command line describes.

    Raises:
        ConfigError: words that do not go together.
    """
    from yaml import safe_load

    from ixt_rl.cli.annotate import pairs
    from ixt_rl.judging.opening import parse_judge
    from ixt_rl.models import byte_tokenizer, reading
    from ixt_rl.tokenizer_files import open_tokenizer

    model = None
    if words["model"]:
        options = {name: safe_load(value) for name, value in pairs(words["model_option"], "--model-option").items()}
        model = parse_judge(words["model"], options, words["base_url"], role="spoiler")
    default = (*SPOILERS, MODEL) if model is not None else tuple(SPOILERS)
    name = words["tokenizer"]
    with reading(name):
        tokenizer: Any = byte_tokenizer() if name == "bytes" else open_tokenizer(name)
    return ExamplesJob(
        kind,
        source,
        tokenizer,
        asks,
        suffix_tokens=words["suffix_tokens"],
        max_prefix_tokens=words["max_prefix_tokens"],
        text=words["text"],
        prompt=words["prompt"],
        label=words["label"],
        label_rubric=words.get("label_rubric", "safety"),
        documents=words["documents"],
        spoilers=words["spoiler"] or default,
        model=model,
        sampling=SamplingParams(words["max_tokens"], words["temperature"], seed=words["seed"]),
        cache=words["cache"],
        seed=words["seed"],
    )
