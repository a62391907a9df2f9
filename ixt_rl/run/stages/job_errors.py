"""Errors of a job on a corpus, in a run: what they call by the command line's options are keys of the stage here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ixt_rl.errors import ConfigError, DataError

_RENAMED = {"max_tokens": "max_new_tokens"}


@contextmanager
def in_keys_of_the_stage() -> Iterator[None]:
    """Raises again what a job refuses, with `fields: {text: COLUMN}` for `--field text=COLUMN` and so on."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise type(error)(keys(error.what), reason=keys(error.reason), remedy=keys(error.remedy)) from error


def keys(text: str) -> str:
    """A text with the options of the command line as keys of a stage."""
    text = re.sub(r"--field (\w+)=(COLUMN|\.\.\.)", r"`fields: {\1: \2}`", text)
    text = re.sub(r"--(format) (\w+)", r"`\1: \2`", text)
    return re.sub(r"--([a-z][a-z-]+)", lambda found: f"`{_key(found[1])}`", text)


def _key(option: str) -> str:
    name = option.replace("-", "_")
    return _RENAMED.get(name, name)
