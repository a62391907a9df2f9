"""A folder's model, asked what trainers ask before their first update; see `ixt_rl.trainers.self_checks`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer

from ixt_rl.blocks.model import ModelBlock
from ixt_rl.errors import SelfCheckError
from ixt_rl.models import load_model, load_tokenizer, tokenizer_notes
from ixt_rl.tokenizer_files import PROBES
from ixt_rl.trainers import GRPOConfig, GRPOTrainer, IXTConfig, IXTTrainer
from ixt_rl.trainers.self_checks import run_self_checks
from ixt_rl.types import Document


def check_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Compares a tokenizer with what transformers, and so a server, loads from the folder that it was saved in.

    Raises:
        SelfCheckError: they make other ids of a text: of some architectures transformers builds the tokenizer anew.
    """
    kept: Any = AutoTokenizer.from_pretrained(folder)
    added = "a".join(entry.content for entry in tokenizer.added_tokens_decoder.values())
    for text in (*PROBES, added):
        made, loaded = (one(text).input_ids for one in (tokenizer, kept))
        if made != loaded:
            raise SelfCheckError(
                f"{text[:40]!r} is {tokenizer.convert_ids_to_tokens(made)[:12]} as the file says, and "
                f"{kept.convert_ids_to_tokens(loaded)[:12]} as it is loaded from the folder",
                reason="transformers builds the tokenizer of this architecture anew, by a rule of its own",
                remedy="take the model's own Hugging Face folder, where there is one",
            )


def check_folder(folder: Path) -> dict[str, float | str]:
    """Loads a model as a run would, and compares head, packing, engine and ends; returns what was measured.

    Raises:
        SelfCheckError, ParityError: numbers differ that must be equal, or the files name ends that are none.
    """
    spec = ModelBlock(path=str(folder))
    tokenizer, model = load_tokenizer(str(folder), spec), load_model(str(folder), spec, train=True)
    notes = tokenizer_notes(tokenizer)
    if notes:
        raise SelfCheckError(notes[0], reason="the folder's own files should say so", remedy="report this model")
    with tempfile.TemporaryDirectory() as scratch:
        common: dict[str, Any] = {
            "output_dir": scratch,
            "max_steps": 1,
            "report_to": "none",
            "save_strategy": "no",
            "bf16": False,
        }
        common |= {"use_cpu": True, "gradient_checkpointing": False, "disable_tqdm": True}
        documents = IXTTrainer(model, IXTConfig(**common, max_length=256), [Document("a document")], tokenizer)
        found = run_self_checks(documents)
        online = GRPOTrainer(
            model,
            [_no_reward],
            GRPOConfig(**common, per_device_train_batch_size=2, num_generations=2, max_completion_length=16),
            train_dataset=Dataset.from_list([{"prompt": "a prompt"}]),
            processing_class=tokenizer,
        )
        return {**found, **run_self_checks(online)}


def _no_reward(completions: list[str], **columns: object) -> list[float]:
    return [0.0] * len(completions)
