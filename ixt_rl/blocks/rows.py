"""Rows: those that a job on a corpus reads, and those that an earlier stage of the run has made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationInfo, model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.strict import Name, Rows, Seed, Strict
from ixt_rl.errors import ConfigError

AnyBlock = TypeVar("AnyBlock", bound=BaseModel)


class TakesRowsBlock(Strict):
    """A block that may take its rows from an earlier stage of the run. The key is `from`."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: Name | None = Field(
        None, alias="from", description="an earlier annotate or rewrite stage of the run, whose rows these are"
    )

    def of_folder(self, folder: Path) -> dict[str, Any]:
        """The keys that say where the rows of the stage lie, once they are there."""
        return {"path": str(folder)}

    @property
    def source_name(self) -> str:
        """What metrics call it among other sources: the stage that makes the rows, or the last part of its path."""
        path: Any = getattr(self, "path", None)
        return self.from_ or source_name(path if isinstance(path, str) else path[0])

    def require_one(self, path: Any, of: str) -> None:
        """Raises ConfigError unless the block has either a path or `from`."""
        if (path is None) == (self.from_ is None):
            raise ConfigError(
                f"{of} with neither `path` nor `from`" if path is None else f"path={path!r} with from={self.from_!r}",
                reason="rows come from files or from one stage of the run",
                remedy="give `path`, or `from` with the name of an earlier annotate or rewrite stage",
            )


def source_name(path: str) -> str:
    """The last part of a path that has letters or digits once its ending and what no name has are taken off."""
    names = (re.sub(r"\.(jsonl?|parquet)(\.gz)?$", "", part) for part in reversed(Path(path).parts))
    cleaned = (re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") for name in names)
    return next((name for name in cleaned if name), "source")


def source_names(sources: Sequence[TakesRowsBlock]) -> list[str]:
    """What metrics call the sources of a mixture, all different: a number behind one that is there before."""
    bases = [source.source_name for source in sources]
    seen = [bases[:place].count(base) for place, base in enumerate(bases)]
    return [f"{base}-{before + 1}" if before else base for base, before in zip(bases, seen, strict=True)]


def blocks_with_rows(value: Any, where: str = "") -> Iterator[tuple[str, TakesRowsBlock]]:
    """(path below `value`, block) of every block that names a stage with `from`."""
    if isinstance(value, list):
        for place, entry in enumerate(value):
            yield from blocks_with_rows(entry, f"{where}.{place}")
    elif isinstance(value, BaseModel):
        if isinstance(value, TakesRowsBlock) and value.from_ is not None:
            yield f"{where}.from".lstrip("."), value
        for name in type(value).model_fields:
            yield from blocks_with_rows(getattr(value, name), f"{where}.{name}")


def with_folders(value: AnyBlock, folders: Mapping[str, Path]) -> AnyBlock:
    """`value` with the folder of its rows beside the name of each stage."""
    changed = {}
    for name in type(value).model_fields:
        before = getattr(value, name)
        now = _with_folders(before, folders)
        if now is not before:
            changed[name] = now
    if isinstance(value, TakesRowsBlock) and value.from_ is not None:
        changed |= value.of_folder(folders[value.from_])
    return value.model_copy(update=changed) if changed else value


def _with_folders(value: Any, folders: Mapping[str, Path]) -> Any:
    if isinstance(value, BaseModel):
        return with_folders(value, folders)
    if isinstance(value, list) and any(isinstance(entry, BaseModel) for entry in value):
        found = [_with_folders(entry, folders) for entry in value]
        return found if any(a is not b for a, b in zip(found, value, strict=True)) else value
    return value


class FileRowsBlock(TakesRowsBlock):
    """Rows of files, of one hub dataset, or of an earlier stage."""

    path: str | None = Field(
        None,
        description="a .jsonl, .json (a row a line) or .parquet file, a folder or a pattern of them, or one hub "
        "dataset id",
    )
    name: str | None = Field(None, description="configuration of a hub dataset")
    split: str = "train"

    @model_validator(mode="after")
    def _there(self, info: ValidationInfo) -> FileRowsBlock:
        self.require_one(self.path, "data")
        if self.path is not None:
            checks.check_data_source(self.path, info)
        return self


class WorldRowsBlock(Strict):
    """Documents that a world writes, one a row, in the column `text`."""

    world: Literal["chain", "facts", "almanac"]
    documents: Rows = Field(2000, description="how many")
    seed: Seed = 0


def _tag(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", {})
    return "world" if "world" in keys else "files"


JobRows = Annotated[
    Annotated[WorldRowsBlock, Tag("world")] | Annotated[FileRowsBlock, Tag("files")], Discriminator(_tag)
]
"""What an annotate or rewrite stage reads."""
