"""A program with vLLM's command line and protocol, as far as they are used here, that answers without a model.

What it was started with goes into the folder that VLLM_STANDIN names, with its process id. A file `fails` there makes it end
with the words in it before it serves, a file `dies` after its first answer; what is in a file `refuses` answers every request.
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def main() -> None:
    folder = Path(os.environ["VLLM_STANDIN"])
    verb, model, *rest = sys.argv[1:]
    options = dict(one.removeprefix("--").split("=", 1) for one in rest)
    seen = {name: os.environ.get(name) for name in ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK")}
    started = {"verb": verb, "model": model, "options": options, "environment": seen, "pid": os.getpid()}
    with (folder / "started.jsonl").open("a") as file:
        file.write(json.dumps(started) + "\n")
    if (fails := folder / "fails").exists():
        sys.exit(fails.read_text())
    Handler.served, Handler.folder = options["served-model-name"], folder
    ThreadingHTTPServer((options["host"], int(options["port"])), Handler).serve_forever()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: str
    folder: Path

    def do_GET(self) -> None:
        self.reply(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions" or request["model"] != self.served:
            self.reply(
                404, {"error": {"message": f"no model {request['model']}", "type": "NotFoundError", "code": 404}}
            )
            return
        if (refuses := self.folder / "refuses").exists():
            self.reply(400, {"error": {"message": refuses.read_text(), "type": "BadRequestError", "code": 400}})
            return
        with (self.folder / "asked.jsonl").open("a") as file:
            file.write(json.dumps(request) + "\n")
        text = f"{request['messages'][-1]['content']} {request['seed']}"
        tokens = [{"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []} for token in text.split()]
        choice = {
            "index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop",
            "logprobs": {"content": tokens},
        }  # fmt: skip
        usage = {"prompt_tokens": 1, "completion_tokens": len(tokens), "total_tokens": 1 + len(tokens)}
        shape = {"id": "x", "object": "chat.completion", "created": 1, "model": self.served}
        self.reply(200, {**shape, "choices": [choice], "usage": usage})
        if (self.folder / "dies").exists():
            os._exit(1)

    def reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


if __name__ == "__main__":
    main()
