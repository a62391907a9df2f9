"""How a suite is asked and sampled under a preset: the preset's words, but for what the suite has of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ixt_rl.conditioning.prompts import Prompt
from ixt_rl.suites import Preset, Suite
from ixt_rl.suites.suite import SuiteShot
from ixt_rl.types import SamplingParams

_HINTS = {"true": " (True or False)", "false": " (True or False)", "yes": " (Yes or No)", "no": " (Yes or No)"}


@dataclass(frozen=True)
class SuitePlan:
    """A suite under a preset.

    Args:
        suite, preset: which.
        prompt, shot: format texts of the question and of a worked example.
        shots: how many worked examples are wanted.
        samples: completions a question.
        sampling: how they are drawn; without a seed.
        note: what the suite says of itself under this preset.
    """

    suite: Suite
    preset: Preset
    prompt: str
    shot: str
    shots: int
    samples: int
    sampling: SamplingParams
    note: str = ""

    def notes(self, shots: Sequence[SuiteShot]) -> list[str]:
        """What a report says: of the preset, of the suite under it, of worked examples that are missing."""
        missing = self.shots - len(shots)
        found = [f"{self.preset.name} shows {self.shots} worked examples, and the suite has {len(shots)}: give `shots`"]
        return [*self.preset.notes, *([self.note] if self.note else []), *(found if missing > 0 else [])]


def plan_of(suite: Suite, preset: Preset) -> SuitePlan:
    """How `suite` is asked and sampled under `preset`."""
    own = suite.settings.get(preset.name)

    def chosen(key: str) -> Any:
        value = getattr(own, key, None)
        return getattr(preset, key) if value is None else value

    sampling = SamplingParams(chosen("max_new_tokens"), preset.temperature, preset.top_p, stop=tuple(chosen("stop")))
    return SuitePlan(
        suite,
        preset,
        chosen("prompt"),
        chosen("shot"),
        (own.shots if own else None) or 0,
        chosen("samples"),
        sampling,
        own.note if own else "",
    )


def prompts_of(
    suite: Suite, preset: Preset, rows: Sequence[Mapping[str, Any]], shots: Sequence[SuiteShot] = ()
) -> list[Prompt]:
    """The prompts of Q rows, text or messages: what `conditioning.prompts.encode_prompt` makes ids of.

    Args:
        rows: as `find_rows` gives them.
        shots: worked examples, of which the plan's number, the first ones, is shown.
    """
    plan = plan_of(suite, preset)
    shown = [_format(plan.shot, shot.question, shot.answer) for shot in shots[: plan.shots]]
    before = preset.between.join([*shown, ""]) if shown else ""
    prompts: list[Prompt] = []
    for row in rows:
        question = row["question"] + (hint(row["answer"]) if preset.hint_of_gold else "")
        text = before + _format(plan.prompt, question)
        if not preset.chat:
            prompts.append(text)
            continue
        system = [] if preset.system is None else [{"role": "system", "content": preset.system}]
        prompts.append([*system, {"role": "user", "content": text}])
    return prompts


def hint(gold: Any) -> str:
    """What Qwen2.5-Math's harness puts behind a question because of its gold answer: nothing for most."""
    if not isinstance(gold, str):
        return ""
    return _HINTS.get(re.sub(r"\\text\{(.*?)\}", r"\1", gold).strip("$. \n").lower(), "")


def _format(text: str, question: str, answer: str = "") -> str:
    return text.format(question=question, answer=answer)
