"""The model that the first stage starts from."""

from __future__ import annotations

from pathlib import Path

from ixt_rl.config.schema import RunConfig
from ixt_rl.files import open_weights
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.run.fingerprint import initial_path
from ixt_rl.run.folder import RunFolder
from ixt_rl.worlds import WORLDS, AdditionWorld


def initial_model(config: RunConfig, folder: RunFolder) -> str:
    """Path or hub id of the model that the first stage starts from; a new one is written first."""
    if config.model.path is not None:
        return config.model.path
    assert config.model.new is not None
    world = AdditionWorld() if config.first_world is None else WORLDS[config.first_world]()
    tokenizer = byte_tokenizer() if config.model.new.tokenizer == "bytes" else world.tokenizer()
    path = initial_path(config)
    new_model(config.model.new, tokenizer).save_pretrained(path)
    tokenizer.save_pretrained(path)
    open_weights(Path(path))
    return str(path)
