"""The model that a run starts from, adapters, and what is compared before it trains."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from ixt_rl.blocks import checks
from ixt_rl.blocks.strict import PositiveFloat, PositiveInt, Seed, Share, Strict, Tokens
from ixt_rl.errors import ConfigError


class NewModelBlock(Strict):
    """A small model made from scratch, for demos and tests."""

    architecture: Literal["llama", "qwen3"] = "llama"
    tokenizer: Literal["world", "bytes"] = Field(
        "world",
        description="`world`: the vocabulary of the stage's world; `bytes`: any text, one token a byte",
    )
    hidden_size: Annotated[int, Field(gt=0, le=2**16)] = 128
    layers: Annotated[int, Field(gt=0, le=1000)] = 2
    heads: Annotated[int, Field(gt=0, le=2**12)] = 4
    intermediate_size: Annotated[int, Field(gt=0, le=2**20)] = 384
    tie_embeddings: bool = True
    init_std: PositiveFloat = 0.05
    max_positions: Tokens = 2048
    seed: Seed = 0

    @model_validator(mode="after")
    def _heads_divide(self) -> NewModelBlock:
        if self.hidden_size % self.heads:
            raise ConfigError(
                f"hidden_size={self.hidden_size} with heads={self.heads}",
                reason="the hidden size is split evenly over attention heads",
                remedy=f"make hidden_size a multiple of {self.heads}",
            )
        return self

    @model_validator(mode="after")
    def _fits_memory(self, info: ValidationInfo) -> NewModelBlock:
        per_layer = 4 * self.hidden_size**2 + 3 * self.hidden_size * self.intermediate_size
        checks.needs_memory(
            4 * self.layers * per_layer,
            f"layers={self.layers}, hidden_size={self.hidden_size}, intermediate_size={self.intermediate_size}",
            info,
        )
        return self


class ModelBlock(Strict):
    """The model that the first stage starts from: a checkpoint (`path`) or a fresh one (`new`)."""

    path: Annotated[str, AfterValidator(checks.check_model_path)] | None = Field(
        None, description="a local Hugging Face folder or a hub id"
    )
    new: NewModelBlock | None = None
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        "float32",
        description="what passes compute in; trained weights and optimizer states stay float32. auto: float32 or "
        "bfloat16, by a probe of a second when the run begins",
    )
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> ModelBlock:
        if (self.path is None) == (self.new is None):
            raise ConfigError(
                f"path={self.path!r} and new={'given' if self.new else None}",
                reason="a run starts from exactly one model",
                remedy="give `path: <folder or hub id>` or `new: {...}`, and set the other to null",
            )
        return self

    @model_validator(mode="after")
    def _flash_attention(self, info: ValidationInfo) -> ModelBlock:
        if self.attention != "flash_attention_2":
            return self
        if self.dtype in ("float32", "auto"):
            raise ConfigError(
                f"attention=flash_attention_2 with dtype={self.dtype}",
                reason="flash attention computes in 16 bits only",
                remedy="set dtype: bfloat16, or attention: sdpa",
            )
        checks.needs_backend("flash-attn", "attention: flash_attention_2", info)
        return self


class SelfChecksBlock(Strict):
    """What is compared before the first update of every training stage; false leaves a check out."""

    head: bool = Field(True, description="log-probs of the fused head, with the model's own logits")
    packing: bool = Field(True, description="packed documents with the same ones alone: log-probs and gradient")
    engine: bool = Field(True, description="log-probs of the rollout engine, with the trainer's")
    ends: bool = Field(True, description="what ends a completion: tokenizer, generation config, chat template, padding")
    factor: bool = Field(True, description="InTRO's factor, told what the plain prompt says, with 1")


ADAPTER = "adapter"
"""Folder of a stage with `lora`: the adapter, beside the model that it is merged into."""

Init = Literal["default", "gaussian"]

_OTHER_WORDS = ("quantization", "load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type")
"""What other projects say of a base in fewer bits."""

_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "eva", "orthogonal")
"""Initialisations of peft after which the base, or the model at the first step, is not the model that was loaded."""


def _check_init(name: object) -> object:
    if isinstance(name, str) and name.startswith(_CHANGES_BASE):
        raise ConfigError(
            repr(name),
            reason="it changes the weights below the adapters or starts away from them: the model without its "
            "adapters, which a frozen posterior or reference is, would not be the model that the stage starts from",
            remedy="use init: default or gaussian, whose adapters start at 0",
        )
    return name


class LoraBlock(Strict):
    """Train low-rank adapters in place of all weights (needs the `peft` extra).

    A matrix W of (out, in) becomes `W + s B A`, of rank `r`; `s = alpha / r`, with `rslora` `alpha / sqrt(r)`. With
    `dora` it becomes `m (W + s B A) / |W + s B A|`, row by row, and the magnitudes m are trained, too.
    """

    r: Annotated[int, Field(gt=0, le=2**16)] = 16
    alpha: PositiveInt = 32
    dropout: Share = 0.0
    target_modules: str | list[str] = "all-linear"
    rslora: bool = Field(
        False, exclude_if=operator.not_, description="scale by alpha / sqrt(r) (arXiv 2312.03732), for large ranks"
    )
    dora: bool = Field(
        False, exclude_if=operator.not_, description="train the magnitudes of rows apart (DoRA, arXiv 2402.09353)"
    )
    modules_to_save: list[str] = Field(
        [],
        exclude_if=operator.not_,
        description="modules that are trained whole beside the adapters, by the ends of their names: lm_head, norm",
    )
    init: Annotated[Init, BeforeValidator(_check_init)] = Field(
        "default",
        exclude_if=lambda value: value == "default",
        description="of A: default (Kaiming, uniform) or gaussian; B starts at 0",
    )

    quantize: Literal["nf4"] | None = Field(
        None,
        exclude_if=operator.not_,
        description="the linear layers of the base in 4 bits (QLoRA, arXiv 2305.14314; needs the `bitsandbytes` extra)",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, value: Any) -> Any:
        asked = [key for key in _OTHER_WORDS if isinstance(value, dict) and value.get(key)]
        if asked:
            raise ConfigError(
                f"{asked[0]}: {value[asked[0]]}",
                reason="one key says how a base is quantized, and NF4 with double quantization is the one way",
                remedy="quantize: nf4, in its place",
            )
        return value

    @model_validator(mode="after")
    def _installed(self, info: ValidationInfo) -> LoraBlock:
        checks.needs_backend("peft", "lora", info)
        if self.quantize:
            checks.needs_backend("bitsandbytes", f"lora.quantize: {self.quantize}", info)
        return self

    @model_validator(mode="after")
    def _apart(self) -> LoraBlock:
        both = [name for name in self.modules_to_save if name in self.target_modules]
        if both and not isinstance(self.target_modules, str):
            raise ConfigError(
                f"{both[0]} in target_modules and in modules_to_save",
                reason="a module has adapters or is trained whole, not both",
                remedy="leave it out of one of them",
            )
        return self
