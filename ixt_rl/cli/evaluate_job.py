"""From the words of `ixt-rl eval` to an evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ixt_rl import __version__
from ixt_rl.blocks.checks import positions_of
from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.cli.sampled_model import (
    checkpoint_config,
    default_batch,
    engine_version,
    model_identity,
    open_engine,
    sampled_block,
)
from ixt_rl.contents import Hashes
from ixt_rl.corpus.terminal import Terminal, writing
from ixt_rl.corpus.time_left import time_left
from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.records.folder import SETTINGS, EvaluationFolder
from ixt_rl.evaluation.records.job import AskedSuite, EngineFacts, EvaluationState, evaluate_suites
from ixt_rl.evaluation.records.questions import AskedSampling, SuiteQuestions, suite_questions
from ixt_rl.evaluation.records.regrade import regrade
from ixt_rl.evaluation.records.results import results_of
from ixt_rl.evaluation.suites import SuiteGrader
from ixt_rl.files import read_json
from ixt_rl.models import load_tokenizer, tokenizer_notes
from ixt_rl.offline import offline
from ixt_rl.quiet import quiet_transformers
from ixt_rl.run.named_model import named_model
from ixt_rl.run.stages.suites import check_room, longest_prompt
from ixt_rl.run.threads import torch_threads
from ixt_rl.suites import Preset, Suite, load_preset, load_suite, suite_names

CHUNK = 4
"""Batches whose answers are sampled and written together: a kill loses them, and at their end slots run empty."""

_HOME = Path("evaluations")


def run(
    model: str | None, overrides: Sequence[str], words: Mapping[str, Any]
) -> tuple[Path, dict[str, Any], list[str]]:
    """Runs the command; `words` are its options by name. Returns folder, results, and what is to be said.

    Raises:
        ConfigError, DataError, BackendMissing: before a model is loaded.
        BackendFailed: the engine did not start, or failed too often.
    """
    if model is None or not words["suites"]:
        raise _nothing(model)
    quiet_transformers()
    found = named_model(model)
    folder = EvaluationFolder(words["out"] or _HOME / found.name)
    preset = load_preset(words["preset"])
    harnesses = _harnesses(words, preset)
    sampling = AskedSampling(words["samples"], words["max_tokens"], words["temperature"], words["seed"])
    questions = suite_questions(_suites(words), preset, words["data"], words["limit"], sampling)
    local = Path(found.path).is_dir()
    with offline(local and all(one.rows.files for one in questions)):
        config = checkpoint_config(found, model)
        before = read_json(folder.path / SETTINGS) or {}
        batch = words["batch_size"] or before.get("engine", {}).get("batch_size") or default_batch()
        block = sampled_block(found, config, batch, words, overrides)
        tokenizer = load_tokenizer(found.path, block.model)
        chunks = {one.name: _per_chunk(one, block.engine, batch, before) for one in questions}
        asked = [one.asked(tokenizer, chunks[one.name]) for one in questions]
        check_room(asked, positions_of(config), "--max-tokens ")
        facts = EngineFacts(block.engine.type, engine_version(block.engine.type), block.model.dtype)
        hashes = Hashes(folder.path / ".hashes.json")
        settings = {
            "model": {"name": found.name, "path": found.path, **model_identity(found, config, hashes)},
            "preset": preset.model_dump(mode="json"),
            "suites": {one.name: one.settings(chunks[one.name], hashes.of) for one in questions},
            "seed": words["seed"],
            "limit": words["limit"],
            "engine": {"type": facts.type, "version": facts.version, "dtype": facts.dtype, "batch_size": batch,
                       "attention": block.model.attention},
            "ixt_rl": __version__,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }  # fmt: skip
        with ExitStack() as opened, torch_threads(None, 0), Terminal(words=_words) as terminal:
            results = evaluate_suites(
                folder,
                settings,
                asked,
                lambda: open_engine(block, _room(asked, batch), tokenizer, opened),
                facts,
                tokenizer,
                terminal,
                harnesses,
            )
        hashes.save()
    return folder.path, results, tokenizer_notes(tokenizer)


def regraded(model: str | None, words: Mapping[str, Any]) -> tuple[Path, dict[str, Any], list[str]]:
    """Runs the command with `--regrade`: on --out, on an evaluation's folder named as MODEL, or on MODEL's own. Suites
    are those that the folder keeps, but for those that --suite names.

    Raises:
        ConfigError, DataError: there is no evaluation, or it is damaged.
    """
    folder = EvaluationFolder(_evaluated(model, words["out"]))
    settings = folder.settings()
    preset = Preset.model_validate(settings["preset"])
    kept = {name: Suite.model_validate(suite["definition"]) for name, suite in settings["suites"].items()}
    given = {suite.name: suite for suite in _suites(words)}
    if not given.keys() <= kept.keys():
        raise ConfigError(
            f"--suite {', '.join(given)}",
            reason=f"the suites of {folder.path} are {', '.join(kept)}",
            remedy="name some of these, or none to grade all by the rules that the folder keeps",
        )

    def grader(name: str) -> SuiteGrader:
        return SuiteGrader((kept | given)[name], preset)

    with folder.locked("grading it anew"):
        changes = regrade(folder, grader)
        results = results_of(folder, _harnesses(words, preset))
        folder.write_results(results)
    return folder.path, results, [_changed(name, counts) for name, counts in changes.items()]


def _evaluated(model: str | None, out: Path | None) -> Path:
    """The folder that `--regrade` means."""
    if out is not None:
        return out
    if model is None:
        raise ConfigError(
            "eval --regrade", reason="nothing says which evaluation", remedy="add --out with the folder of one"
        )
    return Path(model) if (Path(model) / SETTINGS).is_file() else _HOME / named_model(model).name


def _changed(suite: str, counts: Mapping[tuple[str, str], int]) -> str:
    """How many verdicts of a suite are others now, in words."""
    moved = {f"{was} to {now}": number for (was, now), number in counts.items() if was != now}
    said = ", ".join(f"{number} from {how}" for how, number in sorted(moved.items()))
    return f"{suite}: {sum(counts.values())} graded anew, {f'changed: {said}' if said else 'none changed'}"


def _harnesses(words: Mapping[str, Any], preset: Preset) -> list[str]:
    """Names of the harnesses that --as names, able to run; `harness` is the preset's own."""
    if not words["harnesses"]:
        return []
    from ixt_rl.evaluation.harnesses import HARNESSES, harness  # they import sympy

    names = []
    for word in words["harnesses"]:
        name = preset.harness if word == "harness" else word
        if name is None:
            raise ConfigError(
                "--as harness",
                reason=f"preset {preset.name} is of no harness",
                remedy=f"name one of {', '.join(HARNESSES)}",
            )
        names.append(harness(name).name)
    return list(dict.fromkeys(names))


