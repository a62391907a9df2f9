"""YAML as people expect it: `1e-5` is a number, `on` and `no` are text, a key written twice is an error.

PyYAML reads YAML 1.1; the two classes here replace its scalar rules by those of the YAML 1.2 core schema. Size, depth
and the copies that anchors make are bounded, so that no text takes more than a moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from ixt_rl.errors import ConfigError

Path = tuple[Any, ...]
"""Where a value lies: mapping keys (text, or what YAML made of it) and list indices from the top."""

MOST_BYTES = 1 << 18
"""Size of a text, in bytes of UTF-8."""

MOST_NODES = 20_000
"""Values of a text, aliases and merged keys counted where they stand."""

MOST_LEVELS = 64
"""Blocks and lists inside one another."""

_MOST_DIGITS = 100  # of a whole number: more than any setting has, and Python itself refuses some thousands

_SCALARS = {
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}


_TAGS = {"null": "null", "bool": "bool", "int": "whole number of a sensible length", "float": "number", "str": "text"}


@dataclass
class YamlFile:
    """A parsed YAML text.

    Args:
        value: plain dicts, lists and scalars; nothing is shared between two places (anchors are copied).
        lines: line number, from 1, of every key and list item.
        duplicates: keys written twice in one mapping, with the line of the second.
    """

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)
    duplicates: list[tuple[Path, int]] = field(default_factory=list)


class _TooMuch(yaml.MarkedYAMLError):
    """More than one of the bounds above."""

    def __init__(self, mark: yaml.Mark, problem: str, remedy: str):
        super().__init__(problem=problem, problem_mark=mark)
        self.remedy = remedy


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict] = {}

    def __init__(self, text: str):
        super().__init__(text)
        self.read: set[int] = set()  # mapping nodes whose keys were read; an alias meets its node again
        self.levels = self.nodes = self.values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.levels, self.nodes = self.levels + 1, self.nodes + 1
        mark = self.peek_event().start_mark
        if self.levels > MOST_LEVELS:
            raise _TooMuch(mark, f"more than {MOST_LEVELS} levels inside one another", "write it flatter")
        if self.nodes > MOST_NODES:
            raise _TooMuch(mark, f"more than {MOST_NODES} values", "leave out what no run needs")
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Puts merged keys in front of a mapping's own; PyYAML's own way, with its work counted."""
        merged: list[tuple[yaml.Node, yaml.Node]] = []
        own = []
        for key_node, value_node in node.value:
            if key_node.tag != "tag:yaml.org,2002:merge":
                own.append((key_node, value_node))
                continue
            sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for source in reversed(sources):  # of equal keys the last counts: the first source's, here
                if not isinstance(source, yaml.MappingNode):
                    raise yaml.constructor.ConstructorError(
                        None, None, f"`<<` merges blocks, this is a {source.id}", source.start_mark
                    )
                if id(source) not in self.read:
                    self.read.add(id(source))
                    self.flatten_mapping(source)
                self.count(source, len(source.value))
                merged += source.value
        node.value = merged + own

    def count(self, node: yaml.Node, values: int = 1) -> None:
        """Counts values that a use of `node` makes."""
        self.values += values
        if self.values > MOST_NODES:
            raise _TooMuch(
                node.start_mark,
                f"aliases (`*name`) and merges (`<<`) copy this to more than {MOST_NODES} values",
                "use fewer of them",
            )

    def scalar(self, node: yaml.Node) -> Any:
        """The value of a scalar.

        Raises:
            ConstructorError: it is none, or its text is nothing that its tag can be.
        """
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if not isinstance(node, yaml.ScalarNode) or kind not in _TAGS:
            raise yaml.constructor.ConstructorError(None, None, f"the tag `{node.tag}` is not read", node.start_mark)
        try:
            return self.construct_object(node, deep=True)
        except (ValueError, LookupError, ArithmeticError):
            shown = node.value if len(node.value) <= 40 else node.value[:37] + "..."
            raise yaml.constructor.ConstructorError(
                None, None, f"{shown!r} is no {_TAGS[kind]}", node.start_mark
            ) from None

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        if len(text) > _MOST_DIGITS:
            raise ValueError(text)
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)


