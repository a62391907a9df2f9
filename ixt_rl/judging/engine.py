"""A judge on a rollout engine: messages become ids once, ids become text once."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ixt_rl.conditioning.prompts import encode_prompt
from ixt_rl.errors import ConfigError
from ixt_rl.judging.backend import Finish, Reply, Request
from ixt_rl.judging.rubric import Message
from ixt_rl.rollout.loops import before_repeats, find_period
from ixt_rl.rollout.stops import text_before_stop
from ixt_rl.under_way import NOTHING, UnderWay, WatchUnderWay, watched

if TYPE_CHECKING:
    from ixt_rl.rollout.engine import RolloutEngine
    from ixt_rl.types import Rollout, SamplingParams

_FINISHES: dict[str, Finish] = {"length": "length", "looped": "looped"}
_OPEN_THINKING = ("<think>", "<thinking>", "[THINK]")


class EngineBackend:
    """Judges in batches on a `RolloutEngine`. The engine stays its owner's: `close` leaves it open.

    With a seed every request has its own (`Request.seed`): a sampled answer does not depend on the batch it is in, up
    to the rounding of batched arithmetic.

    Args:
        engine: samples.
        tokenizer: the engine's model's. With a chat template it renders the messages; without, they are plain text.
        name: which model this is, a revision included. The version of the engine's weights is added.
        batch_size: requests generated in one call.
        max_prompt_tokens: longer prompts are refused without being asked; the engine's limit less `max_new_tokens`.
        constrain: decode under the rubric's JSON schema. A thinking model then cannot think: its first token already
            belongs to the JSON object.
        chat_template_kwargs: variables of the chat template, such as `enable_thinking`; part of the judge's name.
        cut_loops: end replies that loop early; see `ixt_rl.rollout.loops`.

    Raises:
        ConfigError: `constrain`, and the engine cannot.
    """

    converses = True

    def __init__(
        self,
        engine: RolloutEngine,
        tokenizer,
        name: str,
        *,
        batch_size: int = 256,
        max_prompt_tokens: int,
        constrain: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        cut_loops: bool = True,
    ):
        if constrain and not getattr(engine, "constrains", False):
            raise ConfigError(
                f"a constrained judge {name} on {type(engine).__name__}",
                reason="that engine cannot decode under a schema",
                remedy="give VLLMEngine or RayPool `tokenizer`, the folder of the model's own; or drop `constrain`",
            )
        self.engine = engine
        self.constrained = constrain
        self.tokenizer = tokenizer
        self.capacity = batch_size
        self.max_prompt_tokens = max_prompt_tokens
        self.cut_loops = cut_loops
        self.watch: WatchUnderWay | None = None
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        self._name = name
        self._waiting: list[tuple[int, Request]] = []

    @property
    def name(self) -> str:
        name = f"{self._name}, weights {self.engine.policy_version}" + (", constrained" if self.constrained else "")
        shown = [f"{key}={value!r}" for key, value in sorted(self.chat_template_kwargs.items())]
        return ", ".join([name, *shown, *([] if self.cut_loops else ["loops go on"])])

    def submit(self, ticket: int, request: Request) -> None:
        if self.constrained:
            schema = json.dumps(request.rubric.answer_schema())
            request = replace(request, sampling=replace(request.sampling, json_schema=schema))
        self._waiting.append((ticket, request))

    def collect(self) -> list[tuple[int, Reply]]:
        """Generates for the waiting requests whose sampling is that of the first, at most a batch of them.

        All of the batch is waited for.
        """
        sampling = self._waiting[0][1].sampling
        batch = [entry for entry in self._waiting if entry[1].sampling == sampling][: self.capacity]
        taken = {ticket for ticket, _ in batch}
        self._waiting = [entry for entry in self._waiting if entry[0] not in taken]
        prompts = [self._encode(request.messages) for _, request in batch]
        fits = [len(prompt) <= self.max_prompt_tokens for prompt in prompts]
        asked = [prompt for prompt, fit in zip(prompts, fits, strict=True) if fit]
        seconds, rollouts = self._generate(asked, [r for (_, r), fit in zip(batch, fits, strict=True) if fit], sampling)
        answers = iter(rollouts)
        return [
            (ticket, self._reply(next(answers), seconds, sampling.stop) if fit else self._too_long(prompt))
            for (ticket, _), prompt, fit in zip(batch, prompts, fits, strict=True)
        ]

    def drop(self) -> None:
        self._waiting = []

    def close(self) -> None:
        self.drop()

    def _generate(
        self, prompts: list[list[int]], requests: list[Request], sampling: SamplingParams
    ) -> tuple[float, list[Rollout]]:
        """(seconds for each prompt, one rollout a prompt)."""
        if not prompts:
            return 0.0, []
        seeds = [request.seed for request in requests if request.seed is not None] or None
        started = time.monotonic()
        self._tell(UnderWay(len(prompts), tokens=None))
        with watched(self.engine, self.watch):
            groups = self.engine.generate(prompts, replace(sampling, cut_loops=self.cut_loops), 1, seeds)
        self._tell(NOTHING)
        return (time.monotonic() - started) / len(prompts), [group[0] for group in groups]

    def _tell(self, under_way: UnderWay) -> None:
        if self.watch is not None:
            self.watch(under_way)

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        if getattr(self.tokenizer, "chat_template", None) is not None:
            return encode_prompt(self.tokenizer, list(messages), None, self.chat_template_kwargs)
        return encode_prompt(self.tokenizer, "\n\n".join(message["content"] for message in messages) + "\n")

    def _reply(self, rollout: Rollout, seconds: float, stop: Sequence[str]) -> Reply:
        ids = rollout.completion_ids[:-1] if rollout.finish_reason == "eos" else rollout.completion_ids
        looped = ""
        if rollout.finish_reason == "looped" and (period := find_period(ids)):
            ids = tuple(before_repeats(ids, period))
            looped = f"{period} tokens again and again, from token {len(ids)} to {len(rollout.completion_ids)}"
        # Special tokens are kept: in some vocabularies the tags of thinking are such.
        text = text_before_stop(self.tokenizer, ids, stop, skip_special_tokens=False)
        tail = self.tokenizer.decode(rollout.prompt_ids[-8:], skip_special_tokens=False).rstrip()
        opened = next((tag for tag in _OPEN_THINKING if tail.endswith(tag)), "")
        return Reply(
            text=opened + text,
            finish=_FINISHES.get(rollout.finish_reason, "stop"),
            prompt_tokens=len(rollout.prompt_ids),
            completion_tokens=len(rollout.completion_ids),
            seconds=seconds,
            error=looped,
        )

    def _too_long(self, prompt: list[int]) -> Reply:
        return Reply("", "refused", error=f"prompt too long: {len(prompt)} tokens, more than {self.max_prompt_tokens}")
