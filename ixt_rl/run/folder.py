"""What a run writes, and how a finished stage is recognised.

    <output_dir>/<run>/config.yaml metrics.jsonl samples.jsonl summary.json report.html plots/ model lock
    <output_dir>/<run>/stages/<stage>[/seed<k>]/  metrics.jsonl samples.jsonl result.json model/ or rows/ done.json
    <output_dir>/.cache/pretrain-<fingerprint>/   the same, for pretrained bases, shared by all runs
    <output_dir>/.hashes.json                     hashes of large files that were read

`started.json` says what the stage depends on, `done.json`, written last, also what it made: a stage without it, or
whose files are no longer those, is not finished.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from ixt_rl.blocks.model import ADAPTER
from ixt_rl.config.schema import RunConfig
from ixt_rl.contents import Hashes, folder_files
from ixt_rl.errors import DataError
from ixt_rl.files import append_rows, mend_rows, open_weights, read_json, read_rows, write_json, write_rows
from ixt_rl.locks import LOCK, locked
from ixt_rl.methods.registry import AnyStage, spec_of
from ixt_rl.run.fingerprint import changes, code_hash, fingerprint, ingredients, model_fingerprint
from ixt_rl.run.named_model import BASES, shared_base
from ixt_rl.run.trackers import Reporting
from ixt_rl.trainers.checkpoints import last_whole_checkpoint

__all__ = ["RunFolder", "StageFolder", "code_hash", "model_fingerprint", "read_rows", "stage_fingerprint"]

CONTINUATIONS = "continuations.jsonl"
"""File of a SIP stage: its final continuations of the held-out prefixes, by mode, which later stages compare with."""

LEDGER = "ledger.json"
"""File beside a stage's model: what was spent to get there."""

SAMPLES = "samples.jsonl"
ROWS = ("metrics.jsonl", SAMPLES)
ROWS_FOLDER = "rows"
"""Folder of a stage that makes rows: the files that a job on a corpus writes, and nothing else."""

NOT_RUN = "not run before"
STOPPED = "it was stopped before its first checkpoint"
ROWS_STOPPED = "it was stopped"

DIFFICULTY = "difficulty.jsonl"  # of an RL stage: how often each problem was solved before training
FAILURES = "reward_failures.jsonl"

_KEYS = {"metrics.jsonl": ("phase", "step"), SAMPLES: ("step",)}
_REPLIES = (".sqlite", ".sqlite-wal", ".sqlite-shm")  # what a judge answered is not asked again


def _unsaid(text: str) -> None:
    """Hears what nobody is to be told."""


