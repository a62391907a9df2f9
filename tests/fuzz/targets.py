"""What is fuzzed: functions that take a generator and a folder, read one mutated input, may only raise our errors."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ixt_rl.config.load import dump_yaml, load_run, notes, resolved
from ixt_rl.errors import IxtRlError
from ixt_rl.yaml_io import parse_yaml
from tests.fuzz import mutate
from tests.unit.config.broken import GOOD

ROOT = Path(__file__).resolve().parents[2]
Target = Callable[[random.Random, Path], None]

ALLOWED: tuple[type[BaseException], ...] = (IxtRlError,)
"""Errors that are readable: they name the value, the reason and the remedy."""


@cache
def _configs() -> list[str]:
    return [GOOD, *(file.read_text(encoding="utf-8") for file in sorted((ROOT / "configs").rglob("*.yaml")))]


def config_text(rng: random.Random, folder: Path) -> None:
    """A run file whose text was mutated, and what follows from one that is still right."""
    file = folder / "run.yaml"
    file.write_bytes(mutate.text(rng, rng.choice(_configs())).encode("utf-8", "replace"))
    _loaded(file)


def config_value(rng: random.Random, folder: Path) -> None:
    """A run file whose values were."""
    file = folder / "run.yaml"
    value = mutate.value(rng, parse_yaml(rng.choice(_configs()), "text").value)
    file.write_text(dump_yaml(value), encoding="utf-8", errors="replace")
    _loaded(file)


def override(rng: random.Random, folder: Path) -> None:
    """Overrides of a right file."""
    file = folder / "run.yaml"
    file.write_text(GOOD, encoding="utf-8")
    known = ["seeds=[1,2]", "stages.rl.optim.lr=1e-4", "model={new: {tokenizer: bytes}}", "stages.0.steps=3"]
    known += ["stages.rl.rewards.0.type=math", "threads=2", "engine.type=transformers", "expect=[{metric: a}]"]
    _loaded(file, [mutate.text(rng, rng.choice(known)) for _ in range(rng.randint(1, 3))])


def _loaded(file: Path, overrides: list[str] = []) -> None:  # noqa: B006  # never changed
    config = load_run(file, overrides)
    notes(config)
    parse_yaml(dump_yaml(resolved(config)), "resolved")


# -------------------------------------------------------------------------------------------- rows


ROWS: list[dict[str, Any]] = [
    {"text": "A text of some words.", "prompt": "Why?", "question": "1 + 1?", "answer": "2", "level": index % 5}
    | {"feedback_level": 4, "feedback_scores": [{"axis": "style", "score": 3.0}], "feedback_critique": "Good."}
    | {"feedback_judge": "j", "feedback_tokens": 5}
    for index in range(5)
]


def _rows_file(rng: random.Random, folder: Path, ending: str) -> Path:
    file = folder / f"rows{ending}"
    rows = [mutate.value(rng, row) if rng.random() < 0.3 else row for row in ROWS]
    lines = json.dumps(rows) if ending == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    content = lines.encode()
    file.write_bytes(mutate.data(rng, content) if rng.random() < 0.7 else content)
    return file


def documents(rng: random.Random, folder: Path) -> None:
    """Rows of documents, read as a stream does, for two passes."""
    from ixt_rl.data.document_source import DocumentSource, SourceReader

    file = _rows_file(rng, folder, rng.choice((".jsonl", ".json")))
    source = DocumentSource((str(file),), prompt=rng.choice((None, "prompt")), feedback=rng.choice((None, "feedback")))
    reader = SourceReader(source)
    reader.check()
    for _ in range(12):
        reader.next()


def problems(rng: random.Random, folder: Path) -> None:
    """Rows of problems."""
    from ixt_rl.blocks.data import FileDataBlock
    from ixt_rl.data.questions import load_rows

    file = _rows_file(rng, folder, rng.choice((".jsonl", ".json")))
    spec = {"path": str(file), "answer": rng.choice(("answer", "level")), "eval_rows": rng.choice((0, 1))}
    load_rows(FileDataBlock.model_validate(spec | {"columns": rng.choice(([], ["text"]))}))


def annotated(rng: random.Random, folder: Path) -> None:
    """Rows of a job: one pass, then reading by number."""
    from ixt_rl.corpus.jsonlines import JsonLines, scan

    file = _rows_file(rng, folder, ".jsonl")
    index = scan([file], {"text": "text"}, 2, infer=rng.random() < 0.5)
    JsonLines([file], index).read(0, index.rows)


# ----------------------------------------------------------------------------------------- replies


def _answers(rng: random.Random, rubric: Any) -> str:
    from tests.unit.judging.malformed import good_answer

    return rng.choice(("", "<think>I wonder.</think>\n")) + good_answer(rubric, rng)


def verdict(rng: random.Random, folder: Path) -> None:
    """A judge's answer."""
    from ixt_rl.judging import load_rubric
    from ixt_rl.judging.parse import parse_answer

    rubric = load_rubric(rng.choice(("web-text", "safety", "pairwise-quality")))
    parse_answer(mutate.text(rng, _answers(rng, rubric)), rubric)


