"""What a configuration can be checked for beyond its types before anything loads: files, packages, names.

These run as pydantic validators of single values, so that their findings come in one list with all
others. They look at this machine, hence only where the caller asks for it (`ON_THIS_MACHINE`).
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any, Literal

import yaml
from pydantic import ValidationInfo

import ixt_rl
from ixt_rl import backends
from ixt_rl.blocks.hub_ids import missing_here, written_as_local
from ixt_rl.blocks.judge_options import CALLED_WITH, check_options
from ixt_rl.blocks.python_name import check_arguments, check_python_name, missing_path, off
from ixt_rl.errors import BackendMissing, ConfigError, did_you_mean

DATA_ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")
_ABOUT_DATA = ("annotation.json", "rewriting.json", "dataset_info.json", "dataset_infos.json", "state.json")
"""What jobs and `datasets` write beside data."""
MOST_ROWS = 10**8
"""That a world makes for one stage."""

_FILE_ENDING = re.compile(r"\.(jsonl?|parquet|csv|tsv|txt|arrow|ya?ml|gz|zst|zip)$", re.IGNORECASE)
_WEIGHT_ENDING = re.compile(r"\.(safetensors|bin|gguf|pt|pth)$", re.IGNORECASE)

ADAPTER_CONFIG = "adapter_config.json"
"""File of a folder that holds an adapter of peft."""

_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""Names of a model's positions in config.json; the later ones are GPT-2's and MPT's."""


def check_data_path(path: str, info: ValidationInfo) -> str:
    """A data file exists and is of a kind that can be read; hub ids pass."""
    if off(info):
        return path
    local = Path(path).expanduser()
    if not written_as_local(path) and not _FILE_ENDING.search(path) and not local.exists():
        if (missing := missing_here(path, "datasets")) is not None:
            raise missing
        return path
    if not local.exists():
        raise missing_path(path)
    if local.is_dir() or not local.name.lower().endswith(DATA_ENDINGS):
        raise ConfigError(
            repr(path),
            reason="this is a folder" if local.is_dir() else f"files ending in {local.suffix!r} are not read",
            remedy=f"name one file ending in {', '.join(DATA_ENDINGS)}, or a hub dataset id",
        )
    return str(local)


def check_folder(path: str, info: ValidationInfo) -> str:
    """A folder of this machine exists."""
    if not off(info) and not Path(path).expanduser().is_dir():
        raise (
            missing_path(path)
            if not Path(path).expanduser().exists()
            else ConfigError(repr(path), reason="this is a file", remedy="name the folder that it lies in")
        )
    return path


def data_files(path: str) -> list[str]:
    """The files of a folder or of a pattern such as `part-*.parquet`, in order of their names; else `path` alone."""
    local = Path(path).expanduser()
    if local.is_dir():
        found = (file for file in local.iterdir() if file.is_file() and file.name not in _ABOUT_DATA)
        return sorted(str(file) for file in found if file.name.lower().endswith(DATA_ENDINGS))
    if not local.exists() and glob.has_magic(path):
        return sorted(glob.glob(str(local), recursive=True))
    return [str(local)] if local.exists() else [path]


def on_this_machine(path: str) -> bool:
    """Whether a model or data are files here, and not of the hub."""
    return all(Path(file).expanduser().exists() for file in data_files(path))


def check_data_source(path: str, info: ValidationInfo) -> str:
    """As `check_data_path`; a folder or a pattern stands for the files it holds."""
    if off(info):
        return path
    files = data_files(path)
    if not files:
        raise ConfigError(
            repr(path),
            reason=f"it holds no file that ends in {', '.join(DATA_ENDINGS)}",
            remedy="name a file, a folder or a pattern of such files, or a hub dataset id",
        )
    for file in files:
        check_data_path(file, info)
    return path


def check_model_path(path: str, info: ValidationInfo) -> str:
    """A local model is a Hugging Face folder; hub ids pass."""
    if off(info):
        return path
    local = Path(path).expanduser()
    if not written_as_local(path) and not local.exists() and not _WEIGHT_ENDING.search(path):
        if (missing := missing_here(path, "models")) is not None:
            raise missing
        return path
    if not local.exists():
        raise missing_path(path)
    if not (local / "config.json").is_file():
        refuse_adapter(local)
        raise ConfigError(
            repr(path),
            reason="it holds no config.json" if local.is_dir() else "a model is a folder, this is a file",
            remedy="name the folder that save_pretrained wrote (config.json, weights, tokenizer)",
        )
    return str(local)


