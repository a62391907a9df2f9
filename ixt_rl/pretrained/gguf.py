"""A GGUF file as a model and a tokenizer of transformers, and what transformers leaves out of it put right.

transformers reads weights and vocabulary. It drops without a word: tensors that it has no place for (the factors of
long-context rotary embeddings among them), scaling of positions, the special tokens that the file names, and its rule
for cutting text before merges. What changes the model is refused here, the rest is set as the file says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, decoders, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from ixt_rl import backends
from ixt_rl.conditioning.ends import Ends, find_ends
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.offline import offline
from ixt_rl.pretrained.gguf_numbers import NUMBERS, Changed, NumberDropped, set_numbers
from ixt_rl.pretrained.gguf_vocabulary import VOCABULARY, set_added_tokens, set_bos

SPECIAL = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
"""What GGUF and transformers call the special tokens."""

_LONGEST = 400  # characters of a text out of the file, or of a note

CUTS_KNOWN = {"default", "gpt-2", "qwen2", "smollm"}
"""Values of `tokenizer.ggml.pre`, a BPE's rule for cutting text before merges, that the tokenizer keeps to."""


@dataclass(frozen=True)
class Converted:
    """What a GGUF file became.

    Args:
        model: float32, in evaluation mode, with a generation config that names its ends.
        tokenizer: with the ends of turns and documents, and padding.
        name: of the model, as the file says it.
        licence: the same.
        sha256: of the file.
        notes: what was set otherwise than transformers reads it, or could not be, in words.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    licence: str
    sha256: str
    notes: list[str] = field(default_factory=list)


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def convert(file: Path) -> Converted:
    """Reads a GGUF file; quantized weights are widened to float32.

    Raises:
        BackendMissing: the package `gguf` is not installed.
        DataError: it is no GGUF file, or one whose fields hold other things than they are read as.
        ConfigError: transformers has no causal language model for what it holds, or would make another model of it.
    """
    backends.require("gguf", used_for=f"reading {file.name}")
    fields, tensors = _contents(file)
    architecture = str(fields.get("general.architecture", ""))
    _check_one_file(file, fields)
    _check_architecture(file, architecture)
    load: Any = AutoModelForCausalLM.from_pretrained  # gives two things where it is asked for both
    with offline(), _alone(file) as folder:
        try:
            config = AutoConfig.from_pretrained(folder, gguf_file=file.name)
            changed = set_numbers(config, architecture, fields)
            asked = {"gguf_file": file.name, "config": config, "dtype": torch.float32, **_widened()}
            model, loading = load(folder, output_loading_info=True, **asked)
        except NumberDropped as error:
            raise _unsupported(file, str(error)) from None
        except Exception as error:  # whatever transformers trips over
            raise _unsupported(file, f"{type(error).__name__}: {error}"[:300]) from error
    _check_whole(file, model, loading, tensors)
    _check_positions(file, architecture, fields, model)
    tokenizer, ends, notes = read_tokenizer(file, fields)
    _name_ends(model, tokenizer, ends)
    return Converted(
        model.eval(),
        tokenizer,
        _line(fields.get("general.name") or file.stem),
        _line(fields.get("general.license") or "not named in the file"),
        sha256_of(file),
        list(map(_line, [*map(_said, changed), *notes])),
    )


def read_tokenizer(file: Path, fields: Mapping[str, Any]) -> tuple[PreTrainedTokenizerBase, Ends, list[str]]:
    """The tokenizer alone: (tokenizer, its ends, what was set otherwise than transformers reads it).

    Args:
        file: the GGUF file.
        fields: its fields, the vocabulary among them.

    Raises:
        ConfigError: transformers cannot read it.
    """
    with offline(), _alone(file) as folder:
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file.name, padding_side="left")
        except Exception as error:  # whatever transformers trips over
            raise _unsupported(file, f"{type(error).__name__}: {error}"[:300]) from error
    notes = [*_cut_as_the_file_says(tokenizer, fields), *set_added_tokens(tokenizer, fields)]
    ends, further = _name_special_tokens(tokenizer, fields)
    notes += [*further, *set_bos(tokenizer, fields)]
    tokenizer.clean_up_tokenization_spaces = False  # made for WordPiece; transformers warns of it at each decode
    return tokenizer, ends, notes


def _said(changed: Changed) -> str:
    return f"{changed.name} is {changed.value:g}, as the file says; transformers reads {changed.was}"


def _line(text: Any) -> str:
    """What a stranger's file says, as one line that does nothing to a terminal or a card."""
    return " ".join("".join(one if one.isprintable() else " " for one in str(text)).split())[:_LONGEST]