def rewrite(rng: random.Random, folder: Path) -> None:
    """A rewriter's answer."""
    from ixt_rl.judging.backend import Reply
    from ixt_rl.rewriting.prompt import read_rewrite

    known = ("COPY", "<rewrite>\nA better end.\n</rewrite>", '{"rewrite": "A better end."}', "<think>x</think>COPY")
    reply = Reply(mutate.text(rng, rng.choice(known)), rng.choice(("stop", "length")), 1, 1)
    read_rewrite(reply, rng.random() < 0.5)


def response(rng: random.Random, folder: Path) -> None:
    """The body of an endpoint's response."""
    from ixt_rl.judging.completion import NotACompletion, ServerError, read_completion

    body: Any = {
        "choices": [{"message": {"content": "4", "role": "assistant"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        **({"error": {"message": "x", "code": 500}} if rng.random() < 0.2 else {}),
    }
    content = json.dumps(mutate.value(rng, body)).encode()
    try:
        read_completion(mutate.data(rng, content) if rng.random() < 0.5 else content)
    except (NotACompletion, ServerError):
        return  # the endpoint tries again, and says so


def rubric(rng: random.Random, folder: Path) -> None:
    """A file of a judge's questions."""
    from ixt_rl.judging import load_rubric
    from ixt_rl.rewriting import load_rewrite

    load, kind = rng.choice(((load_rubric, "judging/rubrics"), (load_rewrite, "rewriting/prompts")))
    shipped = rng.choice(sorted((ROOT / "ixt_rl" / kind).glob("*.yaml")))
    file = folder / "rubric.yaml"
    file.write_bytes(mutate.text(rng, shipped.read_text(encoding="utf-8")).encode("utf-8", "replace"))
    load(file)


# ------------------------------------------------------------------------------------------- state


def stage_state(rng: random.Random, folder: Path) -> None:
    """A stage's folder, one or two files of it mutated: what the next run looks at, then what it writes."""
    from ixt_rl.run.final_values import final_values
    from ixt_rl.run.folder import StageFolder

    depends_on = {"settings": {"steps": 4, "optim": {"lr": 0.1}}, "model": {"a": "b"}, "code": "c"}
    stage = StageFolder(folder / "stage", "rl", "intro", 1, "print", depends_on)
    _make_stage(stage, finished=rng.random() < 0.5)
    _damage(rng, stage.path)
    stage = StageFolder(stage.path, "rl", "intro", 1, rng.choice(("print", "other")), depends_on)
    list(stage.mend())
    if stage.why_not_done():
        stage.start()
        checkpoint = stage.last_checkpoint()
        if checkpoint is not None:
            stage.drop_rows_after(int(checkpoint.name.rpartition("-")[2]))
    stage.result()
    final_values(stage)


def run_state(rng: random.Random, folder: Path) -> None:
    """A run's folder, as the report reads it."""
    from ixt_rl.report.build import build_report
    from ixt_rl.report.results import results, status
    from ixt_rl.report.run_folder import read_run
    from ixt_rl.report.sentences import describe

    row = {"stage": "rl", "type": "intro", "seed": 1, "phase": "eval", "step": 1, "flops": 1.0, "sampled/strict": 0.5}
    summary = {"name": "t", "status": "finished", "reason": None, "seconds": 1, "seeds": [1], "expectations": []}
    summary["stages"] = [{"name": "rl", "type": "intro", "mean": {"sampled/strict": 0.5}, "seeds": {"1": {}}}]
    (folder / "config.yaml").write_text(GOOD, encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    for name, rows in (("metrics.jsonl", [row] * 4), ("samples.jsonl", [{"stage": "rl", "step": 1, "text": "a"}] * 3)):
        (folder / name).write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    _damage(rng, folder)
    run = read_run(folder)
    results(run)
    status(run)
    describe(run)
    for one in run.stages:
        run.stage_rows(one, "eval")
    if rng.random() < 0.05:  # figures take a second
        build_report(folder)


def cursor(rng: random.Random, folder: Path) -> None:
    """What a checkpoint knows, and its seal."""
    from ixt_rl.trainers.checkpoints import damage, last_whole_checkpoint, seal

    checkpoint = folder / "checkpoint-3"
    checkpoint.mkdir()
    for name in ("trainer_state.json", "optimizer.pt", "rng_state.pth", "cursor.json"):
        (checkpoint / name).write_text('{"update": 3, "cursor": {"drawn": 1}}', encoding="utf-8")
    seal(checkpoint)
    _damage(rng, checkpoint)
    damage(checkpoint)
    last_whole_checkpoint(folder, lambda said: None)


def job_state(rng: random.Random, folder: Path) -> None:
    """The folder of an annotation job."""
    from ixt_rl.corpus.job_folder import Folder
    from ixt_rl.corpus.progress import spending

    job = Folder(folder / "out", "jsonl")
    settings = {"judge": {"name": "x"}, "shard_rows": 10, "rubric": "web-text"}
    job.keep_settings(settings)
    counts = {"documents": 3, "spent": {"requests": 3, "prompt_tokens": 5, "completion_tokens": 5}, "wall_seconds": 1.0}
    job.write_json(job.new_session(), counts)
    (job.path / "part-000000.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    _damage(rng, job.path)
    job.check_settings(settings)
    job.done()
    spending(job, 10)


def cache_file(rng: random.Random, folder: Path) -> None:
    """A judge's cache."""
    from ixt_rl.judging.backend import Reply
    from ixt_rl.judging.cache import JudgeCache

    file = folder / "cache.sqlite"
    opened = JudgeCache(file)
    for index in range(20):
        opened.put(bytes([index]) * 32, Reply("text", "stop", 1, 1))
    opened.close()
    _damage(rng, folder)
    again = JudgeCache(file)
    try:
        for index in range(20):
            again.get(bytes([index]) * 32)
        again.put(b"x" * 32, Reply("text", "stop", 1, 1))
    finally:
        again.close()


def _make_stage(stage: Any, finished: bool) -> None:
    from ixt_rl.trainers.checkpoints import seal

    stage.start()
    for step in (1, 2, 3, 4):
        stage.add_metrics("train", step, 0, 1.0, 0.5, {"loss": 0.1})
        stage.add_metrics("eval", step, 0, 1.0, 0.5, {"sampled/strict": 0.1})
        stage.add_samples(step, [{"text": "a"}])
    stage.write_result({"seconds": 1.0, "notes": ["a"]})
    if finished:
        stage.model.mkdir()
        (stage.model / "config.json").write_text('{"a": 1}', encoding="utf-8")
        stage.finish()
        return
    checkpoint = stage.checkpoints / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    for name in ("trainer_state.json", "optimizer.pt", "rng_state.pth"):
        (checkpoint / name).write_text("{}", encoding="utf-8")
    seal(checkpoint)


def _damage(rng: random.Random, folder: Path) -> None:
    """Mutates, empties, cuts or removes one or two files of a folder, or puts folders in their place."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for file in rng.sample(files, min(len(files), rng.choice((1, 1, 2)))):
        way = rng.randrange(8)
        if way == 0:
            file.unlink()
        elif way == 1 and rng.random() < 0.3:
            file.unlink()
            file.mkdir()
        elif way == 2:
            file.write_bytes(b"")
        elif way in (3, 4) and file.suffix in (".json", ".jsonl"):
            _damage_values(rng, file)
        else:
            file.write_bytes(mutate.data(rng, file.read_bytes()))


def _damage_values(rng: random.Random, file: Path) -> None:
    content = file.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in ([content] if file.suffix == ".json" else content.splitlines())] or [{}]
    at = rng.randrange(len(lines))
    lines[at] = mutate.value(rng, lines[at])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


TARGETS: list[Target] = [
    *(config_text, config_value, override, documents, problems, annotated, verdict, rewrite, response, rubric),
    *(stage_state, run_state, cursor, job_state, cache_file),
]


def clear(folder: Path) -> None:
    """Empties a folder between two cases."""
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
