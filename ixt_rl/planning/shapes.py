"""The shape of a model: what memory and FLOPs are counted from, without its weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ixt_rl.blocks.model import LoraBlock, ModelBlock, NewModelBlock
from ixt_rl.errors import ConfigError, did_you_mean
from ixt_rl.ledger import ModelSize

_ALIKE = ("-instruct", "-base", "-it", "-pt")
"""Ends of names of models of one shape."""

_VOCABULARY = {"bytes": 259, "world": 64}
"""Of new tokenizers; a world's differs by the world and is about that large."""

_KINDS = (
    *("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text"),
    *("granite", "phi3", "smollm3"),
)
"""`model_type`s that are counted; others have matrices of their own."""

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_ROUTED = ("num_experts_per_tok", "num_experts_per_token")


@dataclass(frozen=True)
class ModelShape:
    """A decoder with gated MLPs and RMSNorms: Llama, Qwen, Mistral, Gemma and their like.

    Args:
        layers, hidden, intermediate, heads, kv_heads, vocabulary: as in config.json; `intermediate` of one expert.
        head_dim: 0: hidden / heads.
        tied: one matrix is embedding and head.
        qkv_bias: queries, keys and values have biases.
        output_bias: so has what follows attention.
        qk_norm: queries and keys are normalized head by head.
        norms: RMSNorms of a layer beside those.
        experts: of a layer; 0: a dense MLP.
        routed: experts that a token meets.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_dim: int = 0
    tied: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    norms: int = 2
    experts: int = 0
    routed: int = 0

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden // self.heads

    @property
    def queries(self) -> int:
        """Width of the queries of a token."""
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        """Width of the keys of a token, and of the values."""
        return self.kv_heads * self.head_size

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) of the matrices of a layer, by peft's names of them; of one expert."""
        h, f, q, k = self.hidden, self.intermediate, self.queries, self.keys
        attention = {"q_proj": (h, q), "k_proj": (h, k), "v_proj": (h, k), "o_proj": (q, h)}
        return attention | {"gate_proj": (h, f), "up_proj": (h, f), "down_proj": (f, h)}

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, or of an untied head."""
        return self.vocabulary * self.hidden

    def layer_parameters(self, experts: int) -> int:
        """Parameters of a layer with so many experts (dense: any number)."""
        sizes = {name: rows * columns for name, (rows, columns) in self.linears.items()}
        mlp = sizes["gate_proj"] + sizes["up_proj"] + sizes["down_proj"]
        mlp = mlp * experts + self.hidden * self.experts if self.experts else mlp  # the router beside the experts
        attention = sum(sizes[name] for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
        attention += self.queries + 2 * self.keys if self.qkv_bias else 0
        attention += self.hidden if self.output_bias else 0
        return attention + mlp + self.norms * self.hidden + (2 * self.head_size if self.qk_norm else 0)

    @property
    def parameters(self) -> int:
        """All of them."""
        return self._around + self.layers * self.layer_parameters(self.experts)

    @property
    def active(self) -> int:
        """Those that a token meets."""
        return self._around + self.layers * self.layer_parameters(self.routed)

    @property
    def _around(self) -> int:
        return self.embedding * (1 if self.tied else 2) + self.hidden

    def trained(self, lora: LoraBlock | None) -> int:
        """Parameters that are trained: all, or those of the adapters."""
        if lora is None:
            return self.parameters
        wanted = lora.target_modules
        names = list(self.linears) if isinstance(wanted, str) else [name for name in self.linears if name in wanted]
        per_layer = sum(lora.r * sum(self.linears[name]) + lora.dora * self.linears[name][1] for name in names)
        return self.layers * per_layer * max(1, self.experts) + sum(map(self._whole, lora.modules_to_save))

    def quantized(self, lora: LoraBlock | None) -> int:
        """Parameters of the base that are kept in 4 bits: the layers' matrices that are not trained whole."""
        if lora is None or not lora.quantize:
            return 0
        kept = [name for name in self.linears if not any(name.endswith(whole) for whole in lora.modules_to_save)]
        return self.layers * sum(math.prod(self.linears[name]) for name in kept)

    def _whole(self, name: str) -> int:
        """Parameters of what `modules_to_save` names; of what is not counted here, 0."""
        if name in ("lm_head", "embed_tokens"):
            return self.embedding
        if name in self.linears:
            return self.layers * math.prod(self.linears[name]) * max(1, self.experts)
        return (self.layers * self.norms + 1) * self.hidden if name == "norm" else 0

    def size(self, lora: LoraBlock | None = None) -> ModelSize:
        """What the ledger counts by; of trained experts those that a token meets."""
        if lora is None:
            return ModelSize(self.active, self.active)
        whole = sum(map(self._whole, lora.modules_to_save))
        added = (self.trained(lora) - whole) * max(1, self.routed) // max(1, self.experts)
        return ModelSize(self.active + added, added + whole)

    def kv_bytes(self, number: int) -> int:
        """Bytes of keys and values of one token, in numbers of so many bytes."""
        return 2 * self.layers * self.keys * number