class StageFolder:
    """One stage with one seed: its files, its rows, and whether it is done.

    Args:
        depends_on: its ingredients, see `ixt_rl.run.fingerprint`.
        hashes: of the files it made.
        makes_rows: it makes rows and no model, by a job that goes on by itself.
    """

    def __init__(
        self,
        path: Path,
        stage: str,
        type: str,
        seed: int,
        fingerprint: str,
        depends_on: Mapping[str, Any] | None = None,
        hashes: Hashes | None = None,
        makes_rows: bool = False,
    ):
        self.path, self.stage, self.type, self.seed, self.fingerprint = path, stage, type, seed, fingerprint
        self.depends_on = dict(depends_on or {})
        self.reporting: Reporting | None = None  # hears of the rows while the stage runs
        self.before: dict[str, Any] | None = None  # what a shared base depended on when the run last had one
        self._hashes, self._makes_rows = hashes or Hashes(), makes_rows
        self._goes_on: bool | None = None  # with rows: whether the job that was there goes on
        self._found: tuple[Path | None] | None = None  # looking for the checkpoint reads all of it

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def rows(self) -> Path:
        """What a stage that makes rows hands on."""
        return self.path / ROWS_FOLDER

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Models of the best evaluations, until the stage is done."""
        return self.path / "best"

    # ------------------------------------------------------------------------------- is it done?

    def is_done(self) -> bool:
        """Whether the stage was finished as it would be now, and what it made is still there.

        Raises:
            DataError: a file of its model is another one now.
        """
        return self.why_not_done() == ""

    def why_not_done(self) -> str:
        """Why the stage is run, in words; empty where it is done. See `is_done`."""
        done, damage = self._state("done.json")
        if done is None:
            started, torn = self._state("started.json")
            if damage or torn or started is None:
                return damage or torn or self._since_last_time()
            return self._difference(started) or (ROWS_STOPPED if self._makes_rows else STOPPED)
        return self._difference(done) or self._missing(done)

    def was_started(self) -> bool:
        """Whether the stage was started as it would be now."""
        started, _ = self._state("started.json")
        return started is not None and started.get("fingerprint") == self.fingerprint

    def start(self, say: Callable[[str], None] = _unsaid) -> None:
        """Makes the folder ready: what another config or other code left goes, and all rows where none goes on.

        Of a stage that makes rows, replies that were paid for stay, and where nothing differs all that is there.

        Args:
            say: told of checkpoints that are passed over.
        """
        same = self.was_started()
        if self._makes_rows:
            self._goes_on = same
            if not same:
                self._clear(keep=(ROWS_FOLDER,))
                from ixt_rl.corpus.job_folder import Folder  # pyarrow: `--dry-run` reads folders without it

                Folder(self.rows, "").forget_rows()
        elif not same or self.last_checkpoint(say) is None:
            self._clear(keep=(*_REPLIES, DIFFICULTY) if same else ())
            self._found = (None,)
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "started.json", {"fingerprint": self.fingerprint, "ingredients": self.depends_on})

    def goes_on_from(self) -> str:
        """What a stopped stage goes on from, in words; "" where it starts over."""
        if self._makes_rows:
            goes_on = self.was_started() if self._goes_on is None else self._goes_on
            return "the rows and replies that are there" if goes_on else ""
        checkpoint = self.last_checkpoint()
        return "" if checkpoint is None else checkpoint.name

    def finish(self) -> None:
        """Says that the stage is done, and what it made."""
        for passing in (self.checkpoints, self.best):
            shutil.rmtree(passing, ignore_errors=True)
        open_weights(self.path)
        folders = [self.path / name for name in ("model", ADAPTER) if (self.path / name).is_dir()]
        files = [(f"{folder.name}/{name}", file) for folder in folders for name, file in folder_files(folder)]
        files += [(name, self.path / name) for name in (LEDGER, CONTINUATIONS) if (self.path / name).is_file()]
        found = [*self.rows.glob("part-*"), *self.rows.glob("*.json")]  # the page is for readers alone
        files += [(f"{ROWS_FOLDER}/{file.name}", file) for file in sorted(found)]
        made = {name: [file.stat().st_size, self._hashes.of(file)] for name, file in files}
        rows = {name: len(read_rows(self.path / name)) for name in ROWS}
        done = {"fingerprint": self.fingerprint, "ingredients": self.depends_on, "made": made, "rows": rows}
        write_json(self.path / "done.json", done)

    def last_checkpoint(self, say: Callable[[str], None] = _unsaid) -> Path | None:
        """The newest whole checkpoint up to whose step the rows are there, if the stage was stopped after one."""
        if self._found is None:
            reached = max((row["step"] for row in self.metrics() if row["phase"] == "train"), default=-1)
            self._found = (last_whole_checkpoint(self.checkpoints, say, up_to=reached),)
        return self._found[0]

    # ------------------------------------------------------------------------------ rows and results

    def add_metrics(self, phase: str, step: int, rollouts: int, flops: float, seconds: float, metrics: dict) -> None:
        """Appends a row to the stage's metrics."""
        row = {"stage": self.stage, "type": self.type, "seed": self.seed, "phase": phase, "step": step}
        row |= {"rollouts": rollouts, "flops": flops, "seconds": round(seconds, 3), **metrics}
        append_rows(self.path / "metrics.jsonl", [row])
        if self.reporting is not None:
            self.reporting.metrics(row)

    def add_samples(self, step: int, samples: Iterable[dict[str, Any]]) -> None:
        head = {"stage": self.stage, "seed": self.seed, "step": step}
        rows = [{**head, **sample} for sample in samples]
        append_rows(self.path / SAMPLES, rows)
        if self.reporting is not None:
            self.reporting.samples(step, rows)

    def mend(self) -> Iterator[str]:
        """Takes out rows that were cut while they were written; says so for each."""
        for name in (*ROWS, FAILURES):
            said = mend_rows(self.path / name)
            if said is not None:
                yield said

    def drop_rows_after(self, step: int) -> None:
        """Forgets rows of steps that a resumed run will do again."""
        for name in ROWS:
            rows = [row for row in self._rows(name) if row["step"] <= step]
            if rows or (self.path / name).is_file():
                write_rows(self.path / name, rows)
        if (self.path / FAILURES).is_file():  # their step is the number of updates before them
            failed = read_rows(self.path / FAILURES)
            later = [isinstance(row.get("step"), int) and row["step"] >= step for row in failed]
            write_rows(self.path / FAILURES, [row for row, gone in zip(failed, later, strict=True) if not gone])

    def metrics(self) -> list[dict[str, Any]]:
        return self._rows("metrics.jsonl")

    def samples(self) -> list[dict[str, Any]]:
        return self._rows(SAMPLES)

    def final_metrics(self) -> dict[str, Any]:
        """The row of the last evaluation, or of the one whose model is handed on (`keep_best`)."""
        rows = [row for row in self.metrics() if row["phase"] == "eval"]
        best = self.result().get("best")
        if best is not None:
            rows = [row for row in rows if row["step"] == best["step"]]
        return rows[-1] if rows else {}

    def write_result(self, result: dict[str, Any]) -> None:
        """What a stage has to say beyond its rows: seconds, notes, reward errors, prompt lengths."""
        write_json(self.path / "result.json", result)

    @contextmanager
    def recording(self, result: Callable[[], dict[str, Any]]) -> Iterator[None]:
        """Writes a stage's result when a `with` ends, also by an error, which is not hidden by a full disk."""
        try:
            yield
        except BaseException:
            with suppress(OSError):
                self.write_result(result())
            raise
        self.write_result(result())

    def result(self) -> dict[str, Any]:
        result, damage = self._state("result.json")
        if result is None and not damage and (self.path / "done.json").is_file():
            damage = f"{self.path / 'result.json'} is gone"  # it is written before the stage is done
        return {"notes": [f"seconds and notes are not known: {damage}"]} if damage else result or {}

    def _rows(self, name: str) -> list[dict[str, Any]]:
        rows = read_rows(self.path / name, _KEYS[name])
        for number, row in enumerate(rows, 1):
            if not isinstance(row["step"], int):
                raise DataError(
                    f"{self.path / name}, row {number}: step is {row['step']!r}",
                    reason="a step is a whole number",
                    remedy="remove that row, or delete the folder to have it made again",
                )
        return rows

    def _state(self, name: str) -> tuple[dict[str, Any] | None, str]:
        """(what a state file holds, "") or (None, why it cannot be read); (None, "") where there is none."""
        try:
            return read_json(self.path / name), ""
        except DataError as error:
            return None, f"{error.what}, {error.reason}"

    def _difference(self, state: Mapping[str, Any]) -> str:
        """What differs between a state's ingredients and the stage's; empty if nothing does."""
        if state.get("fingerprint") == self.fingerprint:
            return ""
        there = state.get("ingredients")
        found = changes(there, self.depends_on) if isinstance(there, dict) and self.depends_on else []
        return "; ".join(found) or "it was made by another version of ixt-rl"

    def _since_last_time(self) -> str:
        """Why a stage has no folder: for a shared base, what differs from the one that the run had."""
        return (self._difference({"ingredients": self.before}) if self.before else "") or NOT_RUN

    def _missing(self, done: Mapping[str, Any]) -> str:
        """What a finished stage made and is not there any more, in words; empty if all is there."""
        try:
            made = [(str(name), int(size), str(known)) for name, (size, known) in done["made"].items()]
            rows = [(str(name), int(count)) for name, count in done["rows"].items() if name in ROWS]
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
            return f"{self.path / 'done.json'} does not say what was made"
        for name, size, known in made:
            file = self.path / name
            if not file.is_file() or file.stat().st_size < size:
                return f"{file} is {'cut' if file.is_file() else 'gone'}"
            if self._hashes.of(file) != known:
                raise DataError(
                    f"{file} changed after stage {self.stage} was finished",
                    reason="later stages would start from what no stage has made",
                    remedy=f"put it back; or delete {self.path} to have the stage done again; or give the folder you "
                    f"changed as {'data.path' if self._makes_rows else 'model.path'} of a run of its own",
                )
        for name, count in rows:
            if len(self._rows(name)) < count:
                return f"rows are missing in {self.path / name}"
        return ""

    def _clear(self, keep: tuple[str, ...] = ()) -> None:
        """Empties the folder, the lock and files that end in one of `keep` aside."""
        for entry in self.path.iterdir() if self.path.is_dir() else ():
            if entry.name == LOCK or (keep and entry.name.endswith(keep)):
                continue
            remove(entry)


