"""`W + s B A`, or what DoRA makes of it, as ordinary weights: an adapter merged into the base it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ixt_rl.errors import ConfigError, SelfCheckError
from ixt_rl.files import read_json, write_json
from ixt_rl.models import make_savable
from ixt_rl.pretrained.adapters import BASE, find_adapter
from ixt_rl.pretrained.folder import SOURCE, appearing, check_not_here
from ixt_rl.pretrained.notices import copy_notices
from ixt_rl.pretrained.weights_hash import weights_hash

TOLERANCE = 1e-3
"""Nats by which float32 log-probs of the merged model may differ from those of base and adapter."""


def merge_adapter(
    source: Path, out: Path, base: str | None = None, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Merges an adapter in float32, compares log-probs, and writes the model in its base's dtype, with its licences.

    Args:
        source: folder of an adapter, a stage, or a run.
        out: folder of the merged model; not there yet, or empty.
        base: folder or hub id of the base; None: what the adapter names.
        say: is told what goes on.

    Returns:
        What `source.json` of the folder says: adapter, base, dtype, and the largest differences of log-probs, in nats:
        `merging`, in float32, and `rounding` to that dtype.

    Raises:
        ConfigError: there is no adapter or no base, or the base is not the one the adapter was trained on.
        SelfCheckError: the merged model computes something else. Nothing is written.
    """
    adapter = find_adapter(source)
    _check_free(out)
    origin = base or _named_base(adapter)
    say(f"merging {adapter} into {origin} ...")
    pinned = _revision(adapter, origin)
    adapted, dtype, verified = _adapted(adapter, origin, pinned)
    if not verified:
        say(f"note: {adapter} has no {BASE}: its names and shapes fit {origin}, the weights below it are unverified")
    quantized = (read_json(adapter / BASE) or {}).get("quantized")
    if quantized:
        say(
            f"note: it was trained on its base in 4 bits ({quantized}) and is merged into the base as it is stored; "
            "what was trained, to the bit, is the `model` beside the adapter"
        )
    ids = _probe(adapted)
    expected = _logprobs(adapted, ids)
    merged = adapted.merge_and_unload()
    found = {"merging": _largest(_logprobs(merged, ids), expected)}
    if not found["merging"] <= TOLERANCE:
        raise SelfCheckError(
            f"merged log-probs differ by {found['merging']:.3g} nats from those with the adapter",
            reason=f"at most {TOLERANCE} is rounding",
            remedy="use the adapter as it is, and report its adapter_config.json",
        )
    if merged.get_output_embeddings().weight is not merged.get_input_embeddings().weight:
        merged.config.tie_word_embeddings = False  # a tied head that was trained whole is a matrix of its own now
    stored = merged.state_dict(keep_vars=True)  # positions are not in it: they are computed anew from any folder
    loaded = _loaded_dtypes(origin, dtype, pinned)
    of_each = {name: loaded.get(name, dtype) for name, tensor in stored.items() if tensor.is_floating_point()}
    with torch.no_grad():
        for name, wanted in of_each.items():
            stored[name].copy_(stored[name].to(wanted))
    found["rounding"] = _largest(_logprobs(merged, ids), expected)
    said = {"adapter": str(adapter), "base": origin, "base_verified": verified}
    said |= {"quantized": quantized} if quantized else {}
    said |= {"dtype": str(dtype).removeprefix("torch."), "logprob_differences": found}
    with appearing(out) as part:
        for name, wanted in of_each.items():
            stored[name].data = stored[name].data.to(wanted)
        merged.save_pretrained(part)
        _tokenizer(adapter, origin, pinned).save_pretrained(part)
        if note := copy_notices(origin, part, **pinned):
            say(f"note: {note}")
        write_json(part / SOURCE, said, indent=2)
    return said


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"folder {out}", reason="it holds something already", remedy="name another, or delete it")
    check_not_here(out)


def _named_base(adapter: Path) -> str:
    from peft import PeftConfig

    name = PeftConfig.from_pretrained(str(adapter)).base_model_name_or_path
    if not name:
        raise ConfigError(
            f"{adapter}: its base", reason="its adapter_config.json names none", remedy="name it with --base"
        )
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise ConfigError(
            f"{adapter}: its base {name}", reason="there is no such folder (any more)", remedy="name it with --base"
        )
    return name


def _loaded_dtypes(origin: str, dtype: torch.dtype, pinned: dict[str, str]) -> dict[str, torch.dtype]:
    """Of each tensor, where the base is loaded in `dtype`: what an architecture keeps in float32 stays so."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(origin, dtype=dtype, device_map="meta", **pinned)
    return {name: tensor.dtype for name, tensor in model.state_dict().items()}


def _adapted(adapter: Path, origin: str, pinned: dict[str, str]) -> tuple[Any, torch.dtype, bool]:
    """Base and adapter in float32, the base's own dtype, and whether the base is known to be the adapter's."""
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict, load_peft_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = PeftConfig.from_pretrained(str(adapter))
    if config.peft_type != "LORA":
        raise ConfigError(
            f"{adapter}: an adapter of {getattr(config.peft_type, 'value', config.peft_type)}",
            reason="what is merged and compared here is LoRA and its kin (rsLoRA, DoRA)",
            remedy="merge it with peft itself",
        )
    try:
        dtype = AutoConfig.from_pretrained(origin, **pinned).dtype or torch.float32
        model = AutoModelForCausalLM.from_pretrained(origin, dtype=torch.float32, **pinned)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"base {origin}", reason=f"it cannot be read: {error}", remedy="name another with --base"
        ) from error
    make_savable(model)
    known = read_json(adapter / BASE)
    if known is not None and known.get("sha256") != weights_hash(model):
        raise _other_base(adapter, origin, f"its weights are not those of {known.get('base')}, below the adapter")
    try:
        adapted = PeftModel.from_pretrained(model, str(adapter)).eval()
    except (RuntimeError, ValueError) as error:
        raise _other_base(adapter, origin, str(error).splitlines()[-1].strip()) from error
    missed = load_peft_weights(str(adapter), device="cpu").keys() ^ get_peft_model_state_dict(adapted).keys()
    if missed:
        raise _other_base(adapter, origin, f"one of the two has no {min(missed)}")
    return adapted, dtype, known is not None


def _other_base(adapter: Path, origin: str, reason: str) -> ConfigError:
    return ConfigError(
        f"base {origin} is not that of {adapter}",
        reason=reason,
        remedy="name with --base the model that the adapter was trained on",
    )


def _probe(model: Any) -> Tensor:
    """(2, T) ids of the vocabulary, the same at every call."""
    config = model.config.get_text_config()
    length = min(32, getattr(config, "max_position_embeddings", 32))
    return torch.randint(config.vocab_size, (2, length), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _logprobs(model: Any, ids: Tensor) -> Tensor:
    """(2, T, V) float32."""
    logits: Tensor = model(input_ids=ids).logits.float().log_softmax(-1)
    return logits


def _largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _tokenizer(adapter: Path, origin: str, pinned: dict[str, str]) -> Any:
    from ixt_rl.tokenizer_files import open_tokenizer

    if (adapter / "tokenizer_config.json").is_file():
        return open_tokenizer(adapter)
    return open_tokenizer(origin, **pinned)


def _revision(adapter: Path, origin: str) -> dict[str, str]:
    """An adapter's revision of its base, as an argument; nothing where its config names none, or of another base."""
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(adapter))
    named = config.revision if origin == config.base_model_name_or_path else None
    return {} if named is None else {"revision": named}
