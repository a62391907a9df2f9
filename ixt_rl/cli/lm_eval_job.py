"""From the words of `ixt-rl lm-eval` to lm_eval's command, and from its results to a table."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ixt_rl import __version__
from ixt_rl.cli.sampled_model import checkpoint_config
from ixt_rl.cli.shell import say
from ixt_rl.errors import BackendFailed, ConfigError
from ixt_rl.evaluation.lm_eval_environment import LM_EVAL, alone, lm_eval_python, versions_in
from ixt_rl.files import read_json, write_json
from ixt_rl.run.named_model import NamedModel, named_model

RESULTS = "lm-eval.json"


def run(model: str, model_args: Sequence[str], words: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Runs the command; `words` are its options by name. Returns what lm-eval.json holds.

    Raises:
        ConfigError, BackendMissing: before lm_eval starts.
        BackendFailed: lm_eval ended with an error, or wrote no results.
    """
    found = named_model(model)
    given = _model_args(found, model_args)
    out: Path = words["out"]
    if (out / RESULTS).exists():
        raise ConfigError(f"--out {out}", reason="it holds results of lm_eval", remedy="name another folder")
    if not Path(found.path).is_dir():
        checkpoint_config(found, model)  # says now that there is no such model
    python, env = _python(words["python"], environ)
    versions = versions_in(python, env)
    if versions["lm_eval"] != LM_EVAL:
        say(f"{python} has lm_eval {versions['lm_eval']}; this was tried with {LM_EVAL}", "yellow", stderr=True)
    command = [str(python), "-m", "lm_eval", "run", "--model", "hf", "--model_args", given, *_options(words)]
    written = out / "lm-eval"
    written.mkdir(parents=True, exist_ok=True)
    before = set(written.rglob("*.json*"))
    began = time.perf_counter()
    status = subprocess.call(command, env=env)
    seconds = time.perf_counter() - began
    files = sorted(set(written.rglob("*.json*")) - before)
    theirs = [file for file in files if file.name.startswith("results_")]
    if status != 0 or not theirs:
        raise BackendFailed(
            f"lm_eval ended with status {status}" + ("" if theirs else " and wrote no results"),
            reason="it says above why",
            remedy=f"`{python} -m lm_eval ls tasks` lists its tasks; data sets that are not here need the hub",
        )
    raw = read_json(theirs[-1]) or {}
    value = {
        "model": {"name": found.name, "path": found.path},
        "tasks": words["tasks"].split(","),
        "results": rows_of(raw),
        "command": command,
        "versions": {"ixt_rl": __version__, **versions},
        "seconds": round(seconds, 1),
        "files": [file.relative_to(out).as_posix() for file in files],
    }
    write_json(out / RESULTS, value, indent=1)
    show(value)
    say(f"results: {out / RESULTS}; lm_eval's own files and samples: {written}")
    return value


def rows_of(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The numbers of an lm_eval results file: a row a task (or group), metric and filter. A number that lm_eval did not
    form ("N/A") is None.

    Args:
        raw: `results` with keys `metric,filter` and `metric_stderr,filter`; `n-shot` and `n-samples` by task.
    """
    rows = []
    for task, numbers in raw["results"].items():
        for key, value in numbers.items():
            metric, comma, kind = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            rows.append(
                {
                    "task": task,
                    "metric": metric,
                    "filter": kind,
                    "value": _number(value),
                    "stderr": _number(numbers.get(f"{metric}_stderr,{kind}")),
                    "shots": raw.get("n-shot", {}).get(task),
                    "questions": raw.get("n-samples", {}).get(task, {}).get("effective"),
                }
            )
    return rows


def show(value: Mapping[str, Any]) -> None:
    """Prints the table of what lm-eval.json holds."""
    console = Console()
    console = console if console.is_terminal else Console(width=1000, file=console.file)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for head in ("task", "metric", "filter"):
        table.add_column(head, no_wrap=True)
    for head in ("value", "stderr", "shots", "questions"):
        table.add_column(head, justify="right")
    for row in value["results"]:
        numbers = ["none" if row[key] is None else f"{row[key]:.4f}" for key in ("value", "stderr")]
        counts = ["" if row[key] is None else str(row[key]) for key in ("shots", "questions")]
        table.add_row(row["task"], row["metric"], row["filter"], *numbers, *counts)
    console.print(table)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _model_args(found: NamedModel, given: Sequence[str]) -> str:
    """lm_eval's --model_args."""
    path = (
        str(Path(found.path).resolve()) if Path(found.path).is_dir() else found.path
    )  # a folder `7` would be a number
    pairs = {"pretrained": path, "dtype": "auto"}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key or key == "pretrained":
            reason = "MODEL is that" if key == "pretrained" else "what goes into --model_args is KEY=VALUE"
            raise ConfigError(pair, reason=reason, remedy="write it like dtype=float32; options: --help")
        pairs[key] = value
    for key, value in pairs.items():
        if "," in value:
            remedy = "make a link of another name to it" if key == "pretrained" else "give it another value"
            raise ConfigError(f"{key}={value}", reason="lm_eval ends a value at a comma", remedy=remedy)
    return ",".join(f"{key}={value}" for key, value in pairs.items())


def _python(given: str | None, environ: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The interpreter, and the variables it runs with; one that was named keeps all of them."""
    if given is None:
        return str(lm_eval_python(lambda text: say(text, "yellow", stderr=True))), alone()
    return shutil.which(given) or given, dict(environ)


def _options(words: Mapping[str, Any]) -> list[str]:
    """The rest of lm_eval's command."""
    options = ["--tasks", words["tasks"], "--log_samples", "--output_path", str(words["out"] / "lm-eval")]
    for name in ("limit", "num_fewshot", "batch_size", "include_path"):
        if words[name] is not None:
            options += [f"--{name}", str(words[name])]
    return [*options, "--apply_chat_template"] if words["apply_chat_template"] else options
