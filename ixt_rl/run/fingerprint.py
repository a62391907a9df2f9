"""What decides a stage's outcome, by name, and the hash of it; what differs between two of them, in words."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ixt_rl.config.rows_of_stages import rows_taken
from ixt_rl.config.schema import RunConfig
from ixt_rl.contents import Hashes, files_of, folder_files
from ixt_rl.differences import differences, short
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.methods.registry import AnyStage, spec_of
from ixt_rl.methods.spec import MethodSpec
from ixt_rl.python_fields import is_shipped
from ixt_rl.python_names import module_file
from ixt_rl.redaction import redacted
from ixt_rl.suites import load_suite

INITIAL = "initial"
"""Folder of a run with the new model that its first stage starts from."""

_PACKAGE = Path(__file__).resolve().parents[1]
_SHARED_CODE = ("worlds", "conditioning", "models.py", "types.py", "trainers/pretrain.py", "run/stages/train.py")
_PATHS = ("path", "model", "judge", "rubric", "prompt", "template", "tokenizer", "trainer")
"""Keys whose text may be a path's alone."""
_CONTENTS = ("files", "model", "compared", "rows")  # ingredients that are hashes of files


def ingredients(
    config: RunConfig,
    stage: AnyStage,
    seed: int | None,
    origin: str,
    hashes: Hashes,
    against: Path | None = None,
    rows: Mapping[str, Path] = MappingProxyType({}),
) -> dict[str, Any]:
    """All that decides a stage's outcome: its settings, the contents of what they name, its model, versions, code.

    Args:
        origin: folder or hub id of the model it starts from.
        against: continuations that it compares its own with.
        rows: folders of the rows that stages make, by the stage's name.
    """
    settings: dict[str, Any] = stage.model_dump(mode="json", exclude={"name", "init"})
    spec = spec_of(stage)
    if not spec.shared and not spec.makes_rows:
        settings["engine"] = config.engine.model_dump(mode="json", exclude=set(config.engine.unread_sections))
    for block, key, *_ in config.unread:
        if block is stage:
            settings.pop(key, None)  # what changes nothing is left out already
    if not spec.makes_rows:
        settings["model"] = config.model.model_dump(mode="json", exclude={"path", "new"})
    apart = Path(config.output_dir)
    named = [*_texts(settings), *modules_of(spec)]
    files = {name: file for text in named for name, file in files_of(text, apart).items()}
    files |= {str(file): file for file in suite_files_of(stage)}
    found: dict[str, Any] = {
        "settings": json.loads(redacted(json.dumps(settings))),
        "seed": seed,
        "files": {name: hashes.of(file) for name, file in files.items()},
        "model": _model(config, origin, hashes) if stage.reads_model else {},
        "versions": _versions(config, stage),
        "code": code_hash(_SHARED_CODE) if spec.shared else code_hash(),
    }
    if against is not None and against.is_file():
        found["compared"] = {f"{against.parent.parent.name}'s continuations": hashes.of(against)}
    makers = rows_taken(stage, config.named)
    if makers:
        folders = [(maker.name, rows[maker.name]) for maker in makers if maker.name in rows]
        found["rows"] = {
            f"{name}/{file.name}": hashes.of(file) for name, at in folders for file in sorted(at.glob("part-*"))
        }
        found["annotators"] = {maker.name: getattr(maker, "judge_parameters", None) for maker in makers}
    return found


def suite_files_of(stage: AnyStage) -> list[Path]:
    """Files that the suites of a stage's evaluation are read from, and YAML files that describe them."""
    block = getattr(getattr(stage, "evaluation", None), "suites", None)
    if block is None:
        return []
    from ixt_rl.evaluation.suites.files import suite_files  # it imports torch, which most plans do without

    data = None if block.data is None else Path(block.data).expanduser()
    rows = [file for name in block.names for file in suite_files(load_suite(name), data)]
    return [*rows, *(Path(name) for name in (*block.names, block.preset) if Path(name).is_file())]


