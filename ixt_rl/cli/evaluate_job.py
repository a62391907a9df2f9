"""From the words of `ixt-rl eval` to an evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import transformers

from ixt_rl import __version__
from ixt_rl.backends import BACKENDS
from ixt_rl.blocks.checks import positions_of
from ixt_rl.blocks.engine import EngineBlock
from ixt_rl.blocks.model import ModelBlock
from ixt_rl.blocks.python_name import missing_path
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.blocks.strict import Strict
from ixt_rl.config.load import dump_yaml, validated
from ixt_rl.contents import Hashes, folder_files
from ixt_rl.corpus.terminal import Terminal, duration
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.evaluation.records.folder import SETTINGS, EvaluationFolder
from ixt_rl.evaluation.records.job import AskedSuite, EngineFacts, EvaluationState, evaluate_suites
from ixt_rl.evaluation.records.questions import AskedSampling, SuiteQuestions, suite_questions
from ixt_rl.evaluation.records.regrade import regrade
from ixt_rl.evaluation.records.results import results_of
from ixt_rl.evaluation.suites import SuiteGrader
from ixt_rl.files import read_json
from ixt_rl.models import checkpoint_eos_ids, load_model, load_tokenizer, tokenizer_notes
from ixt_rl.offline import offline
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.run.named_model import NamedModel, named_model
from ixt_rl.run.stages.suites import check_room, longest_prompt
from ixt_rl.run.threads import torch_threads
from ixt_rl.suites import Preset, Suite, load_preset, load_suite, suite_names
from ixt_rl.yaml_io import parse_yaml

CHUNK = 4
"""Batches whose answers are sampled and written together: a kill loses them, and at their end slots run empty."""

_HOME = Path("evaluations")
_KEYS = ("engine.vllm", "engine.pool", "model.attention", "model.trust_remote_code")


class SampledModelBlock(Strict):
    """What is evaluated, and what samples it: two blocks of a run file."""

    model: ModelBlock
    engine: EngineBlock


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
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    found = named_model(model)
    folder = EvaluationFolder(words["out"] or _HOME / found.name)
    preset = load_preset(words["preset"])
    harnesses = _harnesses(words, preset)
    sampling = AskedSampling(words["samples"], words["max_tokens"], words["temperature"], words["seed"])
    questions = suite_questions(_suites(words), preset, words["data"], words["limit"], sampling)
    local = Path(found.path).is_dir()
    with offline(local and all(one.rows.files for one in questions)):
        config = _config(found, model)
        before = read_json(folder.path / SETTINGS) or {}
        batch = words["batch_size"] or before.get("engine", {}).get("batch_size") or _default_batch()
        block = _block(found, config, batch, overrides, words)
        tokenizer = load_tokenizer(found.path, block.model)
        chunks = {one.name: _per_chunk(one, block.engine, batch, before) for one in questions}
        asked = [one.asked(tokenizer, chunks[one.name]) for one in questions]
        check_room(asked, positions_of(config), "--max-tokens ")
        facts = EngineFacts(block.engine.type, _version(block.engine.type), block.model.dtype)
        hashes = Hashes(folder.path / ".hashes.json")
        settings = {
            "model": {"name": found.name, "path": found.path, **_identity(found, config, hashes)},
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
                lambda: _open_engine(block, asked, batch, tokenizer, opened),
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
        if word == "harness" and preset.harness is None:
            raise ConfigError(
                "--as harness",
                reason=f"preset {preset.name} is of no harness",
                remedy=f"name one of {', '.join(HARNESSES)}",
            )
        names.append(harness(preset.harness if word == "harness" else word).name)
    return list(dict.fromkeys(names))


def _suites(words: Mapping[str, Any]) -> list[Suite]:
    """The suites that --suite names."""
    names = [name for entry in words["suites"] for name in entry.split(",") if name]
    return [load_suite(name, words["field"]) for name in names]


def _config(found: NamedModel, text: str) -> dict[str, Any]:
    """The checkpoint's config.json."""
    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(found.path)
    except OSError as error:
        raise ConfigError(
            f"model {text}",
            reason=f"it is no folder here, and the hub gave no model of that name ({str(error).splitlines()[0]})",
            remedy=missing_path(text).remedy,
        ) from None
    return config


