"""The default engine: a model in this process, with the log-probs it sampled from.

Rows are decoded by `continuous.py` where the architecture is known to be right there, else by `transformers.generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from ixt_rl.errors import WeightMismatch
from ixt_rl.rollout.continuous import ContinuousDecoding, RunningRow
from ixt_rl.rollout.draws import InverseDraw, row_seeds, row_uniforms, warpers
from ixt_rl.rollout.engine import check_prompt, check_schema, check_seeds, check_stop, sample_seeds
from ixt_rl.rollout.generation import checkpoint_defaults_off, plain_generation
from ixt_rl.rollout.slots import decodes_in_slots
from ixt_rl.rollout.stops import Early, EndWatch, ends_early
from ixt_rl.rollout.weights.gathered import gathers_in_passes
from ixt_rl.rollout.weights.manifest import whole_set
from ixt_rl.types import FinishReason, Rollout, SamplingParams
from ixt_rl.under_way import UnderWay, WatchUnderWay


class LogprobRecorder(LogitsProcessor):
    """Keeps the log-prob of each sampled token, one step of [B, V] at a time.

    `generate` calls it with the scores of step t (fp32, after temperature and truncation) and the ids
    so far; the token sampled from step t's scores is seen when it is called for step t + 1.
    """

    def __init__(self, prompt_width: int):
        self.width = prompt_width
        self.scores: Tensor | None = None
        self.logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] > self.width:
            self._take(input_ids[:, -1])
        self.scores = scores
        return scores

    def _take(self, tokens: Tensor) -> None:
        assert self.scores is not None
        scores = self.scores.float()
        picked = scores.gather(1, tokens[:, None]).squeeze(1)
        self.logprobs.append(picked - scores.logsumexp(dim=-1))

    def finish(self, sequences: Tensor) -> Tensor:
        """(B, T) fp32 log-probs of the generated ids, once generation has ended."""
        self._take(sequences[:, -1])
        return torch.stack(self.logprobs, dim=1)


Ended = tuple[int, Early]
"""Tokens of a completion that something ended early, and what did."""


class StopCriteria(StoppingCriteria):
    """Ends each row at its EOS, or where a stop string or a loop ends its completion.

    Args:
        tokenizer: of the model; only stop strings need it.
        sampling: may have some.
        rows: B, rows of the batch.
        eos_ids: ids that end a completion by themselves.
        step: called after every step with (rows going on, tokens written).
    """

    def __init__(
        self,
        tokenizer: Any,
        sampling: SamplingParams,
        rows: int,
        eos_ids: Sequence[int],
        step: Callable[[int, int], None] = lambda going, written: None,
    ):
        self.watches = [EndWatch(tokenizer, sampling) for _ in range(rows)]
        self.eos_ids = frozenset(eos_ids)
        self.done = [False] * rows
        self.early: list[Ended | None] = [None] * rows
        self._step, self._most, self._steps, self._written = step, sampling.max_new_tokens, 0, 0

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        self._steps += 1
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if self.done[row]:
                continue
            self._written += 1
            if token in self.eos_ids:
                self.done[row] = True
            elif early := self.watches[row].add(token):
                self.done[row], self.early[row] = True, (self._steps, early)
        self._step(self.done.count(False) if self._steps < self._most else 0, self._written)
        return torch.tensor(self.done, device=input_ids.device)


class TransformersEngine:
    """Batched sampling with a KV cache from a model in this process.

    The model may be the one in training: then `update_weights` only moves the version on. `SamplingParams` alone say
    what is sampled from: nothing of the model's own generation config counts (`ixt_rl.rollout.generation`).

    Args:
        model: a causal language model.
        eos_ids: every id that ends a completion.
        pad_id: fills the left of shorter prompts.
        batch_size: rows generated at once.
        tokenizer: the model's, to read completions with; only `SamplingParams.stop` needs it.
    """

    constrains = False
    continuous = True
    """Rows come and go one by one, where the model allows it; False: batches of `generate`."""

    watch: WatchUnderWay | None = None
    """Told of every step."""

    def __init__(
        self,
        model: PreTrainedModel,
        eos_ids: Sequence[int],
        pad_id: int,
        batch_size: int = 256,
        tokenizer: Any = None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.eos_ids = tuple(eos_ids)
        self.pad_id = pad_id
        self.batch_size = batch_size
        self.policy_version = 0
        self._before = UnderWay()  # of the call, without the batch under way

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Rollout]]:
        """`n` rollouts a prompt, in the prompts' order; see `RolloutEngine`.

        Equal prompts are read once. Without `seeds`, results depend on `sampling.seed` and on the whole list, where
        `generate` decodes also on the batch size; with them, every row draws from a generator of its own.

        Raises:
            DataError: a prompt that is empty, has an id outside the vocabulary, or leaves no room for a completion.
            ConfigError: there is a JSON schema, or stop strings without a tokenizer, or `seeds` are not one a prompt.
        """
        check_stop(sampling, self.tokenizer is not None, "give TransformersEngine the model's `tokenizer`")
        check_schema(sampling, self.constrains, "use the vllm or ray-vllm engine, or leave the answers unconstrained")
        check_seeds(seeds, len(prompts))
        for index, prompt in enumerate(prompts):
            self._check_prompt(f"prompt {index}", prompt, sampling)
        rows = [tuple(prompt) for prompt in prompts for _ in range(n)]
        own = sample_seeds(seeds, n)
        with _eval_mode(self.model), _seeded(sampling.seed), torch.no_grad():
            in_slots = self.continuous and decodes_in_slots(self.model)
            done = (self._in_slots if in_slots else self._in_batches)(rows, sampling, own)
        return [[done[p * n + k] for k in range(n)] for p in range(len(prompts))]

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Copies tensors into the model by name (none for a shared model) and sets the version.

        Raises:
            WeightMismatch: the model has none of a name or shape. The engine is as it was.
        """
        tensors = whole_set(named_tensors)
        state = self.model.state_dict() if tensors else {}  # asked for it, FSDP 2 spreads gathered weights again
        for name, tensor in tensors.items():
            if name not in state or state[name].shape != tensor.shape:
                has = f"the model has it of shape {list(state[name].shape)}" if name in state else "the model has none"
                raise WeightMismatch(
                    f"{name} of shape {list(tensor.shape)}",
                    reason=has,
                    remedy="make the engine of a copy of the model that is trained",
                )
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
        self.policy_version = version

    def close(self) -> None:
        """Drops the reference to the model."""
        del self.model

    def _in_slots(
        self, rows: list[tuple[int, ...]], sampling: SamplingParams, seeds: list[int] | None
    ) -> dict[int, Rollout]:
        done: dict[int, Rollout] = {}

        def keep(row: RunningRow) -> None:
            done[row.index] = self._rollout(
                rows[row.index], row.tokens, row.logprobs, row.early and (len(row.tokens), row.early)
            )

        if rows:
            own = seeds or [0] * len(rows)
            if seeds is None and sampling.temperature > 0:
                own = row_seeds(len(rows), None)
            decoding = ContinuousDecoding(
                self.model, self.eos_ids, self.pad_id, sampling, self.batch_size, self.tokenizer, self.watch
            )
            decoding.run(rows, own, keep)
        return done

    def _in_batches(
        self, rows: list[tuple[int, ...]], sampling: SamplingParams, seeds: list[int] | None
    ) -> dict[int, Rollout]:
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        done: dict[int, Rollout] = {}
        for start in range(0, len(order), self.batch_size):
            picked = order[start : start + self.batch_size]
            own = None if seeds is None else [seeds[i] for i in picked]
            written = sum(len(rollout.completion_ids) for rollout in done.values())
            self._before = UnderWay(queued=len(order) - start - len(picked), ended=start, tokens=written)
            done.update(zip(picked, self._generate_batch([rows[i] for i in picked], sampling, own), strict=True))
        return done

    def _generate_batch(
        self, rows: list[tuple[int, ...]], sampling: SamplingParams, seeds: list[int] | None
    ) -> list[Rollout]:
        uniforms = None
        if seeds is not None and sampling.temperature > 0:
            uniforms = row_uniforms(seeds, sampling.max_new_tokens)
        decoded = self._decode(rows, sampling, uniforms)
        return [self._rollout(*row) for row in zip(rows, *decoded, strict=True)]

    def _decode(
        self,
        rows: list[tuple[int, ...]],
        sampling: SamplingParams,
        uniforms: Tensor | None,
        first: Sequence[LogitsProcessor] = (),
    ) -> tuple[list[list[int]], list[list[float]], list[Ended | None]]:
        """Completions and their log-probs, both [B][T], and [B] where those end that something ended early.

        What stands behind a row's end is padding.

        Args:
            rows: prompts.
            sampling: how to sample.
            uniforms: [B, T] float64, what the rows draw from; None draws from torch's generator.
            first: what is done to the logits before temperature and truncation.
        """
        width = max(map(len, rows))
        input_ids = torch.tensor([[self.pad_id] * (width - len(row)) + list(row) for row in rows])
        attention_mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        recorder = LogprobRecorder(width)
        draw = [] if uniforms is None else [InverseDraw(uniforms, width)]
        stops = None
        if ends_early(sampling) or self.watch is not None:
            stops = StopCriteria(self.tokenizer, sampling, len(rows), self.eos_ids, partial(self._tell, len(rows)))
        generate: Any = self.model.generate
        with checkpoint_defaults_off(self.model):
            sequences = generate(
                input_ids.to(self.model.device),
                attention_mask=attention_mask.to(self.model.device),
                generation_config=plain_generation(
                    sampling.max_new_tokens, self.eos_ids, self.pad_id, sample=sampling.temperature > 0 and not draw
                ),
                logits_processor=LogitsProcessorList([*first, *warpers(sampling), recorder, *draw]),
                stopping_criteria=StoppingCriteriaList([] if stops is None else [stops]),
                synced_gpus=gathers_in_passes(self.model),  # by default also where ZeRO-3's weights are gathered
            )
        early: list[Ended | None] = [None] * len(rows) if stops is None else stops.early
        return sequences[:, width:].tolist(), recorder.finish(sequences).tolist(), early

    def _tell(self, rows: int, going: int, written: int) -> None:
        """One step of a batch of `generate` is done."""
        if self.watch is not None:
            before = self._before
            ended = before.ended + rows - going
            self.watch(UnderWay(going, before.queued, ended, (before.tokens or 0) + written))

    def _check_prompt(self, name: str, prompt: Sequence[int], sampling: SamplingParams) -> None:
        config = self.model.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None)
        check_prompt(name, prompt, sampling.max_new_tokens, positions, config.vocab_size)

    def _rollout(
        self, prompt: tuple[int, ...], completion: list[int], logprobs: list[float], early: Ended | None
    ) -> Rollout:
        """The completion up to its end, whatever ended it."""
        end = next((i + 1 for i, token in enumerate(completion) if token in self.eos_ids), None)
        reason: FinishReason = "eos" if end else "length"
        length = end or len(completion)
        if early is not None:
            length, reason = early
        return Rollout(
            prompt_ids=prompt,
            completion_ids=tuple(completion[:length]),
            logprobs=tuple(logprobs[:length]),
            finish_reason=reason,
            policy_version=self.policy_version,
        )


@contextmanager
def _eval_mode(model: PreTrainedModel) -> Iterator[None]:
    """Dropout off and caches on while sampling; the mode before is restored."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Seeds torch for one call and restores its state; without a seed, draws from the global state."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
