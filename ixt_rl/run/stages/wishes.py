"""What is asked of a model by its feedback, in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ixt_rl.blocks.wishes import incomplete_wish
from ixt_rl.conditioning import encode_prompt
from ixt_rl.conditioning.conditioner import Conditioner
from ixt_rl.conditioning.feedback import AnyFeedbackTemplate, wished_feedback
from ixt_rl.evaluation.tasks import Task
from ixt_rl.types import Feedback

GUIDED = "guided"
"""Stands in the place of a wish's name in the metrics of guided sampling."""


def mode_name(temperature: float, wish: str = "") -> str:
    """`greedy`, `sampled` (temperature 1), `sampled@t0.5`; with a wish other than the first, `greedy@worst`."""
    name = "greedy" if temperature == 0 else "sampled"
    if temperature not in (0, 1):
        name += f"@t{temperature:g}"
    return name + (f"@{wish}" if wish else "")


def wished(
    conditioner: Conditioner, tokenizer, task: Task, rows: Sequence[dict[str, Any]], wish: int | str | None
) -> list[list[int]]:
    """Prompt ids of problems with the feedback that is wished for: a level, words, or None.

    A world knows what its judge would say of a problem's solution at a level, and on which site such stand; elsewhere
    words name the domain, or are the tag.

    Raises:
        ConfigError: nobody knows the scores or the critique that the template writes beside a level.
    """
    if conditioner.conditioning.template is None and not conditioner.conditioning.chat:
        return [encode_prompt(tokenizer, row["prompt"], None, task.chat_template_kwargs) for row in rows]
    prompts = []
    for row in rows:
        if isinstance(wish, int) and task.target is not None:
            feedback: Feedback | None = task.target(row["question"], wish)
        else:
            feedback = wished_feedback_of(conditioner, wish, complete=task.target is None)
        prompts.append(conditioner.prompt(row["prompt"], feedback))
    return prompts


def wished_feedback_of(conditioner: Conditioner, wish: int | str | None, complete: bool = True) -> Feedback | None:
    """A wish on texts of files as feedback; None where none is wished for, or none is ever shown.

    Args:
        complete: whether it has to say all that the template writes.

    Raises:
        ConfigError: see `wished`.
    """
    template = conditioner.conditioning.template
    if wish is None or template is None:
        return None
    feedback = Feedback(wish) if isinstance(wish, int) else wished_feedback(template, wish)
    if complete:
        _check_complete(template, feedback, wish)
    return feedback


def _check_complete(template: AnyFeedbackTemplate | None, feedback: Feedback, wish: int | str | None) -> None:
    """Raises ConfigError where the template writes more beside a document than the wish says."""
    missing = template is not None and [
        name for name in ("scores", "critique") if getattr(template, name) and not getattr(feedback, name)
    ]
    if missing:
        raise incomplete_wish(f"wish {wish!r}", missing)