def shape_of(model: ModelBlock) -> ModelShape:
    """The shape of a run's model.

    Raises:
        ConfigError: it is neither new, nor a folder with a config.json of a known kind, nor a name of the table.
    """
    if model.new is not None:
        return _of_new(model.new)
    assert model.path is not None
    file = Path(model.path).expanduser() / "config.json"
    return shape_of_folder(file.parent) if file.is_file() else shape_named(model.path)


def shape_named(name: str) -> ModelShape:
    """The shape of the table that a name of the hub means; `-Instruct` and the like have that of their base.

    Raises:
        ConfigError: the table has no such model.
    """
    known = {key.lower(): key for key in _table()}
    bare = name.rpartition("/")[2].lower()
    for end in _ALIKE:
        bare = bare.removesuffix(end)
    if bare not in known:
        raise ConfigError(
            f"model.path={name!r}",
            reason="it is no folder here, and no model whose shape is known",
            remedy=did_you_mean(bare, list(known)) + "name a folder that has its config.json (model.path=FOLDER; "
            f"weights are not needed), or one of: {', '.join(known.values())}",
        )
    return ModelShape(**_table()[known[bare]])


def shape_of_folder(folder: Path) -> ModelShape:
    """The shape that a folder's config.json says.

    Raises:
        ConfigError: it cannot be read, or is of another kind than Llama, Qwen, Mistral, Gemma and their like.
    """
    file = folder / "config.json"
    config = _read(file)
    kind = str(config.get("model_type", ""))
    if kind not in _KINDS or config.get("mlp_bias"):
        raise ConfigError(
            f"{file}: model_type {kind!r}" + (" with mlp_bias" if kind in _KINDS else ""),
            reason=f"what is counted are {', '.join(_KINDS)}, without biases in MLPs",
            remedy="plan with a model of about that size and one of those kinds, or measure",
        )
    experts, routed = (next((config[n] for n in names if config.get(n)), 0) for names in (_EXPERTS, _ROUTED))
    width = config.get("moe_intermediate_size") if experts else None
    bias = bool(config.get("attention_bias"))
    found = {
        "layers": config.get("num_hidden_layers"),
        "hidden": config.get("hidden_size"),
        "intermediate": width or config.get("intermediate_size"),
        "heads": config.get("num_attention_heads"),
        "kv_heads": config.get("num_key_value_heads") or config.get("num_attention_heads"),
        "vocabulary": config.get("vocab_size"),
    }
    sizes: dict[str, int] = {}
    for name, value in found.items():
        if type(value) is not int or value <= 0:
            raise ConfigError(
                f"{file}: {name} {value!r}", reason="it is no number above 0", remedy="repair or complete the file"
            )
        sizes[name] = value
    return ModelShape(
        **sizes,
        head_dim=config.get("head_dim") or 0,
        tied=bool(config.get("tie_word_embeddings", kind.startswith("gemma"))),
        qkv_bias=kind == "qwen2" or bias,
        output_bias=bias,
        qk_norm=kind.startswith(("qwen3", "gemma3")),
        norms=4 if kind in ("gemma2", "gemma3_text") else 2,
        experts=experts,
        routed=routed,
    )


def _read(file: Path) -> dict[str, Any]:
    what, remedy = str(file), "repair the file"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(what, reason=f"it is no JSON object that can be read: {error}", remedy=remedy) from error
    inner = config.get("text_config", config) if isinstance(config, dict) else None
    if not isinstance(inner, dict):
        raise ConfigError(what, reason="it is no JSON object", remedy=remedy)
    return inner


def _of_new(new: NewModelBlock) -> ModelShape:
    return ModelShape(
        layers=new.layers,
        hidden=new.hidden_size,
        intermediate=new.intermediate_size,
        heads=new.heads,
        kv_heads=new.heads,
        vocabulary=_VOCABULARY[new.tokenizer],
        tied=new.tie_embeddings,
        qk_norm=new.architecture == "qwen3",
    )


@cache
def _table() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("shapes.yaml").read_text("utf-8"))
    return found
