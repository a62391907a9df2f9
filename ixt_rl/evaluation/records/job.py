"""Sampling and grading, a chunk of questions at a time, so that a kill loses at most the chunk under way.

A chunk is the same questions whenever it is sampled, and every question has its own seed: an evaluation that was
stopped, anywhere, ends with the records of one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from ixt_rl.errors import DataError
from ixt_rl.evaluation.records.folder import EvaluationFolder, Key
from ixt_rl.evaluation.records.record import Record, prompt_hash, question_seed
from ixt_rl.evaluation.records.results import results_of
from ixt_rl.evaluation.suites import Graded
from ixt_rl.rollout.engine import RolloutEngine
from ixt_rl.rollout.stops import text_before_stop
from ixt_rl.types import Rollout, SamplingParams
from ixt_rl.under_way import NOTHING, UnderWay, watched

Grade = Callable[[Sequence[Mapping[str, Any]], Sequence[str]], Sequence[Graded]]
"""(B rows, B texts) -> B verdicts: `SuiteGrader.__call__`."""


@dataclass(frozen=True)
class EngineFacts:
    """What samples, as records say it.

    Args:
        type: `transformers`, `vllm` or `ray-vllm`.
        version: of the package.
        dtype: of weights and products.
    """

    type: str
    version: str
    dtype: str


@dataclass(frozen=True)
class AskedSuite:
    """The questions of one suite, as they are asked.

    Args:
        name: of the suite.
        rows: as `find_rows` gives them.
        prompts: ids of each row's prompt.
        sampling: how answers are drawn; its seed is that of the evaluation.
        samples: answers a question; 1 at temperature 0.
        grade: of the answers.
        per_chunk: questions that are sampled at once.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    prompts: Sequence[Sequence[int]]
    sampling: SamplingParams
    samples: int
    grade: Grade
    per_chunk: int
    hashes: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hashes", [prompt_hash(ids) for ids in self.prompts])
        ids = [row["id"] for row in self.rows]
        twice = next((id for at, id in enumerate(ids) if id in ids[:at]), None) if len({*ids}) < len(ids) else None
        if twice is not None:
            raise DataError(
                f"suite {self.name}: two questions have the id {twice!r}",
                reason="records are told apart by suite, id and sample",
                remedy="name another field as `id`, or leave it out: rows are then numbered",
            )

    @property
    def greedy(self) -> bool:
        return self.sampling.temperature == 0

    def chunks(self) -> Iterator[range]:
        """Places of the questions of each chunk."""
        for start in range(0, len(self.rows), self.per_chunk):
            yield range(start, min(start + self.per_chunk, len(self.rows)))

    def seed(self, place: int) -> int | None:
        """Of the first sample of a question; None where nothing is drawn."""
        return None if self.greedy else question_seed(self.sampling.seed or 0, self.name, self.rows[place]["id"])

    def record_keys(self) -> Iterator[Key]:
        for place, row in enumerate(self.rows):
            for sample in range(self.samples):
                yield self.name, row["id"], place, sample, self.hashes[place]


@dataclass(frozen=True)
class EvaluationState:
    """How far an evaluation is.

    Args:
        phase: the suite that is sampled, or `starting the engine`.
        done: samples on disk.
        total: samples that there will be.
        fresh: samples of this session.
        tokens: of them.
        seconds: since the engine of this session was up.
        longest: most tokens of a sample.
        under_way: samples that are being written.
    """

    phase: str
    done: int
    total: int
    fresh: int = 0
    tokens: int = 0
    seconds: float = 0.0
    longest: int = 0
    under_way: UnderWay = NOTHING

    @property
    def working(self) -> bool:
        return self.seconds > 0


