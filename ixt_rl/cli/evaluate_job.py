"""From the words of `ixt-rl eval` to an evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
from ixt_rl.conditioning.prompts import Prompt, encode_prompt
from ixt_rl.config.load import dump_yaml, validated
from ixt_rl.contents import Hashes, folder_files
from ixt_rl.corpus.terminal import Terminal, duration
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.evaluation.records.folder import SETTINGS, EvaluationFolder
from ixt_rl.evaluation.records.job import AskedSuite, EngineFacts, EvaluationState, evaluate_suites
from ixt_rl.evaluation.records.regrade import regrade
from ixt_rl.evaluation.records.results import results_of
from ixt_rl.evaluation.suites import SuiteGrader, SuitePlan, SuiteRows, find_rows, plan_of, prompts_of
from ixt_rl.files import read_json
from ixt_rl.models import checkpoint_eos_ids, load_model, load_tokenizer, tokenizer_notes
from ixt_rl.offline import offline
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.run.named_model import NamedModel, named_model
from ixt_rl.run.threads import torch_threads
from ixt_rl.suites import Preset, Suite, load_preset, load_suite, suite_names
from ixt_rl.types import SamplingParams
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
    questions = _questions(words)
    local = Path(found.path).is_dir()
    with offline(local and all(one.rows.files for one in questions)):
        config = _config(found, model)
        before = (read_json(folder.path / SETTINGS) or {}).get("engine", {})
        batch = words["batch_size"] or before.get("batch_size") or _default_batch()
        block = _block(found, config, batch, overrides, words)
        tokenizer, asked = _asked(questions, block, words, batch)
        _check_room(asked, positions_of(config))
        facts = EngineFacts(block.engine.type, _version(block.engine.type), block.model.dtype)
        hashes = Hashes(folder.path / ".hashes.json")
        settings = {
            "model": {"name": found.name, "path": found.path, **_identity(found, config, hashes)},
            "preset": questions[0].plan.preset.model_dump(mode="json"),
            "suites": {one.name: _of_suite(one, suite, hashes) for one, suite in zip(questions, asked, strict=True)},
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
                words["harnesses"],
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
        results = results_of(folder, words["harnesses"])
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


@dataclass(frozen=True)
class SuiteQuestions:
    """A suite as the words ask for it, before there is a tokenizer.

    Args:
        plan: the suite under the preset.
        rows: the first of them, where there is a limit.
        sampling: the plan's, with what the words say.
        samples: answers a question.
    """

    plan: SuitePlan
    rows: SuiteRows
    sampling: SamplingParams
    samples: int

    @property
    def name(self) -> str:
        return self.plan.suite.name

    def prompts(self) -> list[Prompt]:
        return prompts_of(self.plan.suite, self.plan.preset, self.rows.rows, self.rows.shots)


def _questions(words: Mapping[str, Any]) -> list[SuiteQuestions]:
    """Every suite that is asked for, with its rows."""
    preset = load_preset(words["preset"])
    data, limit = words["data"], words["limit"]
    return [_of(plan_of(suite, preset), find_rows(suite, data, limit), words) for suite in _suites(words)]


def _suites(words: Mapping[str, Any]) -> list[Suite]:
    """The suites that --suite names, each once."""
    names = [name for entry in words["suites"] for name in entry.split(",") if name]
    suites = [load_suite(name, words["field"]) for name in names]
    found = [suite.name for suite in suites]
    twice = next((name for at, name in enumerate(found) if name in found[:at]), None)
    if twice is not None:
        raise ConfigError(
            f"--suite {','.join(names)}", reason=f"{twice} is asked for twice", remedy="name each suite once"
        )
    return suites


def _of(plan: SuitePlan, rows: SuiteRows, words: Mapping[str, Any]) -> SuiteQuestions:
    temperature = plan.sampling.temperature if words["temperature"] is None else words["temperature"]
    if temperature == 0 and (words["samples"] or 1) > 1:
        raise ConfigError(
            f"--samples {words['samples']} at temperature 0",
            reason="greedy answers to a question are all the same one",
            remedy="give a --temperature above 0, or leave --samples out",
        )
    sampling = replace(
        plan.sampling,
        max_new_tokens=words["max_tokens"] or plan.sampling.max_new_tokens,
        temperature=temperature,
        top_p=plan.sampling.top_p if temperature else 1.0,
        seed=words["seed"],
    )
    return SuiteQuestions(plan, rows, sampling, (words["samples"] or plan.samples) if temperature else 1)


def _asked(
    questions: Sequence[SuiteQuestions], block: SampledModelBlock, words: Mapping[str, Any], batch: int
) -> tuple[Any, list[AskedSuite]]:
    """The model's tokenizer, and the suites with the ids of their prompts."""
    assert block.model.path is not None
    tokenizer = load_tokenizer(block.model.path, block.model)
    rows_at_once = batch * (block.engine.pool.engines if block.engine.type == "ray-vllm" else 1)
    return tokenizer, [
        AskedSuite(
            name=one.name,
            rows=one.rows.rows,
            prompts=[encode_prompt(tokenizer, prompt) for prompt in one.prompts()],
            sampling=one.sampling,
            samples=one.samples,
            grade=SuiteGrader(one.plan.suite, one.plan.preset),
            per_chunk=max(1, CHUNK * rows_at_once // one.samples),
        )
        for one in questions
    ]


def _of_suite(one: SuiteQuestions, asked: AskedSuite, hashes: Hashes) -> dict[str, Any]:
    """What evaluation.json says of a suite."""
    sampling = one.sampling
    return {
        "questions": len(one.rows.rows),
        "of": one.rows.total,
        "files": {file.name: hashes.of(file) for file in one.rows.files},
        "sampling": {
            "samples": one.samples,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_new_tokens": sampling.max_new_tokens,
            "stop": list(sampling.stop),
        },
        "questions_per_chunk": asked.per_chunk,
        "definition": one.plan.suite.model_dump(mode="json"),
        "notes": [*one.rows.notes, *one.plan.notes(one.rows.shots)],
    }


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


def _identity(found: NamedModel, config: Mapping[str, Any], hashes: Hashes) -> dict[str, Any]:
    """What tells a model: the hashes of a folder's files, or a hub id and its commit."""
    if Path(found.path).is_dir():
        return {"files": {name: hashes.of(file) for name, file in folder_files(Path(found.path))}}
    return {"hub": found.path, "revision": config.get("_commit_hash")}


def _check_room(asked: Sequence[AskedSuite], positions: int | None) -> None:
    """Refuses answers that a model has no positions for.

    Raises:
        ConfigError: names the suite, and what fits.
    """
    if positions is None:
        return
    rooms = {suite.name: positions - max(map(len, suite.prompts)) for suite in asked}
    for suite in asked:
        if suite.sampling.max_new_tokens > rooms[suite.name]:
            longest, room = max(map(len, suite.prompts)), min(rooms.values())
            raise ConfigError(
                f"suite {suite.name}: answers of up to {suite.sampling.max_new_tokens} tokens, a prompt of {longest}",
                reason=f"the model has {positions} positions for a prompt and its answer",
                remedy=f"give --max-tokens {room}" if room > 0 else "leave the suite out: its prompts do not fit",
            )


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
        max_prompt_tokens=max(len(ids) for suite in asked for ids in suite.prompts),
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