def check_suite_files(stages: Iterable[AnyStage]) -> None:
    """Refuses suites whose files are not there, of all stages before the first one runs.

    Raises:
        ConfigError: names the stage, what was looked for, and where.
    """
    for stage in stages:
        try:
            suite_files_of(stage)
        except DataError as error:
            raise ConfigError(
                f"stages.{stage.name}.evaluation.suites: {error.what}",
                reason=error.reason,
                remedy=error.remedy.replace("--data DIR", "data: DIR"),
            ) from None


def fingerprint(found: Mapping[str, Any]) -> str:
    """sha256 of ingredients."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def model_fingerprint(config: RunConfig, origin: str) -> str:
    """A local model by the contents of all its files, one from the hub by its id; with dtype and attention."""
    settings = config.model.model_dump(mode="json", exclude={"path", "new"})
    return fingerprint({"settings": settings, "model": _model(config, origin, Hashes())})


def changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Which ingredients differ, each in a few words: `optim.lr: 0.001, now 0.002`; `reward.py changed`."""
    found = []
    for path, before, now in differences(dict(there), dict(here)):
        top, name = path[0], ".".join(path[1:])
        if top in _CONTENTS and len(path) > 1:
            what = "is new" if before is None else "is gone" if now is None else "changed"
            found.append(f"{path[1]}{' of the model it starts from' if top == 'model' else ''} {what}")
        elif top == "code":
            found.append("the code of ixt-rl changed")
        else:
            found.append(f"{name or top}: {short(before)}, now {short(now)}")
    return found


def initial_path(config: RunConfig) -> Path:
    """Where a run's new model is written."""
    return Path(config.output_dir) / config.name / INITIAL


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


def _model(config: RunConfig, origin: str, hashes: Hashes) -> dict[str, Any]:
    """A local model by the contents of its files, a new one by what it is made from, one from the hub by its id."""
    if config.model.new is not None and Path(origin) == initial_path(config):
        return {"new": config.model.new.model_dump(mode="json"), "world": config.first_world}
    if Path(origin).is_dir():
        return {name: hashes.of(file) for name, file in folder_files(Path(origin))}
    return {"hub": origin}


def modules_of(spec: MethodSpec) -> list[str]:
    """The modules, as `module:NAME`, by which a package adds a method; none of a method of this library."""
    named = [spec.stage.__module__, getattr(spec.options, "__module__", None)]
    named += [name and name.partition(":")[0] for name in (spec.runner, spec.trainer, spec.precondition)]
    modules = [module for module in dict.fromkeys(named) if module is not None]
    found = {module: module_file(module) for module in modules}
    return [f"{module}:SPEC" for module, file in found.items() if file is not None and not is_shipped(file)]


def _versions(config: RunConfig, stage: AnyStage) -> dict[str, str | None]:
    """Versions of the libraries that compute the stage."""
    names = ["torch", "transformers", "trl", "tokenizers"]
    if getattr(stage, "lora", None) is not None:
        names += ["peft", *(["bitsandbytes"] if stage.lora.quantize else [])]
    if config.engine.type != "transformers" and "engine" in spec_of(stage).needs:
        names.append("vllm")
    if any(reward.type == "math" for reward in getattr(stage, "rewards", ())):
        names.append("math-verify")
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    for distribution in (name, f"{name}-cpu"):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def _texts(value: Any, key: str = "", optional: bool = False) -> Iterator[str]:
    """Texts among settings that may name a file; `optional`: among the options of a judge, whose keys are not ours."""
    if isinstance(value, dict):
        if key == "axes":
            yield from value
        for name, item in value.items():
            yield from _texts(item, name, optional or name == "options")
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key, optional)
    elif isinstance(value, str) and (key in _PATHS or (optional and "/" in value and not _holds_all(value))):
        yield value


def _holds_all(path: str) -> bool:
    """Whether a folder holds the current one, or that of temporary files: such a one is no input of a stage."""
    folder = Path(path).expanduser().resolve()
    return any(place.resolve().is_relative_to(folder) for place in (Path.cwd(), Path(tempfile.gettempdir())))