def refuse_adapter(path: str | Path) -> None:
    """Raises ConfigError for a folder that holds an adapter; for those without a config.json."""
    folder = Path(path).expanduser()
    if (folder / ADAPTER_CONFIG).is_file():
        beside = folder.parent / "model"
        at_hand = (
            f"name {beside}, the stage's model with it merged in, or " if (beside / "config.json").is_file() else ""
        )
        raise ConfigError(
            str(path),
            reason="it holds an adapter, which is no model without its base",
            remedy=f"{at_hand}merge the two: ixt-rl merge {path} OUT",
        )


def folder_positions(folder: str) -> int | None:
    """Positions of the model in a local folder; None where its config.json does not say, or there is none."""
    file = Path(folder).expanduser() / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # a hub id, or what loading the model will complain of
    return positions_of(config)


def positions_of(config: Any) -> int | None:
    """Positions that a model's config.json names; None where it names none."""
    if not isinstance(config, dict):
        return None
    found = next((config[name] for name in _POSITIONS if name in config), None)
    if found is None:
        return positions_of(config.get("text_config"))
    return found if type(found) is int and found > 0 else None


def check_asked_model(name: str, info: ValidationInfo, words: Sequence[str] = ("world",)) -> str:
    """Who is asked as a judge or rewriter: one of `words`, or a kind and what it is of, which exists."""
    if name in words:
        return name
    kind, colon, target = name.partition(":")
    if not colon or not target or kind not in ("python", "openai", "hf", "vllm"):
        raise ConfigError(
            repr(name),
            reason=f"it is neither {' nor '.join(f'`{word}`' for word in words)} nor a kind and a target",
            remedy=f"{did_you_mean(name, list(words))}write {', '.join(words)}, python:FILE.py:FUNCTION, "
            "openai:MODEL, hf:FOLDER or vllm:FOLDER",
        )
    if kind == "python":
        return f"python:{check_python_name(target, info)}"
    if kind in ("hf", "vllm") and not off(info) and not (Path(target).expanduser() / "config.json").is_file():
        refuse_adapter(target)
        raise ConfigError(
            repr(name), reason="there is no folder with a config.json", remedy="download the model and name its folder"
        )
    backend = {"openai": "openai", "vllm": "vllm"}.get(kind)
    if backend is not None:
        needs_backend(backend, f"{kind}:...", info)
    return name


def check_choosing_model(name: str, info: ValidationInfo) -> str:
    """As `check_asked_model`; `random` reads nothing."""
    return check_asked_model(name, info, ("world", "random"))


def check_asked(name: str, options: Mapping[str, Any], max_new_tokens: int, role: str, info: ValidationInfo) -> None:
    """Options of who is asked are ones of its kind, a function takes what it is given, and a local model has room for a
    prompt beside the answer."""
    kind, _, target = name.partition(":")
    check_options(kind, options, role)
    if kind == "python":
        check_arguments(target, info, CALLED_WITH[role])
    positions = None
    if kind in ("hf", "vllm") and not off(info):
        positions = options.get("max_model_len", folder_positions(target))
    if positions is not None and max_new_tokens >= positions:
        raise ConfigError(
            f"max_new_tokens={max_new_tokens} with the {role} {name}",
            reason=f"its limit is {positions} tokens for a prompt and its answer: there is no room for a prompt",
            remedy=f"lower it below {positions}",
        )


def check_rewriter_model(name: str, info: ValidationInfo) -> str:
    """As `check_asked_model`; `stored:FOLDER` takes what `ixt-rl rewrite` has written."""
    kind, _, target = name.partition(":")
    if kind != "stored":
        return check_asked_model(name, info)
    if not off(info) and not data_files(target):
        raise ConfigError(
            repr(name),
            reason="it holds no .parquet and no .jsonl file",
            remedy="name the folder of an `ixt-rl rewrite` job",
        )
    return name


def check_question_file(
    name: str, kind: Literal["rubrics", "prompts"], info: ValidationInfo, also: tuple[str, ...] = ()
) -> str:
    """A rubric of judges, or a prompt of rewriters, that the library ships, one of `also`, or a YAML file."""
    known = [*also, *_question_files(kind)]
    if not off(info) and name not in known and not Path(name).expanduser().is_file():
        raise ConfigError(
            repr(name),
            reason=f"it is neither one of the shipped {kind} nor a file",
            remedy=did_you_mean(name, known) + f"one of {', '.join(known)}, or the path of a YAML file",
        )
    return name


def question_fields(
    name: str, kind: Literal["rubrics", "prompts"], info: ValidationInfo, *, required: bool = False
) -> list[str] | None:
    """Texts that a rubric or prompt asks for; None where its file is not looked at, or is none.

    Args:
        required: leave out those that rows may lack.
    """
    file = _question_files(kind).get(name, Path(name).expanduser())
    if off(info) or not file.is_file():
        return None
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        return [*found["fields"], *(() if required else found.get("optional") or {})]
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        return None  # the job says what is wrong with it


