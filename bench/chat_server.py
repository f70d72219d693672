"""A server on 127.0.0.1 that speaks OpenAI's chat protocol, answers as a judge does, and misbehaves on command.

    python -m bench.chat_server --latency 1                  # a judge that takes a second
    python -m bench.chat_server --faults --verdicts honest   # ten kinds of behaviour, a tenth of the questions each

It prints `{"url": …}` and serves until its stdin closes (or a signal comes), so that it never outlives who started it.
`GET /stats` counts what happened. One asyncio process without dependencies: what it costs is small beside a client's work.

With `faults` the kind of behaviour follows from the question's content, so that every run meets the same. Four kinds are
answers (well, slow, and two that hold no verdict: prose, refusal); the rest are trouble that passes: the first time that
the question is asked it fails, then it is answered well.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

KINDS = ("well", "slow", "rate_limit", "server_error", "hang", "reset", "truncated", "empty", "prose", "refusal")
PASSING = ("rate_limit", "server_error", "hang", "reset", "truncated", "empty")  # trouble that asking again ends
PROSE = "Both answers have their merits, and it is hard to say which of them a reader would like more."
REFUSAL = "I'm sorry, but I can't help with comparing these texts."
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends a reset instead of a goodbye

Request = dict[str, Any]
Verdicts = Callable[[Request], str]


def shown(request: Request) -> tuple[str, str]:
    """The texts in the places of answer A and answer B."""
    user = request["messages"][-1]["content"]
    first = user.split("<answer_a>\n", 1)[1].split("\n</answer_a>", 1)[0]
    second = user.split("<answer_b>\n", 1)[1].split("\n</answer_b>", 1)[0]
    return first, second


def honest(request: Request) -> str:
    """The answer with the word `good` is better, wherever it stands."""
    return "A" if "good" in shown(request)[0] else "B"


def first(request: Request) -> str:
    """Whatever is shown first is better."""
    return "A"


POLICIES: dict[str, Verdicts] = {"honest": honest, "first": first}


@dataclass
class Behaviour:
    """How the server answers: which verdicts, after how many seconds, with or without faults. Hanging and slow answers
    take `hang` and `slow` seconds beyond the latency."""

    verdicts: Verdicts = honest
    latency: float = 0.0
    faults: bool = False
    slow: float = 0.3
    hang: float = 3600.0
    retry_after: float = 0.2

    def kind(self, request: Request) -> str:
        """What befalls this question."""
        if not self.faults:
            return "well"
        digest = hashlib.sha256(json.dumps(request["messages"], sort_keys=True).encode()).digest()
        return KINDS[int.from_bytes(digest[:4]) % len(KINDS)]


@dataclass
class ChatServer:
    """The server's state: `asked` counts requests by question, `kinds` the behaviours that were shown, `answered` the
    responses that held an answer (whatever it said)."""

    behaviour: Behaviour
    asked: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def stats(self) -> dict[str, Any]:
        return {
            "requests": sum(self.asked.values()),
            "questions": len(self.asked),
            "answered": self.answered,
            "kinds": dict(self.kinds),
            "most_in_flight": self.most_in_flight,
        }

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client connection: requests one after the other until it closes."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    (int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0
                )
                body = await reader.readexactly(length)
                if head.startswith("GET /stats"):
                    send(writer, 200, json.dumps(self.stats).encode())
                else:
                    self.in_flight += 1
                    self.most_in_flight = max(self.most_in_flight, self.in_flight)
                    try:
                        if not await self.answer(json.loads(body), writer):
                            break
                    finally:
                        self.in_flight -= 1
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            writer.close()

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; false when the connection is gone with it."""
        key = hashlib.sha256(json.dumps(request["messages"], sort_keys=True).encode()).hexdigest()
        kind, behaviour = self.behaviour.kind(request), self.behaviour
        if kind in PASSING and self.asked[key]:
            kind = "well"
        self.asked[key] += 1
        self.kinds[kind] += 1
        await asyncio.sleep(behaviour.latency)
        match kind:
            case "rate_limit":
                send(writer, 429, error("slow down"), f"Retry-After: {behaviour.retry_after}\r\n")
            case "server_error":
                send(writer, 500, error("something broke"))
            case "hang":
                await asyncio.sleep(behaviour.hang)
                return False
            case "reset":
                connection: socket.socket = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()
                return False
            case "truncated":
                whole = completion(request, self.verdict(request))
                send(writer, 200, whole[: len(whole) // 2])
            case "empty":
                send(writer, 200, b"")
            case "prose":
                self.answered += 1
                send(writer, 200, completion(request, PROSE))
            case "refusal":
                self.answered += 1
                send(writer, 200, completion(request, REFUSAL))
            case _:
                await asyncio.sleep(behaviour.slow if kind == "slow" else 0)
                self.answered += 1
                send(writer, 200, completion(request, self.verdict(request)))
        return True

    def verdict(self, request: Request) -> str:
        return json.dumps({"reason": "because", "verdict": self.behaviour.verdicts(request)})


def completion(request: Request, text: str) -> bytes:
    """A chat completion that says `text`; a token counts four characters."""
    read, written = sum(len(str(message["content"])) for message in request["messages"]) // 4, len(text) // 4
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    content = {
        "id": "x", "object": "chat.completion", "created": 1, "model": request["model"], "choices": [choice],
        "usage": usage,
    }  # fmt: skip
    return json.dumps(content).encode()


def error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "error", "code": "x"}}).encode()


def send(writer: asyncio.StreamWriter, status: int, body: bytes, headers: str = "") -> None:
    """A whole HTTP response."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    writer.write(head.encode() + body)


async def serve(behaviour: Behaviour) -> None:
    """Serve until stdin closes."""
    server = await asyncio.start_server(ChatServer(behaviour).connected, "127.0.0.1", 0, limit=1 << 22, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}/v1", "stats": f"http://127.0.0.1:{port}/stats"}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)  # at once, whatever hangs: nothing here is worth an orderly end


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.chat_server", description=__doc__.partition("\n")[0])
    parser.add_argument("--verdicts", choices=POLICIES, default="honest")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--faults", action="store_true", help="ten kinds of behaviour")
    parser.add_argument("--hang", type=float, default=3600.0, help="seconds")
    given = parser.parse_args()
    asyncio.run(serve(Behaviour(POLICIES[given.verdicts], given.latency, given.faults, hang=given.hang)))


if __name__ == "__main__":
    main()
