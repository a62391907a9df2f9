"""Decoding with rows that come and go: equal prompts are read once, and a row that ends makes room for the next.

    prompts waiting --prefill, once a prompt--> slots --one step: logits -> tokens--> rows that ended
                                                  ^------------------- the others ------------'

Shapes: A active rows, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor

from ixt_rl.rollout.draws import draw, row_uniforms, warpers
from ixt_rl.rollout.recorded_step import RecordedStep, records_steps
from ixt_rl.rollout.slots import SlotCache, attention_in_slots
from ixt_rl.rollout.stops import Early, EndWatch, ends_early
from ixt_rl.types import SamplingParams
from ixt_rl.under_way import UnderWay, WatchUnderWay

_PREFILL_TOKENS = 8192
"""Tokens of one prefill, padding included: more would not be faster, and take memory."""


@dataclass
class RunningRow:
    """One completion under way.

    Args:
        index: its place in the call.
        length: tokens whose keys are in its slot.
        uniforms: in [0, 1), a number a step; None: greedy.
        watch: reads it for what ends it early; None: nothing does.
        early: what did.
    """

    index: int
    length: int
    uniforms: list[float] | None
    watch: EndWatch | None = None
    early: Early | None = None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class ContinuousDecoding:
    """Completions of many prompts, a limited number of rows at a time.

    Args:
        model: one that `decodes_in_slots`, in evaluation mode.
        eos_ids: every id that ends a completion.
        pad_id: fills the left of shorter prompts.
        sampling: how to sample.
        slots: most rows at a time.
        tokenizer: reads completions for stop strings, where `sampling` has some.
        watch: told of every step.
    """

    def __init__(
        self,
        model: Any,
        eos_ids: Sequence[int],
        pad_id: int,
        sampling: SamplingParams,
        slots: int,
        tokenizer: Any,
        watch: WatchUnderWay | None = None,
    ):
        self.model, self.pad_id, self.sampling, self.slots = model, pad_id, sampling, slots
        self.tokenizer, self.watch = tokenizer, watch
        self.ends = frozenset(eos_ids)
        self.warpers: list[LogitsProcessor] = warpers(sampling)

    @torch.no_grad()
    def run(self, prompts: Sequence[tuple[int, ...]], seeds: Sequence[int], done: Callable[[RunningRow], None]) -> None:
        """Calls `done` with each row that ends.

        Args:
            prompts: one a row; equal ones share their prefill.
            seeds: one a row; what a row draws depends on its own.
            done: gets rows in the order in which they end.
        """
        self.done = done
        waiting = self._by_prompt(prompts)
        self.slots = min(self.slots, len(prompts))
        self.cache = SlotCache(
            self.slots,
            len(DynamicCache(config=self.model.config).layers),
            max(map(len, prompts)) + self.sampling.max_new_tokens,
        )
        recorded = records_steps(self.model, self.sampling.max_new_tokens)
        self.recorded = RecordedStep(self.model, self.cache) if recorded else None
        self.active: list[RunningRow] = []
        self.begun = self.written = 0
        while waiting or self.active:
            if waiting and self._has_room(len(waiting[0][1])):
                for group in self._admitted(waiting):
                    self._prefill(group, seeds)
            if self.active:
                self._step()
            if self.watch is not None:
                going, begun = len(self.active), self.begun
                self.watch(UnderWay(going, len(prompts) - begun, begun - going, self.written))

    def _by_prompt(self, prompts: Sequence[tuple[int, ...]]) -> deque[tuple[tuple[int, ...], list[int]]]:
        rows: dict[tuple[int, ...], list[int]] = {}
        for index, prompt in enumerate(prompts):
            rows.setdefault(prompt, []).append(index)
        return deque(sorted(rows.items(), key=lambda item: len(item[0])))

    def _has_room(self, rows: int) -> bool:
        """Whether to stop for a prefill: a whole group fits, and it is no small part of the slots."""
        free = self.slots - len(self.active)
        return free >= max(min(rows, self.slots), self.slots // 8, 1)

    def _admitted(
        self, waiting: deque[tuple[tuple[int, ...], list[int]]]
    ) -> Iterator[list[tuple[tuple[int, ...], list[int]]]]:
        """Groups that free slots take, in batches of one prefill; a group above all slots comes in parts."""
        batch: list[tuple[tuple[int, ...], list[int]]] = []
        free = self.slots - len(self.active)
        while waiting and free:
            prompt, rows = waiting[0]
            if len(rows) > free and len(rows) <= self.slots:
                break
            if batch and (len(batch) + 1) * len(prompt) > _PREFILL_TOKENS:
                yield batch
                batch = []
            waiting.popleft()
            batch.append((prompt, rows[:free]))
            if rows[free:]:
                waiting.appendleft((prompt, rows[free:]))
            free -= len(rows[:free])
        if batch:
            yield batch

    def _prefill(self, groups: list[tuple[tuple[int, ...], list[int]]], seeds: Sequence[int]) -> None:
        """Reads prompts, and draws the first token of each of their rows."""
        width = max(len(prompt) for prompt, _ in groups)
        device = self.model.device
        ids = torch.tensor([[self.pad_id] * (width - len(p)) + list(p) for p, _ in groups], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p, _ in groups], device=device)
        cache = DynamicCache(config=self.model.config)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]  # fmt: skip
        first, steps = len(self.active), self.sampling.max_new_tokens
        slots: list[list[int]] = []
        for prompt, rows in groups:
            slots.append([len(self.active) + i for i in range(len(rows))])
            for index in rows:
                uniforms = row_uniforms([seeds[index]], steps)[0].tolist() if self.sampling.temperature > 0 else None
                watch = EndWatch(self.tokenizer, self.sampling) if ends_early(self.sampling) else None
                self.active.append(RunningRow(index, len(prompt), uniforms, watch))
        self.begun += sum(map(len, slots))
        self.cache.fill(cache, slots, [len(prompt) for prompt, _ in groups])
        counts = torch.tensor([len(rows) for _, rows in groups], device=device)
        self._take(logits.repeat_interleave(counts, dim=0), first)

    def _step(self) -> None:
        """One token for every active row."""
        tokens, lengths = [row.tokens[-1] for row in self.active], [row.length for row in self.active]
        logits = (self._forward if self.recorded is None else self.recorded)(tokens, lengths)
        for row in self.active:
            row.length += 1
        self._take(logits, 0)

    def _forward(self, tokens: list[int], lengths: list[int]) -> Tensor:
        """(A, V) logits after one token a row; see `RecordedStep`."""
        ids, at = torch.tensor([tokens, lengths], device=self.model.device)
        mask = self.cache.start_step(at, max(lengths) + 1)
        with attention_in_slots(self.model):
            return self.model(
                input_ids=ids[:, None], attention_mask=mask, position_ids=at[:, None], past_key_values=self.cache,
                use_cache=True,
            ).logits[:, -1]  # fmt: skip

    def _take(self, logits: Tensor, first: int) -> None:
        """Draws a token for the active rows from `first` on, and lets those go that ended."""
        rows = self.active[first:]
        scores = logits.float()
        for warper in self.warpers:
            scores = warper(None, scores)
        numbers = None
        if self.sampling.temperature > 0:
            each = [row.uniforms[len(row.tokens)] for row in rows]  # type: ignore[index]
            numbers = torch.tensor(each, dtype=torch.float64)
        tokens, logprobs = (drawn.tolist() for drawn in draw(scores, numbers))
        self.written += len(rows)
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
        for slot in reversed(range(first, len(self.active))):
            row = self.active[slot]
            if self._ended(row):
                self.done(row)
                self._free(slot)

    def _ended(self, row: RunningRow) -> bool:
        """Whether its last token ended it: an end, a stop string, a loop, or the limit."""
        if row.tokens[-1] in self.ends:
            return True
        if row.watch is not None:
            row.early = row.watch.add(row.tokens[-1])
        return row.early is not None or len(row.tokens) == self.sampling.max_new_tokens

    def _free(self, slot: int) -> None:
        """The last active row moves into a slot that became free."""
        last = self.active.pop()
        if slot < len(self.active):
            self.cache.move(len(self.active), slot, last.length)
            self.active[slot] = last
