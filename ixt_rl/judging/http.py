"""The HTTP client of an endpoint: replies of a limited size, and none from another host than the one that was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2  # openai's own HTTP client

from ixt_rl.errors import BackendFailed
from ixt_rl.judging.completion import ReplyTooLarge

_MAX_REDIRECTS = 3


class Redirected(BackendFailed):
    """The server sends requests on to where they must not go."""


class _Limited(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, limit: int):
        self._stream, self._limit = stream, limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._limit:
                raise ReplyTooLarge(f"a reply of more than {self._limit} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def guarded_client(deadline: float, limit: int, judge: str) -> httpx2.AsyncClient:
    """A client for `openai.AsyncOpenAI`.

    A redirect is followed where it keeps the request as it is (307, 308) and stays at its scheme, host and port: what
    is to be judged goes to nobody else.

    Args:
        deadline: seconds without a byte after which a request ends.
        limit: bytes of a response's body.
        judge: how messages call who is asked.
    """

    async def check(response: httpx2.Response) -> None:
        if response.has_redirect_location:
            _check_redirect(response, judge)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise ReplyTooLarge("a compressed reply, which may be of any size; none was asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Limited(response.stream, limit)

    return httpx2.AsyncClient(
        timeout=deadline,
        limits=httpx2.Limits(max_connections=None),
        headers={"Accept-Encoding": "identity"},
        follow_redirects=True,
        max_redirects=_MAX_REDIRECTS,
        event_hooks={"response": [check]},
    )


def _check_redirect(response: httpx2.Response, judge: str) -> None:
    asked = response.request.url
    target = asked.join(response.headers["location"])
    where = f"{target.scheme}://{target.netloc.decode('ascii', 'replace')}{target.path}"
    same = (asked.scheme, asked.host, asked.port) == (target.scheme, target.host, target.port)
    if same and response.status_code in (307, 308):
        return
    raise Redirected(
        f"{judge}: it answers {response.status_code}, a redirect to {where}",
        reason="a redirect that changes the request is no answer"
        if same
        else "what is to be judged, and the key, are for the host that you named alone",
        remedy="name the address where it is served in `base_url`",
    )