@contextmanager
def _alone(file: Path) -> Iterator[str]:
    """A folder with the file and nothing else: transformers also reads what lies beside it, a tokenizer.json in place
    of the file's own vocabulary, and an adapter's base in place of its weights."""
    with tempfile.TemporaryDirectory(prefix="ixt-rl-gguf-") as folder:
        (Path(folder) / file.name).symlink_to(file.resolve())
        yield folder


def _widened() -> dict[str, Any]:
    """With these transformers leaves no weight in the blocks of the file, nor says that it did; old ones never do."""
    known = getattr(transformers, "GgufConfig", None)
    return {} if known is None else {"quantization_config": known(dequantize=True)}


def _contents(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """(fields but for long lists other than the vocabulary, numbers in each tensor)."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
        kept = [(name, one) for name, one in reader.fields.items() if len(one.data) == 1 or name in VOCABULARY]
        fields = {name: one.contents() for name, one in kept}
    except (ValueError, IndexError, KeyError) as error:
        raise DataError(
            f"{file}: no GGUF file that can be read",
            reason=str(error)[:200] or type(error).__name__,
            remedy="download it again; ixt-rl model takes files that end in .gguf, of version 2 or 3",
        ) from error
    _check_types(file, fields)
    return fields, {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}


def _check_types(file: Path, fields: Mapping[str, Any]) -> None:
    """Raises DataError where a field that is read here holds something else than what it is read as."""
    architecture = fields.get("general.architecture")
    scaling = f"{architecture}.rope.scaling"
    numbers = [f"{scaling}.factor", *(f"{architecture}.{name}" for name in NUMBERS)]
    texts = ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre", f"{scaling}.type")
    ids = [f"tokenizer.ggml.{kind}_token_id" for kind in SPECIAL]
    wanted: dict[str, tuple[type | tuple[type, ...], str]] = {
        **dict.fromkeys(texts, (str, "a text")),
        **dict.fromkeys(ids, (int, "a whole number")),
        **dict.fromkeys(numbers, ((int, float), "a number")),
    }
    for name, (kind, called) in wanted.items():
        value = fields.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise DataError(
                f"{file.name}: {_line(name)} is {_line(repr(value))[:60]}",
                reason=f"it is read as {called}",
                remedy="take another file of the model: whoever wrote this one wrote it wrongly",
            )


def _check_one_file(file: Path, fields: Mapping[str, Any]) -> None:
    parts = fields.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise ConfigError(
            f"{file.name}: one of {parts} files of a model",
            reason="one file is read, which has to hold all of it",
            remedy="make one of them (llama.cpp's `llama-gguf-split --merge`), or take the model as one file",
        )


def _check_architecture(file: Path, architecture: str) -> None:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    spelled = {architecture, architecture.replace("-", "_"), architecture.replace("moe", "_moe")}
    if not spelled & {*GGUF_SUPPORTED_ARCHITECTURES}:
        known = ", ".join(sorted(GGUF_SUPPORTED_ARCHITECTURES))
        raise _unsupported(file, f"its architecture is {architecture!r}; transformers reads {known}")


def _unsupported(file: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{file.name}: transformers makes no causal language model of it",
        reason=reason,
        remedy="take the model's own Hugging Face folder, where there is one, or another file",
    )


def _check_whole(file: Path, model: PreTrainedModel, loading: Mapping[str, Any], tensors: Mapping[str, int]) -> None:
    """Every parameter comes from the file, and every number of the file is in a parameter."""
    missing = sorted(loading["missing_keys"]) + [str(key) for key, *_ in loading["mismatched_keys"]]
    if missing:
        raise _unsupported(file, f"{len(missing)} parameters are not in the file, {missing[0]} for one")
    has = sum(parameter.numel() for parameter in {id(p): p for p in model.parameters()}.values())
    tied = model.config.tie_word_embeddings
    given = sum(count for name, count in tensors.items() if not (tied and name == "output.weight"))
    if has != given:
        extra = [name for name in tensors if not name.endswith((".weight", ".bias")) or name.startswith("rope")]
        shown = f", {', '.join(extra[:3])} among them" if extra else ""
        raise _unsupported(file, f"the file has {given:,} numbers{shown}, the model that it is read into {has:,}")


def _check_positions(file: Path, architecture: str, fields: Mapping[str, Any], model: PreTrainedModel) -> None:
    kind = fields.get(f"{architecture}.rope.scaling.type", "none")
    factor = float(fields.get(f"{architecture}.rope.scaling.factor", 1.0) or 1.0)
    read = (getattr(model.config, "rope_parameters", None) or {}).get("rope_type", "default")
    if kind != "none" and factor != 1.0 and read == "default":
        raise _unsupported(file, f"its positions are scaled ({kind}, factor {factor:g}), which transformers drops")


def _cut_as_the_file_says(tokenizer: PreTrainedTokenizerBase, fields: Mapping[str, Any]) -> list[str]:
    """Sets how a BPE cuts text before merges, where it is known how."""
    if fields.get("tokenizer.ggml.model") != "gpt2":
        return []
    tokenizer.backend_tokenizer.decoder = (
        decoders.ByteLevel()
    )  # transformers' may drop the space that a text begins with
    rule = fields.get("tokenizer.ggml.pre", "default")
    cut = _cuts(rule)
    if cut is not None:
        tokenizer.backend_tokenizer.pre_tokenizer = cut
    if rule in CUTS_KNOWN - {"smollm"}:
        return []
    if rule == "smollm":
        return ["digits are cut off before merges, each by itself, as the file says; transformers leaves that out"]
    return [
        f"the file cuts text before merges by the rule {rule!r}, transformers by GPT-2's: some texts may become other "
        "tokens than the model was trained on"
    ]


def _cuts(rule: str) -> pre_tokenizers.PreTokenizer | None:
    """How a rule cuts text, whatever the architecture; None: as transformers does for it, or it is not known how."""
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if rule == "gpt-2":
        return gpt2
    if rule == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    if rule == "qwen2":
        words = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated")
        return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return None


def _name_special_tokens(tokenizer: Any, fields: Mapping[str, Any]) -> tuple[Ends, list[str]]:
    """Sets special tokens as the file names them, and ends by the rule of `conditioning.ends`."""
    notes = []
    for theirs, ours in SPECIAL.items():
        named = _id_named(tokenizer, fields, theirs)
        if named is None or getattr(tokenizer, f"{ours}_token_id") == named:
            continue
        was, token = getattr(tokenizer, f"{ours}_token"), tokenizer.convert_ids_to_tokens(named)
        setattr(tokenizer, f"{ours}_token", token)
        notes.append(f"the tokenizer's {ours} is {token}, as the file says; transformers reads {was or 'none'}")
    ends = find_ends(tokenizer, {"eos_token_id": _id_named(tokenizer, fields, "eos")})
    if tokenizer.eos_token_id != ends.document:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends.document)
        notes.append(f"the tokenizer's eos is {tokenizer.eos_token}, which ends a turn by the {ends.rule}")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
        notes.append(f"padding is {tokenizer.pad_token}: the file names none")
    return ends, notes


def _id_named(tokenizer: Any, fields: Mapping[str, Any], kind: str) -> int | None:
    """The special token that the file names; None where it names none, or (-1) one that there is not."""
    named = fields.get(f"tokenizer.ggml.{kind}_token_id")
    return named if named is not None and 0 <= named < len(tokenizer) else None


def _name_ends(model: Any, tokenizer: Any, ends: Ends) -> None:
    tokenizer.model_max_length = model.config.max_position_embeddings
    stops = ends.stops[0] if len(ends.stops) == 1 else list(ends.stops)
    ids = {"eos_token_id": stops, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id}
    for name, value in ids.items():
        setattr(model.config, name, value)
    model.generation_config = GenerationConfig(**ids)
    vars(model.config).pop("_model_name_or_path", None)  # the file's title, and no place
