"""Suites of benchmarks that a model in training is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.blocks.suites import SuitesBlock
from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.records.job import AskedSuite, EngineFacts, sample_chunk
from ixt_rl.evaluation.records.questions import AskedSampling, suite_questions
from ixt_rl.evaluation.records.record import Record
from ixt_rl.evaluation.records.results import verdict_table
from ixt_rl.evaluation.statistics import average_of, summarize
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.run.stages.context import StageRun
from ixt_rl.suites import load_preset, load_suite

_KEPT = 5
"""Samples of each suite that are kept for reading."""

_TRAINED = EngineFacts("", "", "")  # records of a model in training are not written


class SuitesInTraining:
    """The suites of a stage's evaluation, with the ids of their prompts.

    Args:
        block: which, and how they are asked.
        tokenizer: of the model.
        positions: of the model; None: it has no limit.

    Raises:
        ConfigError: a suite's prompts and answers have no room in the model.
        DataError: a suite's rows cannot be had.
    """

    def __init__(self, block: SuitesBlock, tokenizer: Any, positions: int | None):
        asked = AskedSampling(block.samples, block.max_new_tokens, block.temperature)
        suites = [load_suite(name) for name in block.names]
        data = None if block.data is None else Path(block.data)
        questions = suite_questions(suites, load_preset(block.preset), data, block.limit, asked)
        self.tokenizer = tokenizer
        self.suites = [one.asked(tokenizer, len(one.rows.rows)) for one in questions]
        self.notes = [f"suite {one.name}: {note}" for one in questions for note in one.notes]
        check_room(self.suites, positions, "evaluation.suites.max_new_tokens: ")

    @property
    def stop(self) -> list[str]:
        """All stop strings."""
        return sorted({text for suite in self.suites for text in suite.sampling.stop})

    def widened(self, sampling: SamplingBlock) -> SamplingBlock:
        """A stage's sampling with room for the suites' prompts and answers, for an engine that serves both."""
        return sampling.model_copy(
            update={
                "max_prompt_tokens": max(sampling.max_prompt_tokens, *map(longest_prompt, self.suites)),
                "max_new_tokens": max(
                    sampling.max_new_tokens, *(suite.sampling.max_new_tokens for suite in self.suites)
                ),
            }
        )

    def __call__(self, engine: RolloutEngine) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Metrics `suite/<name>/...` and, of several, `suite/average/...`; samples to read.

        `checked` is the suite's first metric (pass@1 or avg@k) over what is decided, `checked_lower` the same with what
        is undecided as wrong; beside them the shares `undecided`, `truncated`, `unextracted`, and `length` in tokens.
        """
        metrics: dict[str, float] = {}
        samples: list[dict[str, Any]] = []
        summaries = []
        for suite in self.suites:
            records = sample_chunk(suite, range(len(suite.rows)), engine, _TRAINED, self.tokenizer)
            summary = summarize(verdict_table(records)[suite.name], ks=())
            summaries.append(summary)
            first, shares = summary.metrics[0], summary.shares
            found = {
                "checked": first.left_out.value,
                "checked_lower": first.as_wrong.value,
                "undecided": shares.undecided,
                "truncated": shares.truncated,
                "unextracted": shares.unextracted,
                "length": sum(record.length for record in records) / len(records),
            }
            metrics |= {f"suite/{suite.name}/{name}": value for name, value in found.items() if value is not None}
            samples += [_sample(record) for record in records if record.sample == 0][:_KEPT]
        if len(summaries) > 1:
            mean = average_of(summaries)
            both = {"checked": mean.left_out.value, "checked_lower": mean.as_wrong.value}
            metrics |= {f"suite/average/{name}": value for name, value in both.items() if value is not None}
        return metrics, samples


Metrics = tuple[dict[str, float], list[dict[str, Any]]]


def suites_of(evaluation: Any, model: Any, tokenizer: Any) -> SuitesInTraining | None:
    """The suites of a stage's evaluation block; None where it has none. See `SuitesInTraining`."""
    block = getattr(evaluation, "suites", None)
    if block is None:
        return None
    return SuitesInTraining(block, tokenizer, getattr(model.config.get_text_config(), "max_position_embeddings", None))


def engine_of(
    at: StageRun, sampling: SamplingBlock, ends: tuple[int, ...], stop: Sequence[str], suites: SuitesInTraining | None
) -> RolloutEngine | None:
    """`Engines.get` for all ranks, with room for the suites' prompts and answers and a tokenizer for their stops.

    All ranks call this.
    """
    if at.engine.type == "transformers":
        return None
    if suites is not None:
        sampling, stop = suites.widened(sampling), [*stop, *suites.stop]
    return at.ranks.owned(lambda: at.engines.get(sampling, at.origin, ends, stop))


def with_suites(
    metrics: dict[str, float], samples: list[dict[str, Any]], suites: SuitesInTraining | None, engine: RolloutEngine
) -> Metrics:
    """Metrics and samples of an evaluation, with those of its suites on the same engine."""
    if suites is None:
        return metrics, samples
    more, read = suites(engine)
    return {**metrics, **more}, [*samples, *read]


def longest_prompt(suite: AskedSuite) -> int:
    """Tokens of a suite's longest prompt."""
    return max(map(len, suite.prompts))


def check_room(suites: Sequence[AskedSuite], positions: int | None, option: str) -> None:
    """Refuses answers that a model has no positions for.

    Args:
        option: by which the length of answers is set, as the number follows it.

    Raises:
        ConfigError: names the suite, and what fits.
    """
    if positions is None:
        return
    room = min((positions - longest_prompt(suite) for suite in suites), default=positions)
    for suite in suites:
        if longest_prompt(suite) + suite.sampling.max_new_tokens > positions:
            raise ConfigError(
                f"suite {suite.name}: answers of up to {suite.sampling.max_new_tokens} tokens, a prompt of "
                f"{longest_prompt(suite)}",
                reason=f"the model has {positions} positions for a prompt and its answer",
                remedy=f"give {option}{room}" if room > 0 else "leave the suite out: its prompts do not fit",
            )


def _sample(record: Record) -> dict[str, Any]:
    return {
        "mode": f"suite/{record.suite}",
        "question": record.question,
        "answer": record.gold if isinstance(record.gold, str) else str(record.gold),
        "completion": record.text,
        "length": record.length,
        "finish_reason": record.finish_reason,
        "checked": None if record.score is None else bool(record.score),
        "extracted": record.extracted,
    }
