"""A small OpenAI-compatible HTTP server whose answers, failures included, a test decides."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ixt_rl.judging import Endpoint


class Served:
    """What the server saw.

    Args:
        respond: (body of a request, its number from 0) -> text of the answer, or (status, body, headers), or None to
            break the connection.
    """

    def __init__(self, respond: Callable[[dict[str, Any], int], Any]):
        self.respond = respond
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.others = 0  # requests that are no POST
        self.times: list[float] = []
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        self.base_url = ""

    def endpoint(self, **settings: Any) -> Endpoint:
        return Endpoint(**{"model": "judge-1", "base_url": self.base_url, "deadline": 10.0} | settings)


def completion(text: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "judge-1",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def do_POST(self) -> None:
        served = self.served
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with served.lock:
            number = len(served.bodies)
            served.bodies.append(body)
            served.headers.append(dict(self.headers))
            served.times.append(time.monotonic())
            served.under_way += 1
            served.most_under_way = max(served.most_under_way, served.under_way)
        try:
            answer = served.respond(body, number)
        finally:
            with served.lock:
                served.under_way -= 1
        if answer is None:
            self.close_connection = True
            self.connection.close()
            return
        status, content, headers = answer if isinstance(answer, tuple) else (200, completion(answer), {})
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        try:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client's deadline passed

    def do_GET(self) -> None:
        self.served.others += 1
        self.send_error(405)

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the test's output clean."""


@contextmanager
def serve(respond: Callable[[dict[str, Any], int], Any]) -> Iterator[Served]:
    """A running server on a free port."""
    served = Served(respond)
    handler = type("Handler", (_Handler,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    served.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
