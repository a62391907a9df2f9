"""Trackers that a run reports to, beside its own files: TensorBoard, trackio, Weights & Biases, MLflow.

Each stage and seed is one run of a tracker. It is told every row of the stage's `metrics.jsonl` under the row's own
names, and its samples as a table or a text. The files are the record: a tracker that fails is named, told no more, and
the run goes on. The packages are imported when a stage starts, so the core needs none of them.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ixt_rl.files import read_json, write_json
from ixt_rl.redaction import redacted

PROJECT = "ixt-rl"
"""Project (MLflow: experiment) where the tracker's own variable names none."""

STATE = "trackers.json"
"""File of a stage: what it is called at trackers, so that a resumed stage goes on there."""

TENSORBOARD = "tensorboard"
"""Folder of a stage with its event files."""

_HEAD = ("stage", "type", "seed", "phase", "step")


@dataclass(frozen=True)
class About:
    """What a tracker is told of one stage and seed.

    Args:
        run: name of the run; the group, where the tracker has groups.
        name: `<stage>` or `<stage>-seed<k>`.
        settings: the stage's block, with secrets taken out.
        folder: the stage's.
        outputs: the folder of all runs.
        resumed: the last update of the checkpoint that the stage goes on from; None: it starts anew.
        state: ids that trackers gave; what is put in is kept until the stage starts anew.
    """

    run: str
    name: str
    settings: Mapping[str, Any]
    folder: Path
    outputs: Path
    resumed: int | None = None
    state: dict[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """One stage's run at a tracker."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one row."""

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Sampled texts, and what is known of them."""

    def close(self) -> None:
        """Nothing comes any more."""


class TensorBoard:
    """Event files in the stage's folder: `tensorboard --logdir runs/<name>`."""

    def __init__(self, about: About):
        from torch.utils.tensorboard import SummaryWriter

        purge = None if about.resumed is None else about.resumed + 1  # what a killed run wrote after its checkpoint
        self.writer = SummaryWriter(str(about.folder / TENSORBOARD), purge_step=purge)  # type: ignore[no-untyped-call]

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self.writer.add_text("samples", as_markdown(rows), step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Trackio:
    """A local database (TRACKIO_DIR), seen with `trackio show`; TRACKIO_PROJECT names the project."""

    def __init__(self, about: About):
        import trackio

        self.table = trackio.Table
        with redirect_stdout(sys.stderr):
            self.run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                name=f"{about.run}-{about.name}",
                group=about.run,
                config=dict(about.settings),
                resume="never" if about.resumed is None else "allow",
                embed=False,
            )

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        import pandas

        self.run.log({"samples": self.table(dataframe=pandas.DataFrame(list(map(dict, rows))))}, step=step)

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self.run.finish()


class WandB:
    """Online where WANDB_MODE or a key says so, else in the run's folder, for `wandb sync`."""

    def __init__(self, about: About):
        import wandb

        known = os.environ.get("WANDB_MODE") or wandb.api.api_key
        self.table = wandb.Table
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=about.state.setdefault("wandb", uuid.uuid4().hex),
            name=about.name,
            group=about.run,
            config=dict(about.settings),
            dir=str(about.outputs / about.run),
            mode=None if known else "offline",
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        names = _columns(rows)
        data = [[_text(row.get(name)) for name in names] for row in rows]
        self.run.log({"samples": self.table(columns=names, data=data)}, step=step)

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """At MLFLOW_TRACKING_URI, else in mlflow.db beside the runs; MLFLOW_EXPERIMENT_NAME names the experiment."""

    def __init__(self, about: About):
        from mlflow.entities import Metric
        from mlflow.tracking import MlflowClient

        self.metric = Metric
        given = os.environ.get("MLFLOW_TRACKING_URI")
        outputs = about.outputs.absolute()
        self.client = MlflowClient(tracking_uri=given or f"sqlite:///{outputs / 'mlflow.db'}")
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            place = experiment.experiment_id
        else:
            artifacts = None if given else (outputs / "mlflow-artifacts").as_uri()
            place = self.client.create_experiment(name, artifact_location=artifacts)
        if "mlflow" not in about.state:
            made = self.client.create_run(place, run_name=f"{about.run} {about.name}", tags={"run": about.run})
            about.state["mlflow"] = made.info.run_id
            self.client.log_dict(made.info.run_id, dict(about.settings), "stage.yaml")
        self.id = about.state["mlflow"]

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[self.metric(name, value, now, step) for name, value in values.items()])

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self.client.log_text(self.id, as_markdown(rows), f"samples/step-{step:06}.md")

    def close(self) -> None:
        self.client.set_terminated(self.id)


OPENERS: dict[str, Callable[[About], Tracker]] = {
    "trackio": Trackio,
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}


class Reporting:
    """The trackers of one stage; hears the stage's rows and passes them on.

    Args:
        trackers: by name.
        say: told once of a tracker that fails.
    """

    def __init__(self, trackers: Mapping[str, Tracker], say: Callable[[str], None]):
        self.trackers, self.say = dict(trackers), say

    def metrics(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl: its numbers; text and what was not measured are left out."""
        values = {
            name: float(value)
            for name, value in row.items()
            if name not in _HEAD and isinstance(value, int | float) and not isinstance(value, bool)
        }
        self._each(lambda tracker: tracker.metrics(row["step"], values))

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self._each(lambda tracker: tracker.samples(step, rows))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            try:
                tell(tracker)
            except Exception as error:  # whatever a tracker's server or disk does, the run is not its hostage
                self.say(failed(name, error))
                del self.trackers[name]


def failed(name: str, error: Exception) -> str:
    """What is said of a tracker that failed."""
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    return redacted(f"{name} failed and is told no more of this stage, whose rows are in metrics.jsonl: {said}")


@contextmanager
def reporting(names: Sequence[str], about: About, say: Callable[[str], None]) -> Iterator[Reporting | None]:
    """The trackers of a stage, open inside a `with`; None where there are none.

    Args:
        names: of `OPENERS`.
        about: the stage.
        say: told once of a tracker that cannot be opened, or that fails.
    """
    if not names:
        yield None
        return
    if about.resumed is not None:
        about.state.update(read_json(about.folder / STATE) or {})
    opened = {}
    for name in dict.fromkeys(names):
        try:
            opened[name] = OPENERS[name](about)
        except Exception as error:  # see `Reporting`
            say(failed(name, error))
    write_json(about.folder / STATE, about.state)
    found = Reporting(opened, say)
    try:
        yield found
    finally:
        found.close()


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as markdown: a heading each, numbers in a line, texts as blocks of code, as they are."""
    parts = []
    for number, row in enumerate(rows, 1):
        texts = {name: value for name, value in row.items() if isinstance(value, str) and name not in _HEAD}
        short = ", ".join(
            f"{name} {_text(value)}" for name, value in row.items() if name not in texts and name not in _HEAD
        )
        parts.append(f"### {number}\n\n{short}\n")
        for name, text in texts.items():
            parts.append(f"{name}:\n\n" + "\n".join(f"    {line}" for line in text.splitlines() or [""]) + "\n")
    return "\n".join(parts)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row if name not in _HEAD))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