class _Dumper(yaml.SafeDumper):
    """Quotes text that either YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, (_pattern, _first) in _SCALARS.items():
    _tag, _regex = f"tag:yaml.org,2002:{_name}", re.compile(rf"^(?:{_pattern})$")
    _starts = [*_first, ""] if _name == "null" else list(_first)
    _Loader.add_implicit_resolver(_tag, _regex, _starts)
    _Dumper.add_implicit_resolver(_tag, _regex, _starts)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def parse_yaml(text: str, source: str) -> YamlFile:
    """Parses one YAML document.

    Raises:
        ConfigError: `text` is no YAML, or more than the bounds above; names `source`, line and column.
    """
    size = len(text.encode("utf-8", "replace"))
    if size > MOST_BYTES:
        raise ConfigError(
            f"{source}: too large",
            reason=f"no run needs more than {MOST_BYTES} bytes to be described",
            remedy="name the YAML file of a run; data goes into files that it names",
        )
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        document = YamlFile(None)
        if root is not None:
            document.value = _build(loader, root, (), document, frozenset())
        return document
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{source}, line {line}: this is not valid YAML",
            reason=f"the character U+{error.character:04X} may not stand in it",
            remedy="remove it, or write it as an escape between double quotes",
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f"{source}, line {mark.line + 1}, column {mark.column + 1}" if mark else source
        detail = str(getattr(error, "problem", None) or error)
        detail = detail if len(detail) <= 200 else detail[:197] + "..."
        raise ConfigError(
            f"{where}: {'too much' if isinstance(error, _TooMuch) else 'this is not valid YAML'}",
            reason=detail + (" (a tab)" if "'\\t'" in detail else ""),
            remedy=error.remedy
            if isinstance(error, _TooMuch)
            else "indent with spaces, write `key: value`, and quote text that holds `: ` or starts with "
            "one of {[*&!%@`",
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


def _build(loader: _Loader, node: yaml.Node, path: Path, document: YamlFile, above: frozenset[int]) -> Any:
    """Turns a node into plain values, noting lines and duplicate keys; an anchor's use is a copy."""
    if id(node) in above:
        raise yaml.constructor.ConstructorError(None, None, "an anchor contains itself", node.start_mark)
    if len(above) >= MOST_LEVELS:
        raise _TooMuch(node.start_mark, f"more than {MOST_LEVELS} levels inside one another", "write it flatter")
    loader.count(node)
    above |= {id(node)}
    if isinstance(node, yaml.MappingNode) and node.tag == loader.DEFAULT_MAPPING_TAG:
        if id(node) not in loader.read:
            loader.read.add(id(node))
            _note_duplicates(node, path, document)
            loader.flatten_mapping(node)
        mapping = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            key = loader.scalar(key_node)
            document.lines[(*path, key)] = key_node.start_mark.line + 1
            mapping[key] = _build(loader, value_node, (*path, key), document, above)
        return mapping
    if isinstance(node, yaml.SequenceNode) and node.tag == loader.DEFAULT_SEQUENCE_TAG:
        for index, item in enumerate(node.value):
            document.lines[(*path, index)] = item.start_mark.line + 1
        return [_build(loader, item, (*path, i), document, above) for i, item in enumerate(node.value)]
    return loader.scalar(node)


def _note_duplicates(node: yaml.MappingNode, path: Path, document: YamlFile) -> None:
    """Notes keys written twice. Keys merged by `<<` are not written here, so they may be overridden."""
    seen: set[str] = set()
    for key_node, _ in node.value:
        if isinstance(key_node, yaml.ScalarNode):
            entry = ((*path, key_node.value), key_node.start_mark.line + 1)
            if key_node.value in seen:
                document.duplicates.append(entry)
            seen.add(key_node.value)


def dump_yaml(value: Any) -> str:
    """YAML text that `parse_yaml` reads back to an equal value; keys keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
