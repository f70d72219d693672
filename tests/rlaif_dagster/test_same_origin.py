"""Which requests the guard lets through; the attacks on a running UI are in tests/security."""

from __future__ import annotations

import pytest

from rlaif_dagster.dagster_ui import NAMES, guard, guarded
from rlaif_dagster.same_origin import refusal

HERE = frozenset({"127.0.0.1", "localhost"})


def said(method: str = "GET", path: str = "/graphql", query: str = "", **headers: str) -> str | None:
    raw = [
        (name.replace("_", "-").encode(), value.encode())
        for name, value in {"host": "localhost:3000", **headers}.items()
    ]
    return refusal(
        {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": raw}, HERE
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},  # a program
        {"origin": "http://localhost:3000", "sec_fetch_site": "same-origin", "sec_fetch_mode": "cors"},
        {"sec_fetch_site": "none", "sec_fetch_mode": "navigate"},  # typed into the address bar
        {
            "sec_fetch_site": "same-site",
            "sec_fetch_mode": "navigate",
            "sec_fetch_dest": "document",
        },  # a link of the report
        {"host": "127.0.0.1:3000", "origin": "http://127.0.0.1:3000"},
    ],
)
def test_the_uis_own_pages_links_and_programs_are_served(headers: dict[str, str]) -> None:
    assert said("POST", **headers) is None
    assert said("GET", "/runs", "page=2", **headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:3001"},  # another server of this machine
        {"origin": "null"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},  # an image
        {"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"},
        {
            "sec_fetch_site": "cross-site",
            "sec_fetch_mode": "navigate",
            "sec_fetch_dest": "iframe",
        },  # under a page's buttons
        {"host": "[::1"},
        {"origin": "http://[::1"},
        {"host": "evil.example:3000"},  # a name that was given this machine's address
        {"host": "127.0.0.1.evil.example"},
        {"host": ""},
    ],
)
def test_other_sites_are_not(headers: dict[str, str]) -> None:
    assert said("POST", **headers)
    assert said("GET", "/runs", **headers)


def test_no_link_is_a_mutation() -> None:
    assert said(query="query=mutation%20%7Bx%7D", sec_fetch_site="cross-site", sec_fetch_mode="navigate")
    assert said("HEAD", query="operationName=a&query=x")
    assert said("POST", query="query=x") is None


def test_a_proxy_in_front_is_served_under_the_name_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAMES, raising=False)
    assert "localhost" in guard("127.0.0.1")["here"]
    assert guard("0.0.0.0") == {"here": frozenset(), "added": frozenset()}
    monkeypatch.setenv(NAMES, "Dagster.lab.example, other")
    added = frozenset(name.lower() for name in guard("0.0.0.0")["added"])
    assert added == {"dagster.lab.example", "other"}
    for host in ("127.0.0.1:3000", "dagster.lab.example"):  # whatever the proxy says to the application
        asked = {"host": host, "origin": "https://dagster.lab.example", "sec_fetch_site": "same-origin"}
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in asked.items()]
        scope = {"type": "http", "method": "POST", "path": "/graphql", "headers": raw}
        assert refusal(scope, HERE, added) is None
        assert refusal(scope, HERE)


def test_only_the_web_server_is_started_otherwise() -> None:
    daemon = ["python", "-m", "dagster._daemon", "run"]
    assert guarded(daemon) == daemon
    assert guarded(["python", "-m", "dagster_webserver", "--port", "1"]) == [
        "python", "-m", "rlaif_dagster.dagster_ui", "webserver", "--port", "1",
    ]  # fmt: skip
