"""An adapter as peft saves it, and beside it which weights it was trained on.

    adapter/  adapter_config.json  adapter_model.safetensors  base.json  tokenizer

`base.json` has a hash of the model below the adapters, by value: a base that is stored in bfloat16, or in other
shards, is the same one. Of a base in 4 bits it is the hash of the weights that were quantized.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ixt_rl.blocks.checks import ADAPTER_CONFIG
from ixt_rl.blocks.model import ADAPTER
from ixt_rl.errors import ConfigError
from ixt_rl.files import write_json
from ixt_rl.kernels.head import zero3_gathered
from ixt_rl.pretrained.quantizing import quantized_from
from ixt_rl.pretrained.weights_hash import weights_hash

BASE = "base.json"
"""File beside an adapter: the base it belongs to."""


def save_adapter(model: Any, folder: Path, writes: bool = True) -> None:
    """Writes a model's adapters so that plain peft loads them on the model they were trained on.

    Collective where weights are sharded.

    Args:
        model: a `peft.PeftModel`, not wrapped further.
        folder: where to.
        writes: whether this process does; the others of a sharded model only take part.
    """
    origin = quantized_from(model)
    with nullcontext() if origin else model.disable_adapter():
        base = origin or {"sha256": weights_hash(model)}
    trained = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with zero3_gathered(parameter):
                whole: Any = parameter.detach()
                trained[name] = (whole.full_tensor() if hasattr(whole, "full_tensor") else whole).to("cpu", copy=True)
    if not writes:
        return
    config = model.peft_config["default"]
    name = config.base_model_name_or_path
    if name and Path(name).is_dir():
        config.base_model_name_or_path = str(Path(name).resolve())
    model.save_pretrained(folder, state_dict=trained, save_embedding_layers=False)
    write_json(folder / BASE, {"base": config.base_model_name_or_path, **base})


def find_adapter(place: Path) -> Path:
    """The folder of an adapter: itself, that of a stage, or that of a run's last stage.

    Raises:
        ConfigError: there is none.
    """
    last = (place / "model").resolve().parent
    for folder in (place, place / ADAPTER, last / ADAPTER):
        if (folder / ADAPTER_CONFIG).is_file():
            return folder
    stage = place.parent if place.name == "model" else place
    layouts = ("", "*/", "stages/*/", "stages/*/*/")  # of a stage, of its seeds, of a run
    below = sorted(str(file.parent) for at in layouts for file in stage.glob(f"{at}{ADAPTER}/{ADAPTER_CONFIG}"))
    raise ConfigError(
        f"{place}: no adapter",
        reason=f"neither it nor the stage that a run ends with has an {ADAPTER_CONFIG}",
        remedy=f"name one of: {', '.join(below)}"
        if below
        else "name the folder of an adapter, of a stage with `lora` (RUN/stages/NAME), or of a run that ends so",
    )
