"""Held-out documents as rows, to measure the training loss on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import datasets

from ixt_rl.conditioning.conditioner import Conditioner
from ixt_rl.data.in_memory import MemoryCorpus
from ixt_rl.data.token_rows import Documents, PackedRows
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.types import Document


class HeldOut:
    """Makes rows of held-out documents as `IXTTrainer` makes those of training, once, and without feedback dropout.

    Args:
        tokenizer: of the model.
        args: the trainer's `IXTConfig`.
        ends: of a document, as the trainer has found them.
    """

    def __init__(self, tokenizer: Any, args: Any, ends: Any):
        self.tokenizer, self.args, self.ends = tokenizer, args, ends

    def rows(self, given: Any) -> Any:
        """Documents, or a mapping of names to documents, as data sets of rows; what is neither, as it is.

        Raises:
            ConfigError: a stream without end.
            DataError: no document in it.
        """
        if isinstance(given, Mapping):
            return {name: self.rows(documents) for name, documents in given.items()}
        if given is None or isinstance(given, str | datasets.Dataset):
            return given
        return self._rows(given)

    def _rows(self, documents: Documents | Sequence[Document]) -> datasets.Dataset:
        if isinstance(documents, Sequence):
            documents = MemoryCorpus(documents, self.args.seed, passes=1)
        elif getattr(documents, "epochs", 1) is None:
            raise ConfigError(
                f"eval_dataset={type(documents).__name__} without end",
                reason="every evaluation reads all of it",
                remedy="give it epochs=1",
            )
        args = self.args
        conditioner = Conditioner(self.tokenizer, replace(args.conditioning, dropout=0.0), args.seed, self.ends)
        rows = PackedRows(documents, conditioner, args.max_length, pack=args.pack, buffer=args.buffer_rows)
        found = datasets.Dataset.from_list([{name: ids.tolist() for name, ids in row.items()} for row in rows])
        if not len(found):
            raise DataError("eval_dataset: 0 documents", reason="there is nothing to evaluate on", remedy="give some")
        return found.with_format("numpy")
