"""The scan finds keys that were planted, and the audit does not call silence safety."""

from __future__ import annotations

import http.server
import importlib.metadata
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlaif_dagster.home import CHECKOUT
from tests.security import dependency_audit, secret_scan

# in pieces, so that the scan of this very file finds none of them
PLANTED = {
    "judge.yaml": "api_key: " + "sk-" + "proj" + "a8Zk3Lq9" * 6,
    "aws.py": "key = '" + "AKIA" + "IOSFODNN7REALKEY" + "'",
    "github.sh": "export TOKEN=" + "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a",
    "server.pem": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "database.md": "postgresql://" + "me:hunter2" + "@db.example.org/dagster",
    "notebook.ipynb": '{"source": ["' + "password = " + "'correct horse battery'" + '"]}',
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_key_is_found(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(f"first line\n{PLANTED[name]}\n")
    found = list(secret_scan.scan(tmp_path, [name]))
    assert found
    assert {one.line for one in found} == {2}
    assert not {one.sha1 for one in found} & set(secret_scan.KNOWN)


def test_the_repository_holds_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert secret_scan.main() == 0, capsys.readouterr().out
    assert len(secret_scan.tracked(CHECKOUT)) > 300


def test_the_lock_pins_everything_that_is_asked_for() -> None:
    locked = dependency_audit.pins(CHECKOUT / "requirements.lock")
    assert dependency_audit.loose(CHECKOUT / "pyproject.toml", locked) == []


def test_what_is_not_pinned_is_told(tmp_path: Path) -> None:
    locked = dependency_audit.pins(CHECKOUT / "requirements.lock")
    pydantic = importlib.metadata.version("pydantic")
    installed = [("Pydantic", pydantic), ("pip", "1"), ("evil_package", "6.6.6"), ("numpy", "0.0.1")]
    installed.append(("torch", f"{locked['torch']}+cpu"))
    assert dependency_audit.differing(installed, locked) == [
        f"numpy 0.0.1 is installed, the lock has {locked['numpy']}"
    ]
    assert dependency_audit.unknown(installed, locked) == ["evil_package 6.6.6"]
    (tmp_path / "requirements.lock").write_text("# pins\nnumpy==1.0\nrequests>=2\n")
    with pytest.raises(ValueError, match=r"requirements\.lock, line 3: 'requests>=2' pins no version"):
        dependency_audit.pins(tmp_path / "requirements.lock")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy==1.1", "left-pad"]\n[project.optional-dependencies]\ndev = ["rich==15.0.0"]\n'
    )
    assert len(dependency_audit.loose(tmp_path / "pyproject.toml", {"numpy": "1.0", "rich": "15.0.0"})) == 2


class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"info": {}} | ({"vulnerabilities": []} if "/full/" in self.path else {})).encode()
        self.send_response(404 if "/none/" in self.path else 200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_index_without_advisories_is_not_taken_for_one_that_knows_of_none(index: str) -> None:
    assert dependency_audit.reachable(f"{index}/full/json") == ""
    assert dependency_audit.reachable(f"{index}/bare/json") == "the index gives no advisories"
    assert "404" in dependency_audit.reachable(f"{index}/none/json")
    assert "refused" in dependency_audit.reachable("http://127.0.0.1:9/json")


def test_a_vulnerability_and_a_package_that_was_passed_over_are_told() -> None:
    """The form is that of pip-audit's `--format json`."""
    report = {"dependencies": [
        {"name": "a", "version": "1.0", "vulns": []},
        {"name": "b", "version": "2.0", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"]}]},
        {"name": "c", "skip_reason": "Dependency not found on PyPI"},
    ]}  # fmt: skip
    assert dependency_audit.vulnerable(report) == [
        "b 2.0: PYSEC-1, fixed in 2.1",
        "c: not audited: Dependency not found on PyPI",
    ]


def test_without_advisories_the_audit_says_so_and_strictly_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dependency_audit, "differing", lambda *_: [])  # the environment of the tests is not the subject
    monkeypatch.setattr(dependency_audit, "reachable", lambda: "no network")
    assert dependency_audit.main(strict=False) == 0
    assert "SKIPPED the question for known vulnerabilities (no network). Nothing is known" in capsys.readouterr().out
    assert dependency_audit.main(strict=True) == 1
