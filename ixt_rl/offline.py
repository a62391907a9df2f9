"""Work on local files asks the hub nothing: `huggingface_hub` would, once a process, even to load a local tokenizer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "HF_HUB_OFFLINE"  # read by processes that are started, engines for instance


@contextmanager
def offline(wanted: bool = True) -> Iterator[None]:
    """A `with` in which the hub is not asked, as under HF_HUB_OFFLINE=1; if not `wanted`, all stays as it is."""
    if not wanted:
        yield
        return
    from huggingface_hub import constants

    constant, variable = constants.HF_HUB_OFFLINE, os.environ.get(_VARIABLE)
    constants.HF_HUB_OFFLINE, os.environ[_VARIABLE] = True, "1"
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = constant
        os.environ.pop(_VARIABLE)
        if variable is not None:
            os.environ[_VARIABLE] = variable
