"""From suites and a preset to questions with the ids of their prompts: what an evaluation asks.

suites, preset, folder --suite_questions--> rows, sampling --SuiteQuestions.asked--> AskedSuite
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ixt_rl.conditioning.prompts import encode_prompt
from ixt_rl.errors import ConfigError
from ixt_rl.evaluation.records.job import AskedSuite
from ixt_rl.evaluation.suites import SuiteGrader, SuitePlan, SuiteRows, find_rows, plan_of, prompts_of
from ixt_rl.suites import Preset, Suite
from ixt_rl.types import SamplingParams


@dataclass(frozen=True)
class AskedSampling:
    """What is said in place of a preset's sampling; None: as the preset and the suite have it.

    Args:
        samples: answers a question.
        max_new_tokens: longest answer.
        temperature: 0 is greedy: one answer a question.
        seed: of all that is drawn.
    """

    samples: int | None = None
    max_new_tokens: int | None = None
    temperature: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class SuiteQuestions:
    """A suite as it is asked, before there is a tokenizer.

    Args:
        plan: the suite under the preset.
        rows: the first of them, where there is a limit.
        sampling: the plan's, with what was asked for.
        samples: answers a question.
    """

    plan: SuitePlan
    rows: SuiteRows
    sampling: SamplingParams
    samples: int

    @property
    def name(self) -> str:
        return self.plan.suite.name

    @property
    def notes(self) -> list[str]:
        """What a report says of rows, preset and worked examples."""
        return [*self.rows.notes, *self.plan.notes(self.rows.shots)]

    def asked(self, tokenizer: Any, per_chunk: int) -> AskedSuite:
        """With the ids of the prompts.

        Args:
            tokenizer: of the model.
            per_chunk: questions that are sampled at once.

        Raises:
            ConfigError: the preset asks in messages, and the tokenizer has no chat template.
        """
        suite = self.plan.suite
        prompts = prompts_of(suite, self.plan.preset, self.rows.rows, self.rows.shots)
        if not all(isinstance(prompt, str) for prompt in prompts) and getattr(tokenizer, "chat_template", None) is None:
            raise ConfigError(
                f"preset {self.plan.preset.name} with a model without a chat template",
                reason="the preset asks in messages, which the model's chat template writes out",
                remedy="use a preset of plain text, such as paper, or a model that was trained on chats",
            )
        return AskedSuite(
            name=suite.name,
            rows=self.rows.rows,
            prompts=[encode_prompt(tokenizer, prompt) for prompt in prompts],
            sampling=self.sampling,
            samples=self.samples,
            grade=SuiteGrader(suite, self.plan.preset),
            per_chunk=per_chunk,
        )

    def settings(self, per_chunk: int, hash_of: Callable[[Path], str]) -> dict[str, Any]:
        """What evaluation.json says of it, as JSON."""
        names = Counter(file.name for file in self.rows.files)
        return {
            "questions": len(self.rows.rows),
            "of": self.rows.total,
            "files": {
                file.name if names[file.name] == 1 else f"{file.parent.name}/{file.name}": hash_of(file)
                for file in self.rows.files
            },
            "sampling": {
                "samples": self.samples,
                "temperature": self.sampling.temperature,
                "top_p": self.sampling.top_p,
                "max_new_tokens": self.sampling.max_new_tokens,
                "stop": list(self.sampling.stop),
            },
            "questions_per_chunk": per_chunk,
            "definition": self.plan.suite.model_dump(mode="json"),
            "notes": self.notes,
        }


def suite_questions(
    suites: Sequence[Suite], preset: Preset, data: Path | None, limit: int | None, asked: AskedSampling
) -> list[SuiteQuestions]:
    """The questions of suites.

    Args:
        suites: each name once.
        preset: how they are asked.
        data: the folder of all sets.
        limit: ask the first so many of each; None: all.
        asked: what is said in place of the preset's sampling.

    Raises:
        ConfigError: a name twice, or several greedy answers.
        DataError: see `find_rows`.
    """
    names = [suite.name for suite in suites]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise ConfigError(f"suites {', '.join(names)}", reason=f"{twice} is there twice", remedy="name each suite once")
    return [_of(plan_of(suite, preset), find_rows(suite, data, limit), asked) for suite in suites]


def _of(plan: SuitePlan, rows: SuiteRows, asked: AskedSampling) -> SuiteQuestions:
    temperature = plan.sampling.temperature if asked.temperature is None else asked.temperature
    if temperature == 0 and (asked.samples or 1) > 1:
        raise ConfigError(
            f"{asked.samples} samples at temperature 0",
            reason="greedy answers to a question are all the same one",
            remedy="ask for a temperature above 0, or leave the number of samples out",
        )
    sampling = replace(
        plan.sampling,
        max_new_tokens=asked.max_new_tokens or plan.sampling.max_new_tokens,
        temperature=temperature,
        top_p=plan.sampling.top_p if temperature else 1.0,
        seed=asked.seed,
    )
    return SuiteQuestions(plan, rows, sampling, (asked.samples or plan.samples) if temperature else 1)
