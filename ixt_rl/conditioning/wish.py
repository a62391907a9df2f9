"""Inference with feedback: prompts that carry the feedback one wishes the answer to earn."""

from __future__ import annotations

from collections.abc import Iterable

from ixt_rl.conditioning.conditioner import Conditioner
from ixt_rl.conditioning.feedback import wished_feedback
from ixt_rl.errors import ConfigError


def wished_prompts(conditioner: Conditioner, texts: Iterable[str], wish: str = "best") -> list[list[int]]:
    """The ids of `texts` as prompts, with the wished feedback where training had the judge's.

    Args:
        conditioner: the one the model was trained with.
        texts: what is to be continued, or replied to.
        wish: in words, as `target_feedback` reads them: `best`; `math, best, difficulty=5`. With tags: the tag.

    Raises:
        DataError: a wish that cannot be read.
        ConfigError: the conditioner shows no feedback before the text, so a wish would change nothing.
    """
    shown = conditioner.conditioning
    feedback = wished_feedback(shown.template, wish)
    if shown.template is None or not shown.template.render(feedback) or shown.position == "after":
        raise ConfigError(
            f"wish {wish!r}",
            reason="this conditioning writes nothing of it before a text",
            remedy="use the template and the position that the model was trained with; feedback after the text cannot "
            "be wished for",
        )
    return [conditioner.prompt(text, feedback) for text in texts]
