"""Reports over HTTP: what lies among them and nothing else, under this machine's names alone, for as long as the UI runs."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rlaif_dagster.home import Home, report_path
from rlaif_dagster.report.serving import address_of, listen
from tests.rlaif_dagster.cli.test_ui import free_port


@pytest.fixture
def served(home: Home) -> Iterator[int]:
    """The port at which the reports of a home are served."""
    path = report_path(home, "tiny", "brief")
    path.parent.mkdir(parents=True)
    path.write_text("<p>the report</p>", encoding="utf-8")
    (home.warehouse / "results.duckdb").write_text("not a report", encoding="utf-8")
    server = listen(home.warehouse / "report", "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def get(port: int, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_a_report_is_found_where_its_link_leads(served: int, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    path = report_path(home, "tiny", "brief")
    assert address_of(path, home).startswith("http://127.0.0.1:3001/")
    base = f"http://127.0.0.1:{served}"
    monkeypatch.setenv("RLAIF_REPORTS", base + "/")
    link = address_of(path, home)
    assert link.startswith(base)
    assert get(served, link.removeprefix(base)) == (200, "<p>the report</p>")
    assert get(served, link.removeprefix(base), f"localhost:{served}")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/model%3Dtiny/", "/../results.duckdb", "/%2e%2e/results.duckdb", "/model%3Dtiny/..%2f..%2fresults.duckdb", "/"],
)
def test_nothing_else_is_served_nor_listed(path: str, served: int) -> None:
    status, text = get(served, path)  # the study's page, at /, was never written
    assert status == 404
    assert "not a report" not in text
    assert "constitution=" not in text


@pytest.mark.parametrize("name", ["attacker.example", "attacker.example:80", "127.0.0.1.attacker.example", ""])
def test_a_page_that_gives_its_own_name_this_address_reads_nothing(name: str, served: int) -> None:
    assert get(served, "/model%3Dtiny/constitution%3Dbrief/report.html", name or "%")[0] == 403


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """However that ends: here it is killed."""
    port = free_port()
    code = (
        "import time; from pathlib import Path; from rlaif_dagster.cli.ui import _serve_reports; "
        f"_serve_reports(Path({str(tmp_path)!r}), '127.0.0.1', {port}); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        try:
            until_it(answers=True, port=port)
        finally:
            parent.kill()
    until_it(answers=False, port=port)


def until_it(*, answers: bool, port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        found = False
        with suppress(OSError, http.client.HTTPException):  # it may end in the middle of an answer
            found = get(port, "/")[0] == 404
        if found == answers:
            return
        assert time.monotonic() < deadline
        time.sleep(0.2)