def evaluate_suites(
    folder: EvaluationFolder,
    settings: Mapping[str, Any],
    suites: Sequence[AskedSuite],
    engine: Callable[[], RolloutEngine],
    facts: EngineFacts,
    tokenizer: Any,
    watch: Callable[[EvaluationState], None] = lambda state: None,
    harnesses: Sequence[str] = (),
) -> dict[str, Any]:
    """Samples and grades what is not on disk yet, and writes and returns the results.

    Args:
        folder: of the evaluation; its lock is taken.
        settings: all that decides the records, as JSON: compared with those there.
        suites: in the order of the records.
        engine: opens the engine; called once, if there is something to sample. The caller closes it.
        facts: of that engine.
        tokenizer: decodes completions.
        watch: told of every chunk, and of every step of an engine that tells.
        harnesses: whose rules the results have beside ours.

    Raises:
        ConfigError: the folder holds another evaluation, or another process has it.
        DataError: its records are not of these questions.
    """
    parts = [(suite, chunk) for suite in suites for chunk in suite.chunks()]
    ends = list(accumulate(len(chunk) * suite.samples for suite, chunk in parts))
    with folder.locked("evaluating into it"):
        folder.begin(settings)
        done = folder.recover([key for suite in suites for key in suite.record_keys()], ends)
        left = [part for part, end in zip(parts, ends, strict=True) if end > done]
        if left:
            _sample(folder, left, done, ends[-1], engine, facts, tokenizer, watch)
        results = results_of(folder, harnesses)
        folder.write_results(results)
        return results


def _sample(
    folder: EvaluationFolder,
    parts: Sequence[tuple[AskedSuite, range]],
    done: int,
    total: int,
    engine: Callable[[], RolloutEngine],
    facts: EngineFacts,
    tokenizer: Any,
    watch: Callable[[EvaluationState], None],
) -> None:
    """Samples, grades and writes chunk after chunk."""
    watch(EvaluationState("starting the engine", done, total))
    opened, before, tokens, began = engine(), done, 0, time.perf_counter()
    longest = max(suite.sampling.max_new_tokens for suite, _ in parts)

    def tell(under_way: UnderWay) -> None:
        seconds = time.perf_counter() - began
        watch(EvaluationState(suite.name, done, total, done - before, tokens, seconds, longest, under_way))

    for suite, chunk in parts:
        tell(NOTHING)
        started = time.perf_counter()
        with watched(opened, tell):
            records = sample_chunk(suite, chunk, opened, facts, tokenizer)
        written = sum(record.length for record in records)
        spent = {
            "suite": suite.name,
            "first": chunk.start,
            "questions": len(chunk),
            "samples": len(records),
            "seconds": round(time.perf_counter() - started, 3),
            "prompt_tokens": sum(len(suite.prompts[place]) for place in chunk),
            "completion_tokens": written,
        }
        folder.append(records, spent)
        done, tokens = done + len(records), tokens + written
        tell(NOTHING)


def sample_chunk(
    suite: AskedSuite, chunk: range, engine: RolloutEngine, facts: EngineFacts, tokenizer: Any
) -> list[Record]:
    """The records of some questions of a suite, in order of question and sample."""
    seeds = None if suite.greedy else [suite.seed(place) or 0 for place in chunk]
    groups = engine.generate([suite.prompts[place] for place in chunk], suite.sampling, suite.samples, seeds)
    drawn = [
        (place, sample, one) for place, group in zip(chunk, groups, strict=True) for sample, one in enumerate(group)
    ]
    texts = [text_before_stop(tokenizer, one.completion_ids, suite.sampling.stop) for _, _, one in drawn]
    graded = suite.grade([suite.rows[place] for place, _, _ in drawn], texts)
    return [
        _record(suite, place, sample, one, text, found, facts)
        for (place, sample, one), text, found in zip(drawn, texts, graded, strict=True)
    ]


def _record(
    suite: AskedSuite, place: int, sample: int, rollout: Rollout, text: str, graded: Graded, facts: EngineFacts
) -> Record:
    row, seed = suite.rows[place], suite.seed(place)
    return Record(
        suite=suite.name,
        id=row["id"],
        index=place,
        cluster=row.get("cluster"),
        sample=sample,
        prompt_hash=suite.hashes[place],
        prompt_tokens=len(suite.prompts[place]),
        seed=None if seed is None else seed + sample,
        ids=rollout.completion_ids,
        text=text,
        length=len(rollout.completion_ids),
        truncated=rollout.finish_reason == "length",
        finish_reason=rollout.finish_reason,
        extracted=graded.extracted,
        verdict=graded.verdict,
        why=graded.why,
        engine=facts.type,
        engine_version=facts.version,
        dtype=facts.dtype,
        gold=row["answer"],
        question=row["question"],
        choices=row.get("choices"),
        solution=_solution(row),
    )


def _solution(row: Mapping[str, Any]) -> str | None:
    """The worked solution of a row: its field of that name, or the answer's own text where the gold is only its end."""
    texts = [row["fields"].get(name) for name in ("solution", "Solution", "answer")]
    return next((text for text in texts if isinstance(text, str) and text.strip() not in ("", row["answer"])), None)
