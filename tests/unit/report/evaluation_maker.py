"""Synthetic folders of `ixt-rl eval`: settings and records as it writes them, results as it computes them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ixt_rl.evaluation.records.folder import EvaluationFolder
from ixt_rl.evaluation.records.record import Record
from ixt_rl.evaluation.records.results import results_of

VERDICTS = {1: "right", 0: "wrong", None: "undecided"}


class EvaluationMaker:
    """Writes folders below `root`."""

    def __init__(self, root: Path):
        self.root = root

    def __call__(
        self,
        name: str,
        scores: Mapping[str, Sequence[Sequence[int | None]]],
        model: str | None = None,
        preset: str = "paper",
        of: Mapping[str, int] | None = None,
        path: str | None = None,
        clusters: Mapping[str, Sequence[str]] | None = None,
        unfinished: int = 0,
        results: bool = True,
        **settings: Any,
    ) -> Path:
        """One folder.

        Args:
            scores: by suite: of each question the samples' scores; None is undecided.
            of: rows of the whole suite, where more than are asked.
            clusters: by suite, the questions' clusters.
            unfinished: so many of the last records are not there yet.
            results: whether results.json is.
        """
        folder = EvaluationFolder(self.root / name)
        suites = {
            suite: {
                "questions": len(rows),
                "of": (of or {}).get(suite, len(rows)),
                "sampling": {"samples": len(rows[0]), "temperature": 0.6, "top_p": 0.95, "max_new_tokens": 64},
                "notes": [],
            }
            for suite, rows in scores.items()
        }
        folder.begin(
            {
                "model": {"name": model or name, "path": path or f"models/{model or name}"},
                "preset": {"name": preset},
                "suites": suites,
                "seed": 0,
                "engine": {"type": "transformers", "version": "5.15.0", "dtype": "float32"},
                "ixt_rl": "0.1",
                "started": "2026-11-29T12:00:00+0000",
                **settings,
            }
        )
        records = [
            _record(suite, row, sample, score, (clusters or {}).get(suite))
            for suite, rows in scores.items()
            for row, samples in enumerate(rows)
            for sample, score in enumerate(samples)
        ]
        records = records[: len(records) - unfinished]
        spent = {"seconds": 1.0, "prompt_tokens": 10, "completion_tokens": 20}
        folder.append(records, {"suite": next(iter(scores)), **spent})
        if results:
            folder.write_results(results_of(folder))
        return folder.path


def _record(suite: str, row: int, sample: int, score: int | None, clusters: Sequence[str] | None) -> Record:
    return Record(
        suite=suite,
        id=f"q{row}",
        index=row,
        cluster=None if clusters is None else clusters[row],
        sample=sample,
        prompt_hash=f"{row:016x}",
        prompt_tokens=10,
        seed=row + sample,
        ids=(1, 2, 3),
        text=f"<b>Sample</b> {sample} of {row}: so the answer is \\boxed{{{score}}}",
        length=20,
        truncated=score is None,
        finish_reason="length" if score is None else "eos",
        extracted=None if score is None else str(score),
        verdict=VERDICTS[score],
        why="numbers",
        engine="transformers",
        engine_version="5.15.0",
        dtype="float32",
        gold="1",
        question=f"What is {row} & {row}?",
    )


def drawn(questions: int, samples: int, share: float, seed: int) -> list[list[int]]:
    """Scores of questions of different difficulty."""
    chosen = random.Random(seed)
    hard = [min(1.0, max(0.0, chosen.gauss(share, 0.25))) for _ in range(questions)]
    chosen = random.Random(seed + 1000)
    return [[int(chosen.random() < ease) for _ in range(samples)] for ease in hard]
