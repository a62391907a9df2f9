"""YAML as people expect it: `1e-5` is a number, `on` and `no` are text, a key written twice is an error.

PyYAML reads YAML 1.1; the two classes here replace its scalar rules by those of the YAML 1.2 core schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from ixt_rl.errors import ConfigError

Path = tuple[Any, ...]
"""Where a value lies: mapping keys (text, or what YAML made of it) and list indices from the top."""

_SCALARS = {
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}


@dataclass
class Document:
    """A parsed YAML text.

    Args:
        value: plain dicts, lists and scalars; nothing is shared between two places (anchors are copied).
        lines: line number, from 1, of every key and list item.
        duplicates: keys written twice in one mapping, with the line of the second.
    """

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)
    duplicates: list[tuple[Path, int]] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict] = {}

    def __init__(self, text: str):
        super().__init__(text)
        self.read: set[int] = set()  # mapping nodes whose keys were read; an alias meets its node again

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
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


def parse_yaml(text: str, source: str) -> Document:
    """Parses one YAML document.

    Raises:
        ConfigError: `text` is no YAML; names `source`, line and column.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        document = Document(None)
        if root is not None:
            document.value = _build(loader, root, (), document, frozenset())
        return document
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f"{source}, line {mark.line + 1}, column {mark.column + 1}" if mark else source
        detail = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            f"{where}: this is not valid YAML",
            reason=detail + (" (a tab)" if "'\\t'" in detail else ""),
            remedy="indent with spaces, write `key: value`, and quote text that holds `: ` or starts with "
            "one of {[*&!%@`",
        ) from None
    finally:
        loader.dispose()


def _build(loader: _Loader, node: yaml.Node, path: Path, document: Document, above: frozenset[int]) -> Any:
    """Turns a node into plain values, noting lines and duplicate keys; an anchor's use is a copy."""
    if id(node) in above:
        raise yaml.constructor.ConstructorError(None, None, "an anchor contains itself", node.start_mark)
    above |= {id(node)}
    if isinstance(node, yaml.MappingNode) and node.tag == loader.DEFAULT_MAPPING_TAG:
        if id(node) not in loader.read:
            loader.read.add(id(node))
            _note_duplicates(node, path, document)
            loader.flatten_mapping(node)
        mapping = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            document.lines[(*path, key)] = key_node.start_mark.line + 1
            mapping[key] = _build(loader, value_node, (*path, key), document, above)
        return mapping
    if isinstance(node, yaml.SequenceNode) and node.tag == loader.DEFAULT_SEQUENCE_TAG:
        for index, item in enumerate(node.value):
            document.lines[(*path, index)] = item.start_mark.line + 1
        return [_build(loader, item, (*path, i), document, above) for i, item in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


def _note_duplicates(node: yaml.MappingNode, path: Path, document: Document) -> None:
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
