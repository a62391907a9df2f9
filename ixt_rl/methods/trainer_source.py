"""What the source of a user's trainer says before it is imported: its bases, and the fields of its config class."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ixt_rl.errors import ConfigError
from ixt_rl.python_fields import OptionField, is_shipped, unseen_decorators, written_fields
from ixt_rl.python_names import PythonName
from ixt_rl.python_source import ClassSource, Lineage, find, lineage, resolve


@dataclass(frozen=True)
class TrainerSource:
    """A trainer as it is written.

    Args:
        classes: itself and its bases.
        config: its config class and that one's bases; None where the class is not in plain sight.
        unseen: what is not in plain sight, in words.
    """

    classes: Lineage
    config: Lineage | None
    unseen: tuple[str, ...]

    @property
    def fields(self) -> dict[str, OptionField]:
        """Fields of the config class, as far as they are seen."""
        return {} if self.config is None else written_fields(self.config)

    @property
    def bases_seen(self) -> bool:
        """Whether those are all of its bases."""
        return not _unseen(self.classes)

    @property
    def config_seen(self) -> bool:
        """Whether those are all of its fields."""
        return self.config is not None and not _unseen_config(self.config)

    def has_base(self, name: str) -> bool:
        """Whether a class of an installed module, `module:NAME`, is among its bases (or itself)."""
        return class_source(name) in self.classes.classes


def class_source(text: str) -> ClassSource | None:
    """The source of a class by name; None where it is not in plain sight, or there is none."""
    try:
        named = PythonName.parse(text)
    except ConfigError:
        return None
    found = None if named.file is None else find(Path(named.file), named.name)
    return found if isinstance(found, ClassSource) else None


def read_trainer(text: str) -> TrainerSource | None:
    """What is written of a trainer; None where its class is not in plain sight."""
    start = class_source(text)
    if start is None:
        return None
    classes = lineage(start)
    config, unseen = _config(classes)
    found = [*_unseen(classes), *([unseen] if unseen else _unseen_config(config) if config else ())]
    return TrainerSource(classes, config, tuple(dict.fromkeys(found)))


def shipped_trainer(source: TrainerSource, trainers: Iterable[str]) -> str | None:
    """The first of the trainer's bases, or itself, that is one of `trainers` (`module:Class`)."""
    by_class = {class_source(name): name for name in trainers}
    return next((by_class[one] for one in source.classes.classes if one in by_class), None)


def _unseen(classes: Lineage) -> list[str]:
    """Bases of a user's classes that are not in plain sight."""
    return [f"{base}, a base of {one.name}" for one, base in classes.unseen if not is_shipped(one.file)]


def _unseen_config(classes: Lineage) -> list[str]:
    """Bases and decorators of a user's config classes that are not in plain sight: they may have fields."""
    written = [one for one in classes.classes if not is_shipped(one.file)]
    return _unseen(classes) + [f"@{name} of {one.name}" for one in written for name in unseen_decorators(one)]


def _config(classes: Lineage) -> tuple[Lineage | None, str]:
    """(the config class that counts, or what is not in plain sight of it)."""
    for one in classes.classes:
        for statement in one.node.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                if any(isinstance(target, ast.Name) and target.id == "config_class" for target in targets):
                    found = resolve(one.file, statement.value)
                    if isinstance(found, ClassSource):
                        return lineage(found), ""
                    return None, f"config_class of {one.name}"
    return None, f"config_class of {classes.classes[0].name}"