class RunFolder:
    """A run's folder and its stage folders."""

    def __init__(self, output_dir: Path, name: str):
        self.output_dir = output_dir
        self.path = output_dir / name
        self.stages: list[StageFolder] = []
        self.hashes = Hashes(output_dir / ".hashes.json")

    def held(self) -> AbstractContextManager[None]:
        """The folder for this process alone; see `locked`."""
        return locked(self.path, "running in it", "wait for it, or give this run another `name`")

    def clear(self) -> None:
        """Forgets what an earlier run left."""
        for entry in self.path.iterdir() if self.path.is_dir() else ():
            if entry.name != LOCK:
                remove(entry)

    def stage(self, config: RunConfig, stage: AnyStage, seed: int | None, origin: str) -> StageFolder:
        """The folder of a stage and seed that starts from the model at `origin`."""
        depends_on = ingredients(
            config, stage, seed, origin, self.hashes, self._opponent(stage, seed), self.rows_of(config)
        )
        marked, spec = fingerprint(depends_on), spec_of(stage)
        if spec.shared:
            path = shared_base(self.output_dir, depends_on)
        else:
            path = self.stage_path(stage.name, seed)
        folder = StageFolder(path, stage.name, stage.type, seed or 0, marked, depends_on, self.hashes, spec.makes_rows)
        folder.before = self._bases().get(stage.name) if spec.shared else None
        self.stages.append(folder)
        return folder

    def stage_path(self, name: str, seed: int | None) -> Path:
        return self.path / "stages" / name / (f"seed{seed}" if seed is not None else "")

    def rows_of(self, config: RunConfig) -> dict[str, Path]:
        """Folders of the rows that stages make, by the stage's name."""
        makers = (stage.name for stage in config.stages if spec_of(stage).makes_rows)
        return {name: self.stage_path(name, None) / ROWS_FOLDER for name in makers}

    def remember(self, folder: StageFolder) -> None:
        """Keeps what a shared base depended on: its folder is found by that, so it cannot say what changed."""
        if folder.path.parent.name == ".cache" and folder.depends_on != folder.before:
            write_json(self.path / BASES, {**self._bases(), folder.stage: folder.depends_on})

    def _bases(self) -> dict[str, Any]:
        try:
            return read_json(self.path / BASES) or {}
        except DataError:  # it is only needed for words
            return {}

    def gather(self) -> None:
        """Joins the stages' rows into the run's metrics.jsonl and samples.jsonl."""
        for name in ROWS:
            rows = ({**row, "stage": folder.stage} for folder in self.stages for row in read_rows(folder.path / name))
            write_rows(self.path / name, rows)

    def link_model(self, model: str) -> None:
        """`model` in the run folder: a link to the last stage's model, where it is a local folder."""
        link = self.path / "model"
        if Path(model).is_dir() and (link.is_symlink() or not link.exists()):
            part = link.with_name(f".{link.name}.{os.getpid()}.tmp")
            part.unlink(missing_ok=True)
            part.symlink_to(os.path.relpath(Path(model).resolve(), self.path.resolve()), target_is_directory=True)
            os.replace(part, link)

    def _opponent(self, stage: AnyStage, seed: int | None) -> Path | None:
        """The continuations that a SIP stage compares its own with."""
        against = stage.compared_with
        return None if against is None else self.stage_path(against, seed) / CONTINUATIONS


def stage_fingerprint(config: RunConfig, stage: AnyStage, seed: int | None, origin: str) -> str:
    """Hash of all that decides a stage's outcome: config, contents of files, model, seed, library versions and code."""
    return fingerprint(ingredients(config, stage, seed, origin, Hashes()))


def remove(path: Path) -> None:
    """A file, link or whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
