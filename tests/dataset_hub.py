"""A server that stands for the hub, with one dataset of one file: what `datasets` asks of it, answered as the hub does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "1" * 40


@contextmanager
def serving(repository: str, file: str, content: bytes) -> Iterator[str]:
    """Its address. Whatever else is asked for is not found."""
    entry = {"type": "file", "path": file, "size": len(content), "oid": "2" * 40}
    info = {"id": repository, "sha": COMMIT, "private": False, "siblings": [{"rfilename": file}], "tags": []}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path.startswith(f"/api/datasets/{repository}/tree/"):
                self.answer(200, json.dumps([entry]).encode())
            elif path.startswith(f"/api/datasets/{repository}/paths-info/"):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.answer(200, json.dumps([entry] if self.command == "POST" else []).encode())
            elif path == f"/api/datasets/{repository}" or path.startswith(f"/api/datasets/{repository}/revision/"):
                self.answer(200, json.dumps(info).encode())
            elif path.startswith(f"/datasets/{repository}/resolve/") and path.endswith(f"/{file}"):
                self.answer(200, content, {"ETag": '"2"', "X-Repo-Commit": COMMIT})
            else:
                code = "EntryNotFound" if "/resolve/" in path else "RepoNotFound"
                self.answer(404, b"{}", {"X-Error-Code": code})

        do_HEAD = do_POST = do_GET

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
