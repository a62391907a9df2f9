"""A judge behind an OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, a vendor's), through the `openai` package."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from ixt_rl.backends import require
from ixt_rl.errors import BackendFailed, ConfigError
from ixt_rl.judging.backend import Reply, Request
from ixt_rl.judging.rubric import well_formed

_HOPELESS = {401: "the key is refused", 403: "the key may not do this", 404: "there is no such model or address"}
_BACKOFF = (0.5, 30.0)  # seconds before the first retry, doubled each time, and the most


@dataclass(frozen=True)
class Endpoint:
    """Where a judge is served and how it may be asked.

    Args:
        model: the model's name there.
        base_url: address up to `/v1`; None is OpenAI's own.
        concurrency: requests under way at once.
        requests_per_minute: retries count too; None does not limit.
        deadline: seconds one attempt may take, from sending it to its last byte.
        retries: further attempts after a transport error (a refused or broken connection, the deadline, 408, 429, 5xx).
        constrain: asks for answers under the rubric's JSON schema. A server that does not know `response_format` is
            asked without it from then on. vLLM's grammar allows any white space between the fields, which weak models
            write to the end (`--structured-outputs-config '{"backend": "xgrammar", "disable_any_whitespace": true}'`
            forbids it). A thinking model needs a server that splits off the thinking
            (vLLM: `--reasoning-parser`); without one, say False, or it cannot think.
        extra_body: further fields of every request, e.g. `{"chat_template_kwargs": {"enable_thinking": True}}`.
        api_key_env: environment variable with the key. Unset, a server of one's own is asked without a key.
    """

    model: str
    base_url: str | None = None
    concurrency: int = 32
    requests_per_minute: float | None = None
    deadline: float = 300.0
    retries: int = 5
    constrain: bool = True
    extra_body: Mapping[str, Any] | None = None
    api_key_env: str = "OPENAI_API_KEY"


class EndpointBackend:
    """Asks an `Endpoint` from a thread of its own.

    Answers carry the server's token counts; `uncounted` is the number of answers that came without.

    Raises:
        BackendMissing: `openai` is not installed.
        ConfigError: OpenAI's own endpoint, and no key.
    """

    converses = True

    def __init__(self, endpoint: Endpoint):
        require("openai", used_for=f"the judge {endpoint.model}")
        import openai

        own_server = endpoint.base_url or os.environ.get("OPENAI_BASE_URL")
        key = os.environ.get(endpoint.api_key_env) or ("none" if own_server else None)
        if key is None:
            raise ConfigError(
                f"judge {endpoint.model} without a key",
                reason=f"OpenAI's own endpoint needs one, and ${endpoint.api_key_env} is not set",
                remedy=f"export {endpoint.api_key_env}=..., or give the `base_url` of another server",
            )
        self.endpoint = endpoint
        self.capacity = endpoint.concurrency
        self.constrained = endpoint.constrain
        self.uncounted = 0
        self._sends_schema = endpoint.constrain
        self._limit_field = "max_tokens"
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=key,
            max_retries=0,  # ours count, keep to the rate limit, and have a deadline each
            timeout=endpoint.deadline,
        )
        self._finished: queue.Queue[tuple[int, Reply | Exception]] = queue.Queue()
        self._under_way: dict[int, Future] = {}
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._next_start = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge-endpoint", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        parts = [self.endpoint.model, "constrained" if self.endpoint.constrain else ""]
        parts += [json.dumps(self.endpoint.extra_body, sort_keys=True)] if self.endpoint.extra_body else []
        return ", ".join(filter(None, parts))

    def submit(self, ticket: int, request: Request) -> None:
        self._under_way[ticket] = asyncio.run_coroutine_threadsafe(
            self._answer(ticket, request, self._finished), self._loop
        )

    def collect(self) -> list[tuple[int, Reply]]:
        """See `JudgeBackend`."""
        done = [self._finished.get()]
        while not self._finished.empty():
            done.append(self._finished.get())
        replies = []
        for ticket, outcome in done:
            del self._under_way[ticket]
            if isinstance(outcome, Exception):
                raise outcome
            replies.append((ticket, outcome))
        return replies

    def drop(self) -> None:
        """Cancels what is under way."""
        for future in self._under_way.values():
            future.cancel()
        self._under_way.clear()
        self._finished = queue.Queue()  # what is still on its way goes to the old one

    def close(self) -> None:
        """Cancels what is under way, closes the connections and ends the thread."""
        if self._loop.is_closed():
            return
        self.drop()
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(timeout=30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        self._loop.close()

    async def _shut_down(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    async def _answer(self, ticket: int, request: Request, finished: queue.Queue) -> None:
        try:
            async with self._slots:
                outcome: Reply | Exception = await self._with_retries(request)
        except Exception as error:  # handed to the thread that collects, and raised there
            outcome = error
        finished.put((ticket, outcome))

    async def _with_retries(self, request: Request) -> Reply:
        """Attempts until an answer, an error that no retry mends, or the last retry."""
        import openai

        started = time.monotonic()
        attempt = 0
        while True:
            await self._wait_for_turn()
            pause = min(_BACKOFF[1], _BACKOFF[0] * 2**attempt) * random.uniform(0.5, 1.0)
            sent_limit, sent_schema = self._limit_field, self._sends_schema
            try:
                async with asyncio.timeout(self.endpoint.deadline):
                    completion = await self._client.chat.completions.create(**self._body(request))
                reply = self._reply(completion)
                return replace(reply, seconds=time.monotonic() - started, retries=attempt)
            except (TimeoutError, openai.APITimeoutError):
                problem = f"no answer within {self.endpoint.deadline:g} s"
            except openai.APIStatusError as error:
                if self._adapts(error, sent_limit, sent_schema):
                    continue
                problem = f"status {error.status_code}: {_short(error.message)}"
                if error.status_code in _HOPELESS:
                    raise self._hopeless(error.status_code, problem) from None
                if error.status_code not in (408, 429) and error.status_code < 500:
                    long = error.status_code == 413 or "context" in error.message.lower()
                    return Reply(
                        "", "refused" if long else "failed", 0, 0, time.monotonic() - started, problem, attempt
                    )
                pause = max(pause, _retry_after(error))
            except openai.APIConnectionError as error:
                problem = f"no connection: {_short(error.__cause__ or error)}"
            except (openai.APIError, ValueError, AttributeError, TypeError, IndexError) as error:
                problem = f"not a chat completion: {type(error).__name__}: {_short(error)}"
                return Reply("", "failed", 0, 0, time.monotonic() - started, problem, attempt)
            if attempt == self.endpoint.retries:
                return Reply("", "failed", 0, 0, time.monotonic() - started, problem, attempt)
            attempt += 1
            await asyncio.sleep(pause)

    async def _wait_for_turn(self) -> None:
        """Keeps starts 60 / requests_per_minute seconds apart."""
        if self.endpoint.requests_per_minute is None:
            return
        now = self._loop.time()
        turn = max(now, self._next_start)
        self._next_start = turn + 60 / self.endpoint.requests_per_minute
        await asyncio.sleep(turn - now)

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": list(request.messages),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._limit_field: sampling.max_new_tokens,
        }
        extra = dict(self.endpoint.extra_body or {})
        if sampling.top_k:  # no field of OpenAI's own
            extra["top_k"] = sampling.top_k
        if request.seed is not None:
            body["seed"] = request.seed
        if self._sends_schema:
            schema = {"name": "verdict", "schema": request.rubric.answer_schema(), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | {"extra_body": extra}

    def _adapts(self, error: Any, sent_limit: str, sent_schema: bool) -> bool:
        """Whether the request can be sent again in the server's dialect; what was learnt holds for all that follow."""
        if error.status_code not in (400, 422):
            return False
        message = error.message.lower()
        if "max_completion_tokens" in message and sent_limit == "max_tokens":
            self._limit_field = "max_completion_tokens"
            return True
        if sent_schema and any(word in message for word in ("response_format", "json_schema", "structured output")):
            self._sends_schema = False
            return True
        return False

    def _reply(self, completion: Any) -> Reply:
        choice = completion.choices[0]
        text = choice.message.content or ""
        if not isinstance(text, str):
            raise TypeError(f"content is {type(text).__name__}, not text")
        usage = completion.usage
        self.uncounted += usage is None
        known = choice.finish_reason in ("stop", "length")
        return Reply(
            text=well_formed(text),
            finish=choice.finish_reason if known else "refused",
            prompt_tokens=int(usage.prompt_tokens) if usage else 0,
            completion_tokens=int(usage.completion_tokens) if usage else 0,
            error="" if known else f"finish reason {choice.finish_reason!r}",
        )

    def _hopeless(self, status: int, problem: str) -> BackendFailed:
        where = self.endpoint.base_url or "OpenAI"
        return BackendFailed(
            f"judge {self.endpoint.model} at {where}: {problem}",
            reason=_HOPELESS[status] + ", so no question can be answered",
            remedy=f"check `model`, `base_url` and the key in ${self.endpoint.api_key_env}",
        )


def _retry_after(error: Any) -> float:
    """Seconds the server asks to wait, at most the longest pause; 0 if it does not say."""
    try:
        return min(float(error.response.headers.get("retry-after", 0)), _BACKOFF[1])
    except ValueError:  # a date
        return 0.0


def _short(error: Any) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."