def _question_files(kind: Literal["rubrics", "prompts"]) -> dict[str, Path]:
    folder = Path(ixt_rl.__file__).parent / {"rubrics": "judging", "prompts": "rewriting"}[kind] / kind
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


@cache
def _of_conditioning(file: str) -> dict[str, dict]:
    """A file of `conditioning/`, read as a file: importing that package would import torch."""
    return yaml.safe_load((Path(ixt_rl.__file__).parent / "conditioning" / file).read_text(encoding="utf-8"))


def _templates() -> dict[str, dict]:
    return _of_conditioning("templates.yaml")


def template_names() -> tuple[str, ...]:
    """Names of the shipped templates."""
    return tuple(_templates())


def feedback_template_names() -> tuple[str, ...]:
    """Names of the shipped templates of feedback; those that worlds have of their own bear the same names."""
    return tuple(_of_conditioning("feedback.yaml")["templates"])


def is_chat_template(name: str) -> bool:
    """Whether a shipped template is of chats."""
    return bool(_templates()[name].get("chat"))


def check_template_name(name: str) -> str:
    """A named template exists."""
    if name not in template_names():
        raise ConfigError(
            repr(name),
            reason="no template has that name",
            remedy=did_you_mean(name, list(template_names()))
            + f"known: {', '.join(template_names())}; or write one here: {{prompt: ..., told: ...}}",
        )
    return name


def check_shown(key: str, text: str, fields: set[str], reason: str) -> None:
    """Refuses a text that does not show exactly these fields.

    Raises:
        ConfigError: says which, and why.
    """
    if template_fields(text) != fields:
        shown = " and ".join(f"{{{field}}}" for field in sorted(fields))
        raise ConfigError(f"{key}={text!r}", reason=reason, remedy=f"put {shown} in it, and no other field")


def template_fields(text: str) -> set[str]:
    """The `{fields}` of a template (`{{` and `}}` are literal braces); a dotted one is the column of that name.

    Raises:
        ConfigError: a brace is unbalanced, or what stands in braces is no name by itself.
    """
    try:
        parts = [part for part in Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(repr(text), reason=str(error), remedy="write literal braces doubled: {{ and }}") from None
    for _, field, form, conversion in parts:
        within = (field or "").split(".")
        named = all(part.isidentifier() for part in within) and (len(within) == 1 or within[0] != "question")
        if not named or form or conversion:
            shown = f"{field}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
            raise ConfigError(
                repr(text),
                reason=f"{{{shown}}} is no field: the name of a column stands alone in its braces",
                remedy="write {question}, {answer} or {column}, and literal braces doubled: {{ and }}",
            )
    return {str(field) for _, field, _, _ in parts}


def check_pattern(pattern: str) -> str:
    """A regular expression compiles."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            repr(pattern),
            reason=f"not a regular expression: {error}",
            remedy="correct it; in YAML, single quotes keep backslashes as they are",
        ) from None
    return pattern


def check_output_dir(path: str, info: ValidationInfo) -> str:
    """The folder of the runs can be made: its deepest existing parent is a writable folder."""
    if off(info):
        return path
    folder = Path(path).expanduser()
    parent = folder.absolute()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ConfigError(
            repr(path), reason=f"{parent} is no folder that can be written to", remedy="name another folder"
        )
    return str(folder)


def needs_rows(rows: int, of: str) -> None:
    """A world's `rows` problems or documents, which are made before training, are a number that memory holds."""
    if rows > MOST_ROWS:
        raise ConfigError(
            of,
            reason=f"{rows} rows would be made before training, at most {MOST_ROWS} are",
            remedy="make it shorter, or split it into stages",
        )


def needs_memory(size: int, of: str, info: ValidationInfo) -> None:
    """`size` bytes of weights are at most this machine's memory."""
    if off(info) or not hasattr(os, "sysconf"):
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > there:
        raise ConfigError(
            of,
            reason=f"weights of {size / 2**30:,.0f} GiB do not fit in the {there / 2**30:,.0f} GiB of this machine",
            remedy="make the model smaller",
        )


def needs_backend(name: str, used_for: str, info: ValidationInfo) -> None:
    """A package that a value asks for is installed (looked up, not imported)."""
    if off(info):
        return
    try:
        backends.require(name, used_for=used_for)
    except BackendMissing as error:
        raise ConfigError(error.what, reason=error.reason, remedy=error.remedy) from None
