"""Held-out loss: the mean negative log-likelihood of documents that are not trained, by source and over all.

    loss = - sum_d sum_t log p(d_t | d_<t) / sum_d |d|,      perplexity = exp(loss)

Documents are shown plain, as training shows one without feedback: BOS (if the tokenizer adds one), the text, EOS. Of
a reply (SFT, or a source with a prompt) the reply and its EOS count. Every token weighs the same, so the loss over all
sources is not the mean of theirs. A document longer than a row is cut as in training: the first token of a piece has
nothing to follow.

Shapes: B rows, T tokens, N tokens that count, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from ixt_rl.conditioning import pad
from ixt_rl.conditioning.conditioner import Conditioner
from ixt_rl.errors import DataError
from ixt_rl.types import Document, TokenSequence


class MeasuredPieces(NamedTuple):
    """Pieces of held-out documents, their nats and the tokens that these are of, and which document each is of."""

    mode: str
    pieces: list[list[int]]
    nats: list[float]
    tokens: list[int]
    documents: list[str]


class HeldOutLoss:
    """Documents as tokens, ready to be scored again and again.

    Args:
        documents: of each source, by its name; feedback is not shown.
        conditioner: makes their tokens, as in training.
        capacity: tokens of a row.

    Raises:
        DataError: a source without a token that could be predicted.
    """

    def __init__(self, documents: Mapping[str, Sequence[Document]], conditioner: Conditioner, capacity: int):
        self.capacity = capacity
        self.pad_id = conditioner.tokenizer.pad_token_id
        self.documents = {name: len(found) for name, found in documents.items()}
        self.names: list[str] = []
        self.numbers: list[int] = []
        """Of each piece, which document it is of."""
        self.pieces: list[TokenSequence] = []
        self.nats: list[float] = []
        """Of each piece, what its tokens that count sum to; of the last call."""
        for name, found in documents.items():
            plain = [replace(document, feedback=None) for document in found]
            cut = [[*_pieces(sequence, capacity)] for sequence in conditioner(plain, first=0)]
            own = [piece for pieces in cut for piece in pieces]
            first = self.numbers[-1] + 1 if self.numbers else 0
            self.numbers += [first + number for number, pieces in enumerate(cut) for _ in pieces]
            if not any(any(piece.loss_mask[1:]) for piece in own):
                raise DataError(
                    f"held-out documents of {name}",
                    reason="they have no token that follows another",
                    remedy="hold out more documents",
                )
            self.names += [name] * len(own)
            self.pieces += own

    def __call__(self, model: Any, attention: str = "sdpa", rows: int = 1) -> dict[str, float]:
        """`heldout/loss`, `heldout/perplexity`, and `heldout/<source>/...` of each source.

        Args:
            model: in evaluation mode; nothing of it changes, and no random number is drawn.
            attention: its attention implementation.
            rows: rows of `capacity` tokens to score at once.
        """
        nll = torch.zeros(len(self.pieces), dtype=torch.float64)
        count = torch.zeros(len(self.pieces), dtype=torch.float64)
        device = next(model.parameters()).device
        with torch.no_grad():
            for places in self._batches(rows):
                batch = pad([self.pieces[place] for place in places], self.pad_id).to(device)
                logits = model(**batch.model_inputs(attention), use_cache=False).logits
                nll_N = cross_entropy(logits[batch.predictor_mask].float(), batch.target_ids, reduction="none")
                sums = torch.zeros(len(places), dtype=torch.float64, device=device)
                nll[places] = sums.index_add(0, batch.target_rows, nll_N.double()).cpu()
                count[places] = batch.loss_mask.sum(dim=1).double().cpu()
        self.nats, found = nll.tolist(), {}
        for name in ("", *self.documents):
            own = torch.tensor([not name or name == of for of in self.names])
            loss = float(nll[own].sum() / count[own].sum())
            found[_metric(name, "loss")] = loss
            found[_metric(name, "perplexity")] = math.exp(loss) if loss < 700 else math.inf
        return found

    def measured(self) -> Iterator[MeasuredPieces]:
        """What the last call found, over all sources, and of each where there are several."""
        for name in ("", *self.documents) if len(self.documents) > 1 else ("",):
            own = [place for place, of in enumerate(self.names) if not name or name == of]
            yield MeasuredPieces(
                f"heldout/{name}".rstrip("/"),
                [list(self.pieces[place].input_ids) for place in own],
                [self.nats[place] for place in own],
                [sum(self.pieces[place].loss_mask[1:]) for place in own],
                [str(self.numbers[place]) for place in own],
            )

    def counts(self) -> dict[str, dict[str, int]]:
        """Documents and tokens that count, of each source."""
        tokens = dict.fromkeys(self.documents, 0)
        for name, piece in zip(self.names, self.pieces, strict=True):
            tokens[name] += sum(piece.loss_mask[1:])
        return {name: {"documents": self.documents[name], "tokens": tokens[name]} for name in tokens}

    def _batches(self, rows: int) -> Iterator[list[int]]:
        """Places of pieces of like length, padded at most `rows` x `capacity` tokens at a time."""
        places: list[int] = []
        for place in sorted(range(len(self.pieces)), key=lambda place: -len(self.pieces[place])):
            if places and (len(places) + 1) * len(self.pieces[places[0]]) > rows * self.capacity:
                yield places
                places = []
            places.append(place)
        yield places


def _metric(source: str, name: str) -> str:
    return f"heldout/{source}/{name}" if source else f"heldout/{name}"


def _pieces(sequence: TokenSequence, capacity: int) -> Iterator[TokenSequence]:
    for start in range(0, len(sequence), capacity):
        part = slice(start, start + capacity)
        yield TokenSequence(sequence.input_ids[part], sequence.role_ids[part], sequence.loss_mask[part])
