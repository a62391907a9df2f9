"""A judge behind an OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, a vendor's), through the `openai` package."""

from __future__ import annotations

import asyncio
import json
import math
import os
import queue
import random
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from ixt_rl.backends import require
from ixt_rl.blocks.judge_options import check_address, check_no_key, check_variable
from ixt_rl.errors import BackendFailed, ConfigError
from ixt_rl.judging.backend import LARGEST_REPLY, Finish, Reply, Request
from ixt_rl.judging.completion import NotACompletion, ReplyTooLarge, ServerError, read_completion
from ixt_rl.judging.dialect import Dialect, too_long
from ixt_rl.redaction import keep_secret, redacted
from ixt_rl.under_way import NOTHING, UnderWay, WatchUnderWay

_HOPELESS = {401: "the key is refused", 404: "there is no such model or address"}
_OF_THE_TEXT = re.compile(r"flagged|moderat|polic(?:y|ies)|safety|unsafe|inappropriate|violat|prohibited|filter", re.I)
_FORBIDDEN = 16  # 403s in a row, after which the key is to blame and not the texts
_TOLD_EVERY = 1.0  # seconds
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
        retries: further attempts after a transport error (a refused or broken connection, the deadline, 408, 429, 5xx,
            also as an error in a response of status 200) and after what is no chat completion.
        max_reply_bytes: a longer response is not read to its end, and its question fails.
        constrain: asks for answers under the rubric's JSON schema. A server that does not know `response_format` is
            asked without it from then on. vLLM's grammar allows any white space between the fields, which weak models
            write to the end (`--structured-outputs-config '{"backend": "xgrammar", "disable_any_whitespace": true}'`
            forbids it). A thinking model needs a server that splits off the thinking
            (vLLM: `--reasoning-parser`); without one, say False, or it cannot think.
        extra_body: further fields of every request, e.g. `{"chat_template_kwargs": {"enable_thinking": True}}`.
        api_key_env: environment variable with the key. Unset, a server of one's own is asked without a key.

    A key stands in that variable and nowhere else.

    Raises:
        ConfigError: a number out of its range; a `base_url` that is no address or has a password in it; a key in
            `extra_body`.
    """

    model: str
    base_url: str | None = None
    concurrency: int = 32
    requests_per_minute: float | None = None
    deadline: float = 300.0
    retries: int = 5
    max_reply_bytes: int = LARGEST_REPLY
    constrain: bool = True
    extra_body: Mapping[str, Any] | None = None
    api_key_env: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        check_variable(self.api_key_env)
        check_address(self.base_url, self.api_key_env)
        check_no_key(self.extra_body, self.api_key_env)
        for name, least in (("concurrency", 1), ("retries", 0), ("max_reply_bytes", 1024)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)}", reason=f"it is {least} or more", remedy="correct it")
        for name in ("deadline", "requests_per_minute"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name}={value}", reason="it is a number above 0", remedy="correct it")


class EndpointBackend:
    """Asks an `Endpoint` from a thread of its own.

    Answers carry the server's token counts; `uncounted` is the number of answers that came without, or with counts
    that cannot be. `notes` says which fields of requests the server refused and is no longer sent.

    Raises:
        BackendMissing: `openai` is not installed.
        ConfigError: OpenAI's own endpoint, and no key.
    """

    converses = True

    def __init__(self, endpoint: Endpoint):
        require("openai", used_for=f"the judge {endpoint.model}")
        import openai

        from ixt_rl.judging.http import guarded_client

        own_server = endpoint.base_url or os.environ.get("OPENAI_BASE_URL")
        check_address(own_server, endpoint.api_key_env)
        key = os.environ.get(endpoint.api_key_env) or ("none" if own_server else None)
        if key is None:
            raise ConfigError(
                f"judge {endpoint.model} without a key",
                reason=f"OpenAI's own endpoint needs one, and ${endpoint.api_key_env} is not set",
                remedy=f"export {endpoint.api_key_env}=..., or give the `base_url` of another server",
            )
        keep_secret(key)
        self.endpoint = endpoint
        self.capacity = endpoint.concurrency
        self.constrained = endpoint.constrain
        self.uncounted = 0
        self.watch: WatchUnderWay | None = None
        self._dialect = Dialect()
        self._sent = self._forbidden = 0
        self._answered = False
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=key,
            max_retries=0,  # ours count, keep to the rate limit, and have a deadline each
            timeout=endpoint.deadline,
            http_client=guarded_client(endpoint.deadline, endpoint.max_reply_bytes, self._called),
        )
        self._finished: queue.Queue[tuple[int, Reply | Exception]] = queue.Queue()
        self._under_way: dict[int, Future] = {}
        self._asked: dict[int, float] = {}  # when
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._next_start = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge-endpoint", daemon=True)
        self._thread.start()

    @property
    def notes(self) -> list[str]:
        return list(self._dialect.notes)

    @property
    def name(self) -> str:
        parts = [self.endpoint.model, "constrained" if self.endpoint.constrain else ""]
        parts += [json.dumps(self.endpoint.extra_body, sort_keys=True)] if self.endpoint.extra_body else []
        return ", ".join(filter(None, parts))

    def submit(self, ticket: int, request: Request) -> None:
        self._asked[ticket] = time.monotonic()
        self._under_way[ticket] = asyncio.run_coroutine_threadsafe(
            self._answer(ticket, request, self._finished), self._loop
        )

    def collect(self) -> list[tuple[int, Reply]]:
        """See `JudgeBackend`."""
        done = [self._first()]
        while not self._finished.empty():
            done.append(self._finished.get())
        replies = []
        for ticket, outcome in done:
            del self._under_way[ticket], self._asked[ticket]
            if isinstance(outcome, Exception):
                raise outcome
            replies.append((ticket, outcome))
        return replies

    def _first(self) -> tuple[int, Reply | Exception]:
        """The next that is answered; until then, `watch` is told how many are not, and how long."""
        while True:
            if self.watch is not None:
                most = self.endpoint.concurrency
                waiting, since = len(self._asked), time.monotonic() - min(self._asked.values())
                self.watch(UnderWay(min(waiting, most), max(0, waiting - most), tokens=None, oldest=since))
            try:
                return self._finished.get(timeout=None if self.watch is None else _TOLD_EVERY)
            except queue.Empty:
                continue

    def drop(self) -> None:
        """Cancels what is under way."""
        if self.watch is not None:
            self.watch(NOTHING)
        for future in self._under_way.values():
            future.cancel()
        self._under_way.clear()
        self._asked.clear()
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
        started = time.monotonic()
        self._sent += 1
        first = self._sent == 1
        attempt = 0
        while True:
            await self._wait_for_turn()
            pause = min(_BACKOFF[1], _BACKOFF[0] * 2**attempt) * random.uniform(0.5, 1.0)
            sent = self._dialect.spoken(self._body(request))
            final = ""  # what no retry would mend
            try:
                async with asyncio.timeout(self.endpoint.deadline):
                    reply = await self._attempt(sent)
                self._forbidden, self._answered = 0, True
                return replace(reply, seconds=time.monotonic() - started, retries=attempt)
            except TimeoutError:
                problem = f"no answer within {self.endpoint.deadline:g} s"
            except ServerError as error:
                message = str(error)
                if error.status in (400, 422) and self._dialect.learns(sent, message, error.body):
                    continue
                problem = f"status {error.status}: {_short(message)}"
                if error.status in _HOPELESS:
                    raise self._hopeless(_HOPELESS[error.status], problem) from None
                if error.status == 403:
                    self._count_forbidden(first, message, problem)
                    final = "refused"
                elif error.status not in (408, 425, 429) and error.status < 500:
                    final = "refused" if error.status == 413 or too_long(message) else "failed"
                pause = max(pause, error.retry_after)
            except ReplyTooLarge as error:
                problem, final = str(error), "failed"
            except NotACompletion as error:
                problem = f"not a chat completion: {_short(error)}"
            except ConnectionError as error:
                problem = f"no connection: {_short(error)}"
            if final or attempt == self.endpoint.retries:
                finish: Finish = "refused" if final == "refused" else "failed"
                return Reply("", finish, 0, 0, time.monotonic() - started, problem, attempt)
            attempt += 1
            await asyncio.sleep(pause)

    async def _attempt(self, sent: dict[str, Any]) -> Reply:
        """The reply to one request.

        Raises:
            TimeoutError, ConnectionError: nothing, or not the whole of it, came.
            ServerError: an error came, as the response's status or in its body.
            NotACompletion, TooLarge: something else came.
            BackendFailed: a redirect to another host.
        """
        import openai

        own = {name: sent.pop(name) for name in ("model", "messages")}
        try:
            response = await self._client.chat.completions.with_raw_response.create(**own, extra_body=sent)
        except openai.APITimeoutError as error:
            raise TimeoutError from error
        except openai.APIStatusError as error:
            raise _of_status(error) from None
        except openai.APIConnectionError as error:
            raise ConnectionError(redacted(str(error.__cause__ or error))) from None
        reply, complete = read_completion(response.http_response.content)
        self.uncounted += not complete
        return reply

    def _count_forbidden(self, first: bool, message: str, problem: str) -> None:
        """403 may be about one text, or about the key: then the first request gets it, or all do.

        Raises:
            BackendFailed: it is the key.
        """
        self._forbidden += 1
        about_the_text = bool(_OF_THE_TEXT.search(message))
        if self._forbidden >= _FORBIDDEN or (first and not self._answered and not about_the_text):
            raise self._hopeless("the key may not do this", problem) from None

    async def _wait_for_turn(self) -> None:
        """Keeps starts 60 / requests_per_minute seconds apart."""
        if self.endpoint.requests_per_minute is None:
            return
        now = self._loop.time()
        turn = max(now, self._next_start)
        self._next_start = turn + 60 / self.endpoint.requests_per_minute
        await asyncio.sleep(turn - now)

    def _body(self, request: Request) -> dict[str, Any]:
        """The request with all its fields, those of `extra_body` among them."""
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": list(request.messages),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
        }
        if sampling.top_k:  # no field of OpenAI's own
            body["top_k"] = sampling.top_k
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.seed is not None:
            body["seed"] = request.seed
        if self.endpoint.constrain:
            schema = {"name": "verdict", "schema": request.rubric.answer_schema(), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | dict(self.endpoint.extra_body or {})

    @property
    def _called(self) -> str:
        return f"judge {self.endpoint.model} at {self.endpoint.base_url or 'OpenAI'}"

    def _hopeless(self, reason: str, problem: str) -> BackendFailed:
        return BackendFailed(
            f"{self._called}: {problem}",
            reason=reason + ", so no question can be answered",
            remedy=f"check `model`, `base_url` and the key in ${self.endpoint.api_key_env}",
        )


def _of_status(error: Any) -> ServerError:
    """What openai raised for a status, as the server's error."""
    body = error.body if isinstance(error.body, dict) else {}
    return ServerError(error.status_code, error.message, body, _retry_after(error))


def _retry_after(error: Any) -> float:
    """Seconds the server asks to wait, at most the longest pause; 0 if it does not say."""
    try:
        return max(0.0, min(float(error.response.headers.get("retry-after", 0)), _BACKOFF[1]))
    except ValueError:  # a date
        return 0.0


def _short(error: Any) -> str:
    text = " ".join(redacted(str(error)).split())  # whole: half of a key would not be known again
    return text if len(text) <= 200 else text[:197] + "..."
