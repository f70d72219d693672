"""`rlaif ui` sets Dagster up and becomes it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote

import psutil
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT, Home, report_path
from tests.rlaif_dagster.cli.conftest import Process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_in_use_is_told_before_anything_starts(rlaif_process: Process, home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option in ("--port", "--reports-port"):
            other = "--reports-port" if option == "--port" else "--port"
            done = rlaif_process("ui", option, str(port), other, str(free_port()))
            assert done.returncode == 2
            line = f"rlaif: cannot listen on 127.0.0.1:{port} (Address already in use); choose another with {option}\n"
            assert done.stderr == line
    assert not home.root.exists()


@pytest.mark.e2e
def test_the_page_answers_and_knows_the_assets(data: Path, home: Home) -> None:
    port, reports = free_port(), free_port()
    command = [
        sys.executable,
        "-m",
        "rlaif_dagster.cli.main",
        "ui",
        "--port",
        str(port),
        "--reports-port",
        str(reports),
    ]
    path = report_path(home, "tiny", "brief")
    path.parent.mkdir(parents=True)
    path.write_text("<p>the report</p>", encoding="utf-8")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as server:
        try:
            page = wait_for(f"http://127.0.0.1:{port}/server_info")
            assert re.search(r'"dagster_version"', page)
            query = "{repositoriesOrError{...on RepositoryConnection{nodes{assetNodes{assetKey{path}}}}}}"
            url = f"http://127.0.0.1:{port}/graphql"
            assert '"ppo_model"' in wait_for(asking(url, query), until="dpo_model")
            for attack in attacks(url):
                with pytest.raises(HTTPError, match="403"):
                    urllib.request.urlopen(attack, timeout=30)
            assert "setNuxSeen" in wait_for(asking(url, MUTATION))  # which all of them sent, and nobody else may
            assert listening(server.pid) == {"127.0.0.1"}
            wait_for(f"http://127.0.0.1:{reports}/model%3Dtiny/constitution%3Dbrief/report.html", until="the report")
        finally:
            os.killpg(server.pid, signal.SIGINT)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
    assert (home.dagster / "dagster.yaml").exists()
    assert not (CHECKOUT / ".dagster").exists()


MUTATION = "mutation {setNuxSeen}"


def asking(url: str, query: str, **headers: str) -> urllib.request.Request:
    """As the UI's own page asks."""
    body = json.dumps({"query": query}).encode()
    return urllib.request.Request(
        url, body, {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    )


def attacks(url: str) -> list[urllib.request.Request]:
    """What any page of the web could have a browser send, in each form that Dagster's server takes for a mutation."""
    link = f"{url}?query={quote(MUTATION)}"
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    evil = {"Origin": "https://evil.example"}
    text = {"Content-Type": "text/plain; x=application/json"}
    return [
        urllib.request.Request(link),  # a browser that says nothing
        urllib.request.Request(link, headers=image),
        urllib.request.Request(link, b"", evil),
        urllib.request.Request(url, json.dumps({"query": MUTATION}).encode(), evil | text),
        asking(url, MUTATION, Origin="null"),
        asking(url, MUTATION, Host="evil.example:3000"),
    ]


def listening(pid: int) -> set[str]:
    """The addresses on which the process and its children wait for connections over the network."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def test_another_address_than_this_machine_is_warned_of(rlaif_process: Process) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        done = rlaif_process("ui", "--host", "0.0.0.0", "--port", str(taken.getsockname()[1]))
    assert "asks for no password: everyone who reaches 0.0.0.0 can read the results and start runs" in done.stderr


def wait_for(url: str | urllib.request.Request, until: str = "", seconds: float = 120) -> str:
    """The page's text, once it is there and contains `until`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                text = str(response.read().decode())
            if until in text:
                return text
        except OSError:
            text = "no answer"
        if time.monotonic() > deadline:
            pytest.fail(f"{getattr(url, 'full_url', url)}: {text[:500]}")
        time.sleep(0.5)


def test_outside_a_study_it_says_so(data: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`data` holds a study without a workspace.yaml; without the check the UI would replace this very process."""
    from rlaif_dagster.cli.ui import ui

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"workspace\.yaml: no such file; start the UI in the checkout or in a study"):
        ui()
