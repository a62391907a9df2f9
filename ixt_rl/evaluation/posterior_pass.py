"""The divergences of `posterior.py`, measured on a model: completions drawn or enumerated, scored under both prompts.

    rows -> draws of policy and told model (or all completions) -> log p, log q, log w -> SequenceKL, one a row

Shapes: N completions, B rows of a batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ixt_rl.conditioning import pad, prompt_completion
from ixt_rl.conditioning.prompts import row_ids
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.posterior import LEAST_EFFECTIVE, SequenceKL, sequence_kl
from ixt_rl.evaluation.tasks import Task
from ixt_rl.kernels.head import Head
from ixt_rl.kernels.logprobs import selected_logprobs
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.stops import text_before_stop
from ixt_rl.trainers.dropout import evaluation_mode
from ixt_rl.trainers.forward_checks import head_difference
from ixt_rl.trainers.head import add_head_function, head_temperature
from ixt_rl.types import SamplingParams

MOST_ENUMERATED = 20_000
"""Up to so many completions of a question are enumerated."""

_TOKENS_AT_ONCE = 16_384
_SEED = 17  # of the policy's draws; the told model's have the next

Ids = Sequence[int]

LogWeight = Callable[[dict[str, Any], Sequence[Ids]], Sequence[float]]
"""(row, N completions) -> N values of log w, as `sequence_kl` takes them in `log_answer`."""


@dataclass(frozen=True)
class PosteriorPlan:
    """How to measure.

    Args:
        sampling: of policy and told model: their whole distribution at its temperature, which is above 0. Its `seed` is
            that of the policy's draws; the told model's have the next one.
        samples: completions drawn from each of the two, where those of a question are too many to enumerate.
        least_effective: see `sequence_kl`.
        max_prompt_tokens: longer prompts lose their beginning; None: none does.
        chat_template_kwargs: of the prompts.

    Raises:
        ConfigError: greedy, truncated or constrained sampling, whose probabilities are not the model's.
    """

    sampling: SamplingParams
    samples: int = 64
    least_effective: float = LEAST_EFFECTIVE
    max_prompt_tokens: int | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        s = self.sampling
        if not s.temperature or s.top_p < 1 or s.top_k or s.min_p:
            raise ConfigError(
                f"temperature={s.temperature:g}, top_p={s.top_p:g}, top_k={s.top_k}, min_p={s.min_p:g}",
                reason="divergences are those of whole distributions, and this one gives some completions none at all",
                remedy="sample with a temperature above 0, top_p 1, top_k 0 and min_p 0",
            )
        if s.json_schema is not None or s.cut_loops:
            raise ConfigError(
                "json_schema" if s.json_schema is not None else "cut_loops=True",
                reason="completions then end or go on otherwise than by the model's own log-probs",
                remedy="leave json_schema and cut_loops out",
            )


class SequenceScorer:
    """Log-probs of whole completions, by the head function that trains.

    Args:
        model: a causal language model, with adapters or without; its forward pass takes a head function from here on,
            unless a trainer gave it one, which stays as it is.
        temperature: logits are divided by it.
        pad_id: fills shorter rows.

    Raises:
        ConfigError: the head function is not known to be right for the model's architecture.
    """

    def __init__(self, model: Any, temperature: float, pad_id: int):
        self.model, self.temperature, self.pad_id = model, temperature, pad_id
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        if head_temperature(plain) is None:
            add_head_function(plain, temperature)
        with evaluation_mode(model):
            difference, limit = head_difference(model, head_temperature(plain) or temperature)
        if not difference <= limit:
            raise ConfigError(
                f"log-probs of {type(model).__name__} that differ by {difference:.2g} from its own logits'",
                reason="its architecture does something to logits that the fused head does not know",
                remedy="measure another architecture, and please report this one",
            )

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Ids], completions: Sequence[Ids]) -> np.ndarray:
        """float64 [N]: sum_t log pi(z_t | x, z_<t) of each completion after the prompt of its place."""
        found = np.zeros(len(prompts))
        rows = [prompt_completion(x, z) for x, z in zip(prompts, completions, strict=True)]
        device = next(self.model.parameters()).device
        with evaluation_mode(self.model):
            for places in _batches([len(row) for row in rows]):
                batch = pad([rows[place] for place in places], self.pad_id).to(device)
                logp_N = self.model(
                    **batch.model_inputs(),
                    predictor_mask=batch.predictor_mask,
                    head_fn=partial(self._logprobs, tokens=batch.target_ids),
                )
                sums = torch.zeros(len(places), dtype=torch.float64, device=device)
                found[places] = sums.index_add(0, batch.target_rows, logp_N.double()).cpu().numpy()
        return found

    def _logprobs(self, hidden: Tensor, head: Head, tokens: Tensor) -> Tensor:
        return selected_logprobs(hidden, replace(head, temperature=self.temperature), tokens)[0]


def posterior_kl(
    engine: RolloutEngine,
    scorer: SequenceScorer,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    log_weight: LogWeight,
    plan: PosteriorPlan,
) -> list[SequenceKL]:
    """How far the model that is told the answer is from the true posterior, a row each.

    Completions of a question are enumerated where there are few enough, and no stop string ends them early.

    Args:
        engine: samples from the scorer's model; not asked where completions are enumerated.
        tokenizer: of the model.
        rows: with `prompt` (x) and `told_prompt` (x (+) y).
        log_weight: which completions have the answer: `read_out(task, ...)`, `continuation(...)`, or one's own.

    Raises:
        ConfigError: the scorer has another temperature than what is sampled.
        DataError: a row lacks a prompt, or `log_weight` has not one value for each completion.
    """
    _check_temperature(scorer.temperature, plan.sampling.temperature)
    _check_rows(rows)
    plain, told = (
        [row_ids(tokenizer, row, column, plan.max_prompt_tokens, plan.chat_template_kwargs) for row in rows]
        for column in ("prompt", "told_prompt")
    )
    every = _enumerated(engine, scorer.model, plan.sampling)
    if every is not None:
        groups = [every for _ in rows]
        from_told = None
    else:
        seed = _SEED if plan.sampling.seed is None else plan.sampling.seed
        drawn = [
            engine.generate(prompts, replace(plan.sampling, seed=seed + told_too), plan.samples)
            for told_too, prompts in enumerate((plain, told))
        ]
        groups = [[z.completion_ids for half in (a, b) for z in half] for a, b in zip(*drawn, strict=True)]
        from_told = np.repeat([False, True], plan.samples)
    found = []
    for row, x, x_told, group in zip(rows, plain, told, groups, strict=True):
        once = {ids: place for place, ids in enumerate(dict.fromkeys(group))}  # drawn twice, it is scored once
        log_p, log_q = (scorer([prompt] * len(once), [*once]) for prompt in (x, x_told))
        log_w, lengths = _weights(log_weight, row, [*once]), np.array([len(z) for z in once])
        each = [once[ids] for ids in group]
        measured = sequence_kl(
            log_p[each], log_q[each], log_w[each], lengths[each], from_told, least_effective=plan.least_effective
        )
        found.append(measured)
    return found


def _check_temperature(scored: float, sampled: float) -> None:
    if scored != sampled:
        raise ConfigError(
            f"a scorer at temperature {scored:g}, and completions sampled at {sampled:g}",
            reason="draws are weighed by the probabilities that they were drawn with",
            remedy="give SequenceScorer and SamplingParams the same temperature",
        )


def _check_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    for place, row in enumerate(rows):
        for column in ("prompt", "told_prompt"):
            if row.get(column) is None and row.get(f"{column}_ids") is None:
                raise DataError(
                    f"row {place} without {column}",
                    reason="each question is asked twice, plain and told its answer",
                    remedy=f"give each row {column}, or its ids as {column}_ids; it has {', '.join(row) or 'nothing'}",
                )


def _weights(log_weight: LogWeight, row: dict[str, Any], completions: Sequence[Ids]) -> np.ndarray:
    """float64 [N]: log w of a row's completions."""
    found = np.asarray(log_weight(row, completions), np.float64)
    if found.shape != (len(completions),):
        raise DataError(
            f"log_weight gave an array of shape {found.shape} for {len(completions)} completions",
            reason="each completion has the answer, or not, by itself",
            remedy="return a value for each: 0 right, -inf wrong, between for log pi(y | x, z), nan undecided",
        )
    return found


