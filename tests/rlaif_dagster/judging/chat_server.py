"""A real HTTP server on 127.0.0.1 that speaks the OpenAI chat protocol, and misbehaves on command."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


@dataclass(frozen=True)
class Reply:
    """What the server sends. `body` None hangs up without a word; `cut` promises more bytes than it sends."""

    status: int = 200
    body: bytes | None = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False


def says(text: str | None, *, finish_reason: str = "stop", **message: Any) -> Reply:
    """A well-formed completion whose message is `text`."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    completion = {
        "id": "x", "object": "chat.completion", "created": 1, "model": "test", "choices": [choice], "usage": USAGE,
    }  # fmt: skip
    return Reply(body=json.dumps(completion).encode())


def verdict(letter: str) -> Reply:
    return says(json.dumps({"reason": "because", "verdict": letter}))


def fails(status: int, message: str = "no", *, code: str | None = None, **headers: str) -> Reply:
    """An error in OpenAI's form; header names are written with underscores."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": code or str(status)}}).encode()
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


HANGS_UP = Reply(body=None)
EMPTY_BODY = Reply(body=b"")
NO_CHOICES = Reply(body=b'{"id": "x", "object": "chat.completion", "created": 1, "model": "test", "choices": []}')
NOT_JSON = Reply(body=b'{"id": "x", "choices": [{"mess')


@dataclass
class ChatServer:
    """`answer` maps a request (parsed, with its place in the order of arrival) to a reply; `requests` and their
    `headers` and `times` are kept."""

    answer: Callable[[dict[str, Any], int], Reply]
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def shown(request: dict[str, Any]) -> tuple[str, str]:
    """The texts in the places of answer A and answer B."""
    user = request["messages"][-1]["content"]
    first = user.split("<answer_a>\n", 1)[1].split("\n</answer_a>", 1)[0]
    second = user.split("<answer_b>\n", 1)[1].split("\n</answer_b>", 1)[0]
    return first, second


@contextmanager
def serving(answer: Callable[[dict[str, Any], int], Reply], host: str = "127.0.0.1") -> Iterator[ChatServer]:
    """The server, running in a thread until the block ends."""
    state = ChatServer(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                number = len(state.requests)
                state.requests.append(body)
                state.headers.append(dict(self.headers))
                state.times.append(time.monotonic())
                state.in_flight += 1
                state.most_in_flight = max(state.most_in_flight, state.in_flight)
            try:
                self.send(state.answer(body, number))
            finally:
                with state.lock:
                    state.in_flight -= 1

        def send(self, reply: Reply) -> None:
            time.sleep(reply.delay)
            if reply.body is None:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply.body) + (50 if reply.cut else 0)))
            self.end_headers()
            self.wfile.write(reply.body)
            self.close_connection = self.close_connection or reply.cut

        def log_message(self, format: str, *args: Any) -> None:
            """Silence: the test's own output is what counts."""

    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    state.url = f"http://{host}:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
