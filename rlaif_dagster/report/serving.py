"""Reports over HTTP, for the links in Dagster's UI: a page that came over HTTP may not open a file.

`rlaif ui` starts this beside Dagster, and it ends with it:

    python -m rlaif_dagster.report.serving FOLDER HOST PORT < LIFELINE

Only what lies in the folder of reports is served, to read, and without listings. Where it listens on this machine alone it answers
under this machine's names alone, so that no page of the web can read reports by giving its own name the address 127.0.0.1.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from rlaif_dagster.home import Home, report_folder
from rlaif_dagster.lifeline import end_with_parent
from rlaif_dagster.loopback import LOOPBACK

REPORTS = "RLAIF_REPORTS"  # the address at which reports are served
DEFAULT = "http://127.0.0.1:3001"  # where `rlaif ui` with its default port serves reports
STUDY = "study.html"


def address_of(path: Path, home: Home) -> str:
    """Where a report can be read while the UI runs."""
    base = (os.environ.get(REPORTS) or DEFAULT).rstrip("/")
    return f"{base}/{quote(path.relative_to(report_folder(home)).as_posix())}"


def base_address(host: str, port: int) -> str:
    """The address under which a server on this host and port is reached; one that listens on all of a machine's, by its name."""
    host = socket.getfqdn() if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Reports(SimpleHTTPRequestHandler):
    """Answers GET and HEAD."""

    server_version, sys_version = "rlaif", ""
    only_here: bool

    def send_head(self) -> Any:
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if self.only_here and name not in LOOPBACK:
            self.send_error(HTTPStatus.FORBIDDEN, "Reports are served under this machine's own names")
            return None
        if self.path == "/":
            self.path = f"/{STUDY}"
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # a report is written anew under its name
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal is Dagster's."""


def listen(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the folder's reports. Raises OSError where the port is taken."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Handler(Reports):
        only_here = host in LOOPBACK

    return Server((host, port), partial(Handler, directory=str(folder)))


def main(folder: str, host: str, port: str) -> None:
    end_with_parent()
    listen(Path(folder), host, int(port)).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
