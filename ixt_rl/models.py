"""Models and tokenizers: loaded from a checkpoint, or made small from scratch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ixt_rl.conditioning.ends import Ends, find_ends
from ixt_rl.errors import ConfigError
from ixt_rl.tokenizer_files import NOTES, open_tokenizer

if TYPE_CHECKING:
    from ixt_rl.blocks.model import ModelBlock, NewModelBlock


def with_special_tokens(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary has `<bos>`, `<eos>` and `<pad>`, for transformers; encoding adds `<bos>`."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, 256 of them, then `<bos>`, `<eos>`, `<pad>`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*alphabet, "<bos>", "<eos>", "<pad>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return with_special_tokens(tokenizer)


def new_model(spec: NewModelBlock, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A freshly initialised causal language model; equal specs give equal weights."""
    config_class, model_class = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }[spec.architecture]
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.heads,
        head_dim=spec.hidden_size // spec.heads,
        max_position_embeddings=spec.max_positions,
        tie_word_embeddings=spec.tie_embeddings,
        initializer_range=spec.init_std,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        return model_class(config)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Around what reads a checkpoint: what transformers cannot find is an error that names the model.

    Raises:
        ConfigError: there is no such folder, nor could the hub give it; or the folder lacks a file.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk
        said = " ".join(str(error).split())[:300]
        if isinstance(error, ValueError) or Path(path).expanduser().is_dir():
            raise ConfigError(
                f"model {path}",
                reason=f"transformers cannot read its files: {said}",
                remedy="see that config.json, weights and tokenizer are there, as save_pretrained writes them",
            ) from error
        raise ConfigError(
            f"model {path}",
            reason=f"no folder of that name is here, and the hub did not give it: {said}",
            remedy="correct the path (`ixt-rl model smollm2 DIR` makes a folder of a small model), or, of an id of the "
            "hub, see the network, `hf auth login` and HF_HUB_OFFLINE",
        ) from error


def load_model(path: str, spec: ModelBlock, *, train: bool) -> PreTrainedModel:
    """A checkpoint from a local folder or the hub, with the attention of `spec`.

    For training the weights are float32 whatever `spec.dtype` says: passes then compute in that dtype
    by autocast. (A learning rate of 5e-7 changes no bfloat16 weight.)
    """
    with reading(path):
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=torch.float32 if train else getattr(torch, spec.dtype),
            attn_implementation=spec.attention,
            trust_remote_code=spec.trust_remote_code,
        )
    make_savable(model)
    return model


def make_savable(model: PreTrainedModel) -> None:
    """Takes out of a model's generation config what transformers loads, and refuses to save.

    Released checkpoints have a `temperature` that nothing reads without `do_sample`, or a `pad_token_id` of -1:
    training on them would end at the first save.
    """
    config = getattr(model, "generation_config", None)
    if config is None:
        return
    for name, default in vars(GenerationConfig()).items():
        if (before := _unsavable(config)) is None:
            return
        value = getattr(config, name, default)
        setattr(config, name, default)
        if _unsavable(config) == before:  # it was not this one
            setattr(config, name, value)


def _unsavable(config: GenerationConfig) -> str | None:
    """Why transformers would not save a generation config."""
    try:
        config.validate(strict=True)
    except ValueError as error:
        return str(error)
    return None


def load_tokenizer(path: str, spec: ModelBlock) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, padding on the left, cutting text as its own file says; pad falls back to EOS.

    EOS is what ends a document by the rule of `conditioning.ends`: not a token that opens turns, even if the files say
    so, and what the generation config names where the tokenizer names none.
    """
    with reading(path):
        tokenizer = open_tokenizer(path, trust_remote_code=spec.trust_remote_code, padding_side="left")
    document = find_ends(tokenizer, _generation_config(path)).document
    if tokenizer.eos_token_id != document:
        named, tokenizer.eos_token = tokenizer.eos_token, tokenizer.convert_ids_to_tokens(document)
        why = f"{named}, which its files name, opens turns" if named else "its files name none"
        said = f"ends: the tokenizer's EOS was set to {tokenizer.eos_token}: {why}"
        NOTES[tokenizer] = [*tokenizer_notes(tokenizer), said]
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenizer_notes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What `load_tokenizer` set otherwise than transformers has it, in words; nothing if it did not."""
    return NOTES.get(tokenizer, [])


def _generation_config(path: str) -> GenerationConfig | None:
    try:
        return GenerationConfig.from_pretrained(path)
    except OSError:  # the checkpoint has none
        return None


def model_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Ends:
    """What ends replies, documents and completions of a model; see `conditioning.ends`."""
    return find_ends(tokenizer, getattr(model, "generation_config", None))


def checkpoint_eos_ids(path: str, spec: ModelBlock, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """`eos_ids` of the model in a checkpoint, which is not loaded."""
    generation = _generation_config(path)
    if generation is None:
        with reading(path):
            config = AutoConfig.from_pretrained(path, trust_remote_code=spec.trust_remote_code)
        generation = GenerationConfig.from_model_config(config)
    return find_ends(tokenizer, generation).stops


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every id that ends a completion: the turn's end, the generation config's (several), the tokenizer's."""
    return model_ends(model, tokenizer).stops
