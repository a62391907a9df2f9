"""`key=value` on the command line: written into the plain configuration before it is validated."""

from __future__ import annotations

from typing import Any

from ixt_rl.config.problems import ConfigProblem
from ixt_rl.errors import ConfigError, did_you_mean, show
from ixt_rl.yaml_io import MOST_LEVELS, Path, YamlFile, parse_yaml


def apply_override(override: str, document: YamlFile, origins: dict[Path, str]) -> ConfigProblem | None:
    """Sets one dotted key (`a.b=c`, `stages.0.optim.lr=1e-4`, `stages.<name>.optim.lr=1e-4`) in place.

    Blocks on the way are made where they are missing. Whether the key exists is for the schema to say.

    Args:
        override: the text of one argument; the value is YAML.
        document: the configuration, changed in place.
        origins: gets the place the value now comes from.

    Returns:
        What is wrong with the override, or None.
    """
    key, equals, text = override.partition("=")
    if not equals or not key or any(not part for part in key.split(".")):
        return ConfigProblem(
            f"override {override!r}",
            "not applied",
            "it is not of the form key=value",
            "write a.b=c, such as seeds=[1,2,3] or stages.0.optim.lr=1e-4",
        )
    if key.count(".") >= MOST_LEVELS:
        return ConfigProblem(show(key), "not applied", f"no key lies {MOST_LEVELS} levels deep", "write a.b=c")
    try:
        parsed = parse_yaml(text, f"override {key}")
    except ConfigError as error:
        return ConfigProblem(key, show(text), error.reason, "quote the value: key='\"...\"'")
    if parsed.duplicates:
        return ConfigProblem(
            key, show(text), f"{parsed.duplicates[0][0][-1]!r} is written twice", "keep one of the two"
        )
    return _set(
        key, parsed.value, document, origins, f"override {override if len(override) <= 200 else override[:197] + '...'}"
    )


def _set(key: str, value: Any, document: YamlFile, origins: dict[Path, str], origin: str) -> ConfigProblem | None:
    holder: Any = document.value
    path: list[str | int] = []
    rest = key
    while True:
        step = _next_step(holder, path, rest)
        if isinstance(step, ConfigProblem):
            return step
        part, rest = step
        if not rest:
            holder[part] = value
            break
        if isinstance(holder, dict) and holder.get(part) is None:
            holder[part] = {}
            origins[(*path, part)] = origin
        holder = holder[part]
        path.append(part)
    here = (*path, part)
    for old in [p for p in document.lines if p[: len(here)] == here]:
        del document.lines[old]
    origins[here] = origin
    return None


def _next_step(holder: Any, path: list[str | int], rest: str) -> tuple[str | int, str] | ConfigProblem:
    """The next key or index of a dotted path, and what remains of it."""
    head, _, tail = rest.partition(".")
    here = ".".join(map(str, path))
    if isinstance(holder, dict):
        return head, tail
    if not isinstance(holder, list):
        return ConfigProblem(
            here, show(holder), f"this is a single value, so it has no `{head}`", f"set {here} as a whole"
        )
    names = _names(holder) if path == ["stages"] else {}
    for name in sorted(names, key=len, reverse=True):  # names may hold dots
        if rest == name or rest.startswith(name + "."):
            return names[name], rest[len(name) + 1 :]
    if head.isdecimal() and int(head) < len(holder):
        return int(head), tail
    known = f"known: {', '.join(names)}, or 0 to {len(holder) - 1}" if names else f"indices: 0 to {len(holder) - 1}"
    return ConfigProblem(
        f"{here}.{head}",
        "no such " + ("stage" if path == ["stages"] else "item"),
        f"`{here}` has {len(holder)} item{'s' if len(holder) != 1 else ''}",
        did_you_mean(head, list(names)) + known,
    )


def _names(stages: list[Any]) -> dict[str, int]:
    """Index of each named stage."""
    return {
        stage["name"]: index
        for index, stage in enumerate(stages)
        if isinstance(stage, dict) and isinstance(stage.get("name"), str) and stage["name"]
    }
