"""A real S3 server on this machine: moto's, as a process of its own, one request after the other.

moto looks at a condition and then writes, which two threads could do at once where S3 would let one through: so requests
take turns. A file `stall` beside its data, holding a regular expression, makes it hold the next PUT whose path matches, with
`stalled` to say that it does so, until that file is gone: then the request is refused and never took effect. That is the
moment in which a test kills the client.

    python -m tests.s3_server FOLDER
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif_dagster.home import CHECKOUT

BUCKET = "lab"
CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")
KINDS = {
    "unconditional": "knows nothing of conditional writes",
    "unquoted": "knows an ETag without its quotes only, as Ceph's gateway",
    "hasty": "looks whether an object is there, and then writes, whoever wrote meanwhile",
}


@dataclass(frozen=True)
class Server:
    """A server that runs, and its folder of signs."""

    port: int
    folder: Path

    def environment(self, prefix: str = "study") -> dict[str, str]:
        """What a machine of a user's has in its environment."""
        return {
            "RLAIF_STORE": f"s3://{BUCKET}/{prefix}",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "no-secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """As another tool would reach it."""
        import boto3

        keys = {"aws_access_key_id": "tester", "aws_secret_access_key": "no-secret"}
        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1", **keys)

    def names(self, prefix: str = "") -> list[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    @contextmanager
    def stalling(self, pattern: str) -> Iterator[Callable[[], bool]]:
        """Hold the next PUT that matches, until the block ends; gives what tells whether one is held."""
        (self.folder / "stall").write_text(pattern)
        try:
            yield (self.folder / "stalled").exists
        finally:
            (self.folder / "stall").unlink(missing_ok=True)
            (self.folder / "stalled").unlink(missing_ok=True)

    @contextmanager
    def being(self, kind: str) -> Iterator[None]:
        """Be another kind of server, until the block ends: one of KINDS."""
        assert kind in KINDS
        (self.folder / kind).touch()
        try:
            yield
        finally:
            (self.folder / kind).unlink()


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A server with one empty bucket."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.s3_server", str(folder)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        started = Server(int(process.stdout.readline()), folder)
        started.client().create_bucket(Bucket=BUCKET)
        yield started
    finally:
        process.kill()
        process.wait()


class TurnTaking:
    """The application, for one request at a time."""

    def __init__(self, app: Callable[..., Iterable[bytes]], folder: Path) -> None:
        self.app, self.folder, self.turn = app, folder, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT" and self._stalls(environ["PATH_INFO"]):
            start_response("400 Bad Request", [("Content-Length", "0")])
            return [b""]
        if environ["REQUEST_METHOD"] == "PUT":
            environ = self._as_another_kind(environ)
        with self.turn:
            return list(self.app(environ, start_response))

    def _as_another_kind(self, environ: dict[str, Any]) -> dict[str, Any]:
        """The request as the kind of server that is played takes it."""
        bare = {name: value for name, value in environ.items() if name not in CONDITIONS}
        if (self.folder / "unconditional").exists():
            return bare
        if (self.folder / "unquoted").exists() and environ.get("HTTP_IF_MATCH", "").startswith('"'):
            return environ | {"HTTP_IF_MATCH": "another"}
        if (self.folder / "hasty").exists() and "HTTP_IF_NONE_MATCH" in environ:
            status: list[str] = []
            look = bare | {"REQUEST_METHOD": "HEAD", "CONTENT_LENGTH": "0", "wsgi.input": io.BytesIO()}
            with self.turn:
                list(self.app(look, lambda said, *_: status.append(said)))
            time.sleep(0.3)
            return bare if status[0].startswith("404") else environ
        return environ

    def _stalls(self, path: str) -> bool:
        sign = self.folder / "stall"
        try:
            held = re.search(sign.read_text(), path) is not None
        except FileNotFoundError:
            return False
        if held:
            (self.folder / "stalled").touch()
            while sign.exists():
                time.sleep(0.02)
        return held


def main() -> None:
    """Serve until killed; the port is the first line of stdout."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    os.environ["MOTO_S3_CUSTOM_ENDPOINTS"] = ""
    WSGIRequestHandler.log_request = lambda *_, **__: None  # type: ignore[method-assign]
    app = TurnTaking(DomainDispatcherApplication(create_backend_app), Path(sys.argv[1]))
    served = make_server("127.0.0.1", 0, app, threaded=True)
    print(served.server_port, flush=True)
    served.serve_forever()


if __name__ == "__main__":
    main()
