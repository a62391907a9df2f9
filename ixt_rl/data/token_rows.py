"""Conditioned documents as rows of token ids, several to a row or one, resumable after any row.

    documents --Conditioner, a chunk at a time--> pieces of at most `capacity` tokens, a buffer full of them
      --best fit--> rows, in random order --> {"input_ids", "labels", "segment_ids", "position_ids"}

A buffer is packed on its own, and begins where the stream then stands. So the state is the stream's cursor at the start
of the buffer and the number of rows given out of it; resuming reads and packs that one buffer again.

From row `plain_from` on no row has feedback: what of a buffer comes later is stripped of it and packed anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np

from ixt_rl.conditioning.conditioner import Conditioner
from ixt_rl.data.best_fit import best_fit
from ixt_rl.data.piece_buffer import IGNORED, PieceBuffer
from ixt_rl.errors import ConfigError
from ixt_rl.types import Document, Segment

_CHUNK_CHARACTERS = 1 << 18  # text tokenized at once: bounds what the tokenizer holds, however long documents are


class Documents(Protocol):
    """What PackedRows reads: a DocumentStream, or anything else with a cursor."""

    def __iter__(self) -> Iterator[Document]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class TokenCounts:
    """What was read so far, the buffer that rows come from included.

    Args:
        documents: documents read; empty ones, which the stream counts, not among them.
        conditioned: those shown with their feedback.
        cut: those longer than a row, cut into pieces.
        pieces: documents and pieces of documents.
        tokens: tokens of all of them.
        feedback_tokens: of which feedback and separator; in a chat they are part of the prompt and not counted here.
        judged_tokens: tokens that judges read and wrote for these documents.
    """

    documents: int = 0
    conditioned: int = 0
    cut: int = 0
    pieces: int = 0
    tokens: int = 0
    feedback_tokens: int = 0
    judged_tokens: int = 0


class PackedRows:
    """Rows of at most `capacity` tokens of conditioned documents, each token given exactly once.

    A row is a dict of four int32 arrays [T]: `input_ids`; `labels`, the same or -100 where a token is not trained (a
    piece's first token never is); `segment_ids`, 1, 2, ... for the pieces in a row; `position_ids`, from 0 in each
    piece. Attention must keep segments apart (`conditioning.batching.block_causal_mask`).

    A document longer than `capacity` is cut into pieces of `capacity`; its feedback, standing before it, is in the
    first only. Iterating goes on from where the rows stand; a second iterator goes on where the first one stopped.

    Args:
        documents: where documents come from.
        conditioner: makes their tokens.
        capacity: tokens of a row, at least 2.
        pack: several documents a row, rows of a buffer in random order; False: one a row, in the stream's order.
        buffer: rows' worth of tokens packed together. More of them fill rows better and shuffle wider, and take
            longer to resume.
        plain_from: rows with feedback, those before a resume included; later ones have none. None: all.

    Raises:
        ConfigError: capacity < 2, or buffer < 1; plain_from with chats, whose feedback is part of a message.
    """

    def __init__(
        self,
        documents: Documents,
        conditioner: Conditioner,
        capacity: int,
        *,
        pack: bool = True,
        buffer: int = 256,
        plain_from: int | None = None,
    ):
        if capacity < 2:
            raise ConfigError(
                f"capacity={capacity}",
                reason="a row needs a token to predict, and one before it",
                remedy="give at least 2 tokens",
            )
        if buffer < 1:
            raise ConfigError(f"buffer={buffer}", reason="it is a number of rows", remedy="give at least 1")
        if plain_from is not None and conditioner.conditioning.chat:
            raise ConfigError(
                f"plain_from={plain_from} with chat=True",
                reason="the feedback of a chat is part of its system message, which is not taken apart again",
                remedy="leave plain_from out, or chat",
            )
        self.documents, self.conditioner = documents, conditioner
        self.capacity, self.pack, self.buffer, self.plain_from = capacity, pack, buffer, plain_from
        self.counts = TokenCounts()
        self._start: dict[str, Any] = {}
        self._before = 0  # rows of earlier buffers
        self._given = 0
        self._pieces: PieceBuffer | None = None
        self._rows: list[list[int]] = []
        self._begin()

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            if self._pieces is None:
                self._fill()
            if self._pieces is None:
                return
            while self._pieces is not None and self._given < len(self._rows):
                self._given += 1
                yield self._pieces.row(self._rows[self._given - 1])
            if self._pieces is not None:
                self._before += len(self._rows)
                self._begin()

    def state_dict(self) -> dict[str, Any]:
        """The place after the rows given out so far, JSON-able: the next row after loading it is the same row."""
        return {**self._start, "given": self._given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to a place that `state_dict` gave.

        Raises:
            DataError: the documents' files are not those of that place.
            ConfigError: the rows were packed otherwise.
        """
        if state["packing"] != self._packing():
            raise ConfigError(
                f"a cursor over rows of {state['packing']}",
                reason=f"these rows have {self._packing()}",
                remedy="resume with the settings of the run that wrote it",
            )
        self.documents.load_state_dict(state["documents"])
        self.counts = TokenCounts(**state["counts"])
        self._before = state.get("rows", 0)
        self._begin()
        self._given = state["given"]

    def _packing(self) -> dict[str, Any]:
        plain = {} if self.plain_from is None else {"plain_from": self.plain_from}
        return {
            "capacity": self.capacity, "pack": self.pack, "buffer": self.buffer, "seed": self.conditioner.seed, **plain
        }  # fmt: skip

    def _begin(self) -> None:
        """A new buffer, empty as yet, from where the documents stand."""
        self._start = {
            "packing": self._packing(),
            "documents": self.documents.state_dict(),
            "counts": asdict(self.counts),
        }
        if self.plain_from is not None:
            self._start["rows"] = self._before
        self._given, self._pieces, self._rows = 0, None, []

    def _fill(self) -> None:
        first = self.counts.documents
        chunks: list[PieceBuffer] = []
        tokens = 0
        for documents in _chunks(self.documents, min(_CHUNK_CHARACTERS, self.buffer * self.capacity)):
            chunks.append(self._tokenize(documents, self.counts.documents - first))
            tokens += len(chunks[-1].ids)
            if tokens >= self.buffer * self.capacity:
                break
        if not chunks:
            return
        starts = np.cumsum([0, *chain.from_iterable(chunk.lengths for chunk in chunks)])
        labels = np.concatenate([chunk.labels for chunk in chunks])
        labels[starts[:-1]] = IGNORED  # nothing predicts a first token
        self._pieces = PieceBuffer(
            np.concatenate([chunk.ids for chunk in chunks]),
            labels,
            starts.tolist(),
            np.concatenate([chunk.beside for chunk in chunks]),
            [owner for chunk in chunks for owner in chunk.owners],
        )
        self._rows = self._arranged(range(len(starts) - 1), first)
        if self.plain_from is not None:
            self._plain_after(max(0, self.plain_from - self._before), first)

    def _arranged(self, pieces: Sequence[int], first: int) -> list[list[int]]:
        """Pieces as rows, in the order in which they are given."""
        assert self._pieces is not None
        if not self.pack:
            return [[piece] for piece in pieces]
        lengths = self._pieces.lengths
        rows = best_fit([lengths[piece] for piece in pieces], self.capacity)
        # Best fit gives the rows of long documents first; training should not see them in that order.
        order = np.random.default_rng([self.conditioner.seed, first]).permutation(len(rows))
        return [[pieces[i] for i in rows[row]] for row in order]

    def _plain_after(self, shown: int, first: int) -> None:
        """Takes the feedback out of all rows of the buffer but its first `shown`, and arranges the others anew."""
        late = sorted(chain.from_iterable(self._rows[shown:]))
        if self._pieces is None or not late:
            return
        with_all = self._pieces
        self._pieces = with_all.without_feedback(late)
        lengths = self._pieces.lengths
        left = [piece for piece in late if lengths[piece]]
        self._rows = [*self._rows[:shown], *self._arranged(left, first)]
        taken = len(with_all.ids) - len(self._pieces.ids)
        self.counts.tokens -= taken
        self.counts.feedback_tokens -= taken
        self.counts.pieces -= len(late) - len(left)
        self.counts.conditioned -= len(with_all.conditioned) - len(self._pieces.conditioned)

    def _tokenize(self, documents: list[Document], first: int) -> PieceBuffer:
        """Some documents, end to end; `first` is the number of the first of them in the buffer."""
        shown = self.conditioner.segments(documents, first=self.counts.documents)
        flat = list(chain.from_iterable(shown))
        sizes = [len(_ids(segment)) for segment in flat]
        ids = np.frombuffer(array("i", chain.from_iterable(map(_ids, flat))), dtype=np.int32)
        trained = np.repeat([segment.trained for segment in flat], sizes)
        beside = np.repeat([segment.role == "feedback" for segment in flat], sizes)
        lengths: list[int] = []
        owners: list[int] = []
        for number, segments in enumerate(shown, first):
            length = sum([len(_ids(segment)) for segment in segments])
            pieces, rest = divmod(length, self.capacity)
            cut = [self.capacity] * pieces + [rest] * (rest > 0)
            lengths += cut
            owners += [number] * len(cut)
            self.counts.cut += length > self.capacity
            self.counts.conditioned += any(segment.role in ("feedback", "system") for segment in segments)
        self.counts.documents += len(documents)
        self.counts.judged_tokens += sum(document.judged_tokens for document in documents)
        self.counts.pieces += len(lengths)
        self.counts.tokens += len(ids)
        self.counts.feedback_tokens += int(beside.sum())
        labels = np.where(trained, ids, np.int32(IGNORED))
        return PieceBuffer(ids, labels, np.cumsum([0, *lengths]).tolist(), beside, owners)


def _chunks(documents: Documents, most: int) -> Iterator[list[Document]]:
    """Documents in lists of about `most` characters, to tokenize together; none is read beyond the list given out."""
    chunk: list[Document] = []
    characters = 0
    for document in documents:
        chunk.append(document)
        characters += len(document.text) + len(document.prompt)
        if characters >= most:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _ids(segment: Segment) -> tuple[int, ...]:
    assert segment.ids is not None, "the conditioner has tokenized every segment"
    return segment.ids
