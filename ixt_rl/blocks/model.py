"""The model that a run starts from, adapters, and what is compared before it trains."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
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


class LoraBlock(Strict):
    """Train low-rank adapters in place of all weights (needs the `peft` extra)."""

    r: Annotated[int, Field(gt=0, le=2**16)] = 16
    alpha: PositiveInt = 32
    dropout: Share = 0.0
    target_modules: str | list[str] = "all-linear"

    @model_validator(mode="after")
    def _installed(self, info: ValidationInfo) -> LoraBlock:
        checks.needs_backend("peft", "lora", info)
        return self
