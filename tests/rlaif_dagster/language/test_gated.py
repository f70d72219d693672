"""A gated model without a token, against a real server that stands for the hub and answers as the hub does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

COMMAND = [sys.executable, "-m", "rlaif_dagster.cli.main"]

REPO = "meta-llama/Llama-3.1-8B-Instruct"


class Hub(BaseHTTPRequestHandler):
    """The hub's answers about a gated repository: everybody may know that it is there, and nobody gets a file without a
    token."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        type(self).asked.append((self.path, self.headers.get("Authorization")))
        names = ("config.json", "model.safetensors", "tokenizer.json")
        if "/tree/" in self.path:
            files = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in names]
            self._send(200, json.dumps(files).encode())
        elif self.path.startswith("/api/models/"):
            siblings = [{"rfilename": name} for name in names]
            self._send(200, json.dumps({"id": REPO, "sha": "0" * 40, "gated": "manual", "siblings": siblings}).encode())
        else:
            headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."}
            self._send(401, b"Access to this model is restricted.", headers)

    do_HEAD = do_GET

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.asked.clear()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def environment(hub: str, home: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return own | {
        "HF_ENDPOINT": hub, "HF_HOME": str(home / "hf"), "RLAIF_HOME": str(home), "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "COLUMNS": "300",
    }  # fmt: skip


def test_pull_says_in_one_line_what_to_do(hub: str, tmp_path: Path) -> None:
    command = [*COMMAND, "models", "pull", "llama-3.1-8b-instruct"]
    done = subprocess.run(command, env=environment(hub, tmp_path), capture_output=True, text=True, check=False)
    assert Hub.asked
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"rlaif: model llama-3.1-8b-instruct: cannot fetch {REPO}: access is gated: accept the licence at "
        f"https://huggingface.co/{REPO} and set HF_TOKEN to a token of that account"
    )
    assert "Traceback" not in done.stderr


def test_a_step_that_loads_it_says_the_same(hub: str, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from rlaif_dagster.home import CHECKOUT, Home; "
        "from rlaif_dagster.language.base_model import load; from rlaif_dagster.spec.project import Project; "
        f"load('m', Project(CHECKOUT / 'data').model('llama-3.1-8b-instruct'), Home(Path({str(tmp_path)!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(hub, tmp_path), capture_output=True, text=True, check=False
    )
    assert "UserError: model m: cannot load meta-llama/Llama-3.1-8B-Instruct: access is gated: accept" in done.stderr
    assert "set HF_TOKEN to a token of that account; then `rlaif models pull m`" in done.stderr.splitlines()[-1]