def read_out(task: Task, tokenizer: Any, stop: Sequence[str] = ()) -> LogWeight:
    """w is what the task says of the answer that is read out of a completion: `checked`, 1 or 0, None undecided."""

    def log_weight(row: dict[str, Any], completions: Sequence[Ids]) -> list[float]:
        texts = [text_before_stop(tokenizer, ids, stop) for ids in completions]
        values = [found["checked"] for found in task.measure([row] * len(texts), completions, texts)]
        with np.errstate(divide="ignore"):
            return [float("nan") if value is None else float(np.log(value)) for value in values]

    return log_weight


def continuation(
    scorer: SequenceScorer, prompt_ids: Callable[[dict[str, Any]], Ids], answer_ids: Callable[[dict[str, Any]], Ids],
    eos_ids: Sequence[int],
) -> LogWeight:  # fmt: skip
    """w is pi(y | x, z), where the answer is what comes after the completion, whose own end is left out."""

    def log_weight(row: dict[str, Any], completions: Sequence[Ids]) -> list[float]:
        begun = [[*prompt_ids(row), *(ids[:-1] if ids and ids[-1] in eos_ids else ids)] for ids in completions]
        return scorer(begun, [answer_ids(row)] * len(begun)).tolist()

    return log_weight


def _enumerated(engine: Any, model: Any, sampling: SamplingParams) -> list[tuple[int, ...]] | None:
    """Every completion that sampling can give, or None where they are too many, or not known."""
    eos_ids = getattr(engine, "eos_ids", None)
    if sampling.stop or eos_ids is None:
        return None
    vocabulary = model.config.get_text_config().vocab_size
    return all_completions(vocabulary, eos_ids, sampling.max_new_tokens, MOST_ENUMERATED)


def all_completions(vocabulary: int, eos_ids: Ids, length: int, most: int) -> list[tuple[int, ...]] | None:
    """Every completion up to `length` tokens: up to an end, or cut; None where there are more than `most`."""
    begun: list[tuple[int, ...]] = [()]
    done: list[tuple[int, ...]] = []
    going_on = [token for token in range(vocabulary) if token not in eos_ids]
    for _ in range(length):
        if len(done) + len(begun) * vocabulary > most:
            return None
        done += [(*ids, end) for ids in begun for end in eos_ids]
        begun = [(*ids, token) for ids in begun for token in going_on]
    return done + begun


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of sequences of like length, padded at most `_TOKENS_AT_ONCE` tokens at a time."""
    places: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if places and (len(places) + 1) * lengths[places[0]] > _TOKENS_AT_ONCE:
            yield places
            places = []
        places.append(place)
    if places:
        yield places
