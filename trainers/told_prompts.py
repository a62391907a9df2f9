"""The told prompts of a dataset's rows, as ids.

told_prompt        x (+) y          the row's answer, or what else the template shows
told_wrong_prompt  x (+) y'         a wrong one, for contrast
"""

from __future__ import annotations

from typing import Any

from ixt_rl.errors import DataError
from ixt_rl.rollout.asked import check_positions

TOLD, WRONG = "told_prompt", "told_wrong_prompt"


def with_told_ids(
    trainer: Any, rows: list[dict[str, Any]], column: str = TOLD, who: str = "the posterior"
) -> list[dict[str, Any]]:
    """Rows with the ids of the prompts in `column`, before anything is sampled.

    Args:
        trainer: an `OnlineTrainer`.
        rows: dataset rows.
        column: `TOLD` or `WRONG`.
        who: the model that is told, for messages.

    Raises:
        DataError: the column is missing, a prompt in it is empty, or has no room in the model's positions.
    """
    told = "the answer" if column == TOLD else "a wrong answer"
    if column not in rows[0]:
        raise DataError(
            f"dataset columns {sorted(rows[0])}",
            reason=f"{who} needs the answer-conditioned prompt of each row"
            if column == TOLD
            else "the contrast needs each row's prompt told a wrong answer",
            remedy=f"add a `{column}` column (ixt_rl.conditioning."
            + ("PromptTemplate renders it)" if column == TOLD else "told.told_others makes it)"),
        )
    for row in rows:
        if not row.get(column):
            raise DataError(
                f"{column}={row.get(column)!r} of the prompt {row['prompt']!r:.80}",
                reason=f"{who} is the model that is told {told}",
                remedy="render it with ixt_rl.conditioning.PromptTemplate, or leave the row out",
            )
    ids = trainer.encoded(rows, column)
    check_positions(ids, trainer, "a told prompt")
    return [{**row, f"{column}_ids": one} for row, one in zip(rows, ids, strict=True)]