def _block(
    found: NamedModel, config: Mapping[str, Any], batch: int, overrides: Sequence[str], words: Mapping[str, Any]
) -> SampledModelBlock:
    """The blocks `model` and `engine`, with KEY=VALUE written into them."""
    for override in overrides:
        key = override.partition("=")[0]
        if not any(key == known or key.startswith(f"{known}.") for known in _KEYS):
            raise ConfigError(
                override,
                reason="an evaluation has no such key",
                remedy=f"{did_you_mean(key, list(_KEYS))}keys are {', '.join(_KEYS)}; the rest are options: --help",
            )
    text = config.get("text_config") or {}
    named = config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
    dtype = (named or "float32") if words["dtype"] == "auto" else words["dtype"]
    value = {
        "model": {"path": found.path, "dtype": str(dtype).removeprefix("torch.")},
        "engine": {"type": words["engine"], "vllm": {"max_num_seqs": batch}},
    }
    return validated(SampledModelBlock, parse_yaml(dump_yaml(value), "ixt-rl eval"), overrides, "ixt-rl eval")


def _per_chunk(one: SuiteQuestions, engine: EngineBlock, batch: int, before: Mapping[str, Any]) -> int:
    """Questions of a suite that are sampled at once: as the evaluation began, on whatever machine it goes on."""
    begun = before.get("suites", {}).get(one.name, {}).get("questions_per_chunk")
    at_once = batch * (engine.pool.engines if engine.type == "ray-vllm" else 1)
    return begun or max(1, CHUNK * at_once // one.samples)


def _identity(found: NamedModel, config: Mapping[str, Any], hashes: Hashes) -> dict[str, Any]:
    """What tells a model: the hashes of a folder's files, or a hub id and its commit."""
    if Path(found.path).is_dir():
        return {"files": {name: hashes.of(file) for name, file in folder_files(Path(found.path))}}
    return {"hub": found.path, "revision": config.get("_commit_hash")}


def _open_engine(
    block: SampledModelBlock, asked: Sequence[AskedSuite], batch: int, tokenizer: Any, opened: ExitStack
) -> RolloutEngine:
    """The engine, closed with `opened`."""
    from ixt_rl.run.stages.engines import Engines
    from ixt_rl.run.stages.starting_engine import in_process_engine

    path = block.model.path
    assert path is not None
    ends = checkpoint_eos_ids(path, block.model, tokenizer)
    sampling = SamplingBlock(
        max_new_tokens=max(suite.sampling.max_new_tokens for suite in asked),
        max_prompt_tokens=max(map(longest_prompt, asked)),
        batch_size=batch,
        stop=sorted({text for suite in asked for text in suite.sampling.stop}),
    )
    if block.engine.type == "transformers":
        return in_process_engine(load_model(path, block.model, train=False), ends, sampling, tokenizer)
    engines = Engines(block.engine, block.model.dtype)
    opened.callback(engines.close)
    engine = engines.get(sampling, path, ends)
    assert engine is not None
    return engine


def _version(engine: str) -> str:
    return BACKENDS["transformers" if engine == "transformers" else "vllm"].version() or "unknown"


def _default_batch() -> int:
    return 256 if torch.accelerator.is_available() else 64


def _words(state: EvaluationState) -> str:
    """Rate and time left, beside the bar."""
    if not state.fresh or not state.seconds:
        return ""
    left = duration((state.total - state.done) * state.seconds / state.fresh)
    return f"{state.tokens / state.seconds:,.0f} tokens/s, {left} left"


def _nothing(model: str | None) -> ConfigError:
    return ConfigError(
        "eval without " + ("a model" if model is None else "a suite"),
        reason="there is nothing to measure",
        remedy="write `ixt-rl eval MODEL --suite NAME,...`; names of suites: " + ", ".join(suite_names()),
    )
