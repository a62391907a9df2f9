"""What a preset is: how a question is asked, how it is sampled, where the answer is looked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ixt_rl.blocks.sampling import StopStrings
from ixt_rl.blocks.strict import BatchSize, Name, NonNegativeFloat, Strict, Tokens
from ixt_rl.errors import ConfigError
from ixt_rl.suites.suite import check_format, fields_of


class Preset(Strict):
    """A way of asking and sampling, the same for all suites but for their `settings`.

    Worked examples, where a suite has any, are each rendered by `shot`, joined by `between`, and so put before the
    question; in a chat all of it is one user message.
    """

    name: Name
    about: str = ""
    chat: bool = Field(False, description="the prompt is a user's message, rendered by the model's chat template")
    system: str | None = Field(None, description="system message of the chat")
    prompt: str = Field("{question}", description="text around {question}")
    shot: str = Field("{question}\n{answer}", description="text of one worked example")
    between: str = Field("\n\n", description="what stands between examples, and between the last one and the question")
    hint_of_gold: bool = Field(
        False, description="(True or False) or (Yes or No) is put behind a question whose gold is one of these words"
    )
    temperature: NonNegativeFloat = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    samples: BatchSize = 1
    max_new_tokens: Tokens = 2048
    stop: StopStrings = []
    extract: Literal["auto", "boxed", "last_box", "hashes", "tags", "minerva"] = "auto"
    last_line: bool = Field(False, description="take the last line where the answer stands nowhere else")
    harness: str | None = Field(None, description="whose rules `--as harness` means: the name that `--as` takes")
    notes: list[str] = Field([], description="what differs from the harness or the paper, for the report")

    @model_validator(mode="after")
    def _texts(self) -> Preset:
        for key, allowed, needed in (("prompt", ["question"], "question"), ("shot", ["question", "answer"], "answer")):
            text = getattr(self, key)
            check_format(text, key)
            found = fields_of(text)
            if needed not in found or not set(found) <= set(allowed):
                raise ConfigError(
                    f"{key}: {text!r:.120}",
                    reason=f"its fields are {', '.join(found) or 'none'}",
                    remedy=f"show {{{needed}}}, and nothing but {', '.join(f'{{{name}}}' for name in allowed)}",
                )
        if self.system is not None and not self.chat:
            raise ConfigError(
                f"preset {self.name}: system without chat",
                reason="text that is no chat has no system message",
                remedy="set chat: true, or write the text into `prompt`",
            )
        return self