def _suites(words: Mapping[str, Any]) -> list[Suite]:
    """The suites that --suite names."""
    names = [name for entry in words["suites"] for name in entry.split(",") if name]
    return [load_suite(name, words["field"]) for name in names]


def _per_chunk(one: SuiteQuestions, engine: EngineBlock, batch: int, before: Mapping[str, Any]) -> int:
    """Questions of a suite that are sampled at once: as the evaluation began, on whatever machine it goes on."""
    begun = before.get("suites", {}).get(one.name, {}).get("questions_per_chunk")
    at_once = batch * (engine.pool.engines if engine.type == "ray-vllm" else 1)
    return begun or max(1, CHUNK * at_once // one.samples)


def _room(asked: Sequence[AskedSuite], batch: int) -> SamplingBlock:
    """What an engine for all suites has room for."""
    return SamplingBlock(
        max_new_tokens=max(suite.sampling.max_new_tokens for suite in asked),
        max_prompt_tokens=max(map(longest_prompt, asked)),
        batch_size=batch,
        stop=sorted({text for suite in asked for text in suite.sampling.stop}),
    )


def _words(state: EvaluationState) -> str:
    """Answers under way, rate and time left, beside the bar."""
    if not state.seconds:
        return ""
    under_way = state.under_way
    tokens = state.tokens + (under_way.tokens or 0)
    left = state.total - state.done - under_way.ended
    parts = [writing(under_way), f"{tokens / state.seconds:,.0f} tokens/s" if tokens else ""]
    parts.append(str(time_left(state.seconds, tokens, state.fresh + under_way.ended, left, state.longest) or ""))
    return ", ".join(filter(None, parts))


def _nothing(model: str | None) -> ConfigError:
    return ConfigError(
        "eval without " + ("a model" if model is None else "a suite"),
        reason="there is nothing to measure",
        remedy="write `ixt-rl eval MODEL --suite NAME,...`; names of suites: " + ", ".join(suite_names()),
    )
