"""What a run writes, and how a finished stage is recognised.

    <output_dir>/<run>/config.yaml metrics.jsonl samples.jsonl summary.json report.html plots/ model
    <output_dir>/<run>/stages/<stage>[/seed<k>]/  metrics.jsonl samples.jsonl result.json model/ done.json
    <output_dir>/.cache/pretrain-<fingerprint>/   the same, for pretrained bases, shared by all runs

`done.json` is written last; a stage without it is not finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ixt_rl.config.schema import AnyStage, PretrainStage, RunConfig
from ixt_rl.trainers.checkpoints import last_whole_checkpoint

_PACKAGE = Path(__file__).resolve().parents[1]
_PRETRAIN_CODE = ("worlds", "conditioning", "data/models.py", "types.py", "trainers/pretrain.py")


class StageFolder:
    """One stage with one seed: its files, its rows, and whether it is done."""

    def __init__(self, path: Path, stage: str, type: str, seed: int, fingerprint: str):
        self.path, self.stage, self.type, self.seed, self.fingerprint = path, stage, type, seed, fingerprint

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def is_done(self) -> bool:
        return self._recorded("done.json") == self.fingerprint

    def start(self) -> None:
        """Makes the folder ready; what another config or other code left in it goes."""
        if self._recorded("started.json") != self.fingerprint and self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._write("started.json", {"fingerprint": self.fingerprint})

    def finish(self) -> None:
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        self._write("done.json", {"fingerprint": self.fingerprint})

    def last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint, if the stage was stopped after one."""
        return last_whole_checkpoint(self.checkpoints)

    def add_metrics(self, phase: str, step: int, rollouts: int, flops: float, seconds: float, metrics: dict) -> None:
        """Appends a row to the stage's metrics."""
        row = {"stage": self.stage, "type": self.type, "seed": self.seed, "phase": phase, "step": step}
        row |= {"rollouts": rollouts, "flops": flops, "seconds": round(seconds, 3), **metrics}
        _append(self.path / "metrics.jsonl", [row])

    def add_samples(self, step: int, samples: Iterable[dict[str, Any]]) -> None:
        head = {"stage": self.stage, "seed": self.seed, "step": step}
        _append(self.path / "samples.jsonl", [{**head, **sample} for sample in samples])

    def drop_rows_after(self, step: int) -> None:
        """Forgets rows of steps that a resumed run will do again."""
        for name in ("metrics.jsonl", "samples.jsonl"):
            rows = [row for row in read_rows(self.path / name) if row["step"] <= step]
            (self.path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def metrics(self) -> list[dict[str, Any]]:
        return read_rows(self.path / "metrics.jsonl")

    def final_metrics(self) -> dict[str, Any]:
        """The last evaluation's row."""
        rows = [row for row in self.metrics() if row["phase"] == "eval"]
        return rows[-1] if rows else {}

    def write_result(self, result: dict[str, Any]) -> None:
        """What a stage has to say beyond its rows: seconds, notes, reward errors, prompt lengths."""
        self._write("result.json", result)

    def result(self) -> dict[str, Any]:
        path = self.path / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _recorded(self, name: str) -> str | None:
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8"))["fingerprint"] if path.is_file() else None

    def _write(self, name: str, value: dict[str, Any]) -> None:
        partial = self.path / f"{name}.partial"
        partial.write_text(json.dumps(value), encoding="utf-8")
        os.replace(partial, self.path / name)


class RunFolder:
    """A run's folder and its stage folders."""

    def __init__(self, output_dir: Path, name: str):
        self.output_dir = output_dir
        self.path = output_dir / name
        self.stages: list[StageFolder] = []

    def stage(self, config: RunConfig, stage: AnyStage, seed: int | None, origin: str) -> StageFolder:
        """The folder of a stage and seed that starts from the model at `origin`."""
        fingerprint = stage_fingerprint(config, stage, seed, origin)
        if isinstance(stage, PretrainStage):
            path = self.output_dir / ".cache" / f"pretrain-{fingerprint[:16]}"
        else:
            path = self.path / "stages" / stage.name / (f"seed{seed}" if seed is not None else "")
        folder = StageFolder(path, stage.name, stage.type, seed if seed is not None else 0, fingerprint)
        self.stages.append(folder)
        return folder

    def gather(self) -> None:
        """Joins the stages' rows into the run's metrics.jsonl and samples.jsonl."""
        for name in ("metrics.jsonl", "samples.jsonl"):
            with open(self.path / name, "w", encoding="utf-8") as out:
                for folder in self.stages:
                    for row in read_rows(folder.path / name):
                        out.write(json.dumps({**row, "stage": folder.stage}) + "\n")

    def link_model(self, model: str) -> None:
        """`model` in the run folder: a link to the last stage's model, where it is a local folder."""
        link = self.path / "model"
        if link.is_symlink():
            link.unlink()
        if Path(model).is_dir() and not link.exists():
            link.symlink_to(os.path.relpath(Path(model).resolve(), self.path.resolve()), target_is_directory=True)


def stage_fingerprint(config: RunConfig, stage: AnyStage, seed: int | None, origin: str) -> str:
    """Hash of all that decides a stage's outcome: config, model, seed, library versions and code."""
    import torch
    import transformers

    settings: dict[str, Any] = stage.model_dump(mode="json", exclude={"name", "init"})
    if not isinstance(stage, PretrainStage):
        settings["engine"] = config.rollout.model_dump(mode="json", exclude=set(config.rollout.unread_sections))
    for block, key, *_ in config.unread:
        if block is stage:
            del settings[key]
    code = code_hash(_PRETRAIN_CODE) if isinstance(stage, PretrainStage) else code_hash()
    parts = [
        settings,
        seed,
        model_fingerprint(config, origin),
        torch.__version__,
        transformers.__version__,
        code,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def model_fingerprint(config: RunConfig, origin: str) -> str:
    """A local model by the bytes of its weights, one from the hub by its id; with dtype and attention."""
    digest = hashlib.sha256(config.model.model_dump_json(exclude={"path", "new"}).encode())
    weights = sorted(Path(origin).glob("*.safetensors"))
    if not weights:
        digest.update(origin.encode())
    for path in weights:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@cache
def code_hash(parts: tuple[str, ...] = ("",)) -> str:
    """Hash of the package's Python and YAML sources below `parts`."""
    import ixt_rl

    digest = hashlib.sha256()
    files: set[Path] = set()
    for root in (Path(p) for p in ixt_rl.__path__):
        for part in parts:
            tops = [root / part] if part else [_PACKAGE, root / "trainers", root / "rewards"]
            for top in tops:
                files |= {top} if top.is_file() else {*top.rglob("*.py"), *top.rglob("*.yaml")}
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; none if there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
