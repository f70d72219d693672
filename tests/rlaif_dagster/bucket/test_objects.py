"""Objects on a real server, and what a user reads when something is wrong."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlaif_dagster.bucket.address import Address, store_address
from rlaif_dagster.bucket.folders import at_once
from rlaif_dagster.bucket.local_copy import NOTE, refresh
from rlaif_dagster.bucket.objects import LARGE, Bucket, ChangedError, open_bucket
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from tests.s3_server import BUCKET, Server


class Elsewhere(BaseHTTPRequestHandler):
    """What listens there knows nothing of objects."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_error(404)

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


def test_a_condition_that_does_not_hold_writes_nothing(bucket: Bucket) -> None:
    first = bucket.put("a", b"first", new=True)
    with pytest.raises(ChangedError):
        bucket.put("a", b"second", new=True)
    second = bucket.put("a", b"second", replaces=first)
    with pytest.raises(ChangedError):
        bucket.put("a", b"third", replaces=first)
    found = bucket.read("a")
    assert found
    assert (found.body, found.etag) == (b"second", second)
    with pytest.raises(ChangedError):
        bucket.put("b", b"", replaces=first)
    assert bucket.read("b") is None


def test_large_files_go_and_come_back_whole(bucket: Bucket, tmp_path: Path) -> None:
    content = bytes(range(256)) * (LARGE // 256 + 1000)
    (tmp_path / "large").write_bytes(content)
    bucket.upload(tmp_path / "large", "large")
    (found,) = bucket.list("large")
    assert found.size == len(content)
    bucket.download(found, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    with pytest.raises(UserError, match="nowhere"):  # sent in parts, it fails in a way of its own
        replace(bucket, address=Address("nowhere", "")).upload(tmp_path / "large", "large")


def test_a_listing_has_every_page_and_a_removal_every_object(bucket: Bucket) -> None:
    names = [f"many/{n:04}" for n in range(1005)]  # a page of S3's has 1,000
    at_once(lambda name: bucket.put(name, b""), names)
    assert [one.name for one in bucket.list("many/")] == names
    bucket.delete(names)
    assert bucket.list("many/") == []


def test_a_name_that_would_leave_the_folder_is_refused(bucket: Bucket) -> None:
    bucket.put("history/../../x", b"")
    with pytest.raises(UserError, match=r"an object called 'history/\.\./\.\./x', which is no file's name"):
        bucket.list("history/")


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("gs://lab/x", "RLAIF_STORE: scheme 'gs', allowed: s3://bucket/prefix"),
        ("/mnt/results", "RLAIF_STORE: scheme 'none', allowed: s3://bucket/prefix"),
        ("s3://key:pass@lab/x", "RLAIF_STORE: allowed is s3://bucket/prefix and no more"),
        ("s3:///x", "RLAIF_STORE: allowed is s3://bucket/prefix and no more"),
    ],
)
def test_a_wrong_address_is_told_in_a_line(store: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_STORE", store)
    with pytest.raises(UserError) as error:
        store_address()
    assert str(error.value).startswith(told)
    assert "pass" not in str(error.value).replace("bypass", "")


def test_a_bucket_that_is_not_there_is_told(
    bucket: Bucket, machine: Callable[[str], Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLAIF_STORE", "s3://nowhere/x")
    with pytest.raises(UserError, match=r"RLAIF_STORE=s3://nowhere/x: there is no bucket 'nowhere' .* create it"):
        refresh(machine("a"))
    assert not (machine("a").root / NOTE).exists()


def test_missing_keys_are_told(
    bucket: Bucket, machine: Callable[[str], Home], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # nor a file of credentials
    monkeypatch.setenv("RLAIF_STORE", f"s3://{BUCKET}/keyless")
    with pytest.raises(UserError, match=r"no credentials .* set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        refresh(machine("a"))


def test_a_server_that_does_not_answer_is_told(
    bucket: Bucket, machine: Callable[[str], Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"  # nobody listens there
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(UserError, match=rf"is the store at {address} \(AWS_ENDPOINT_URL\) there"):
        refresh(machine("a"))


def test_a_server_that_is_no_store_is_told(
    bucket: Bucket, machine: Callable[[str], Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A console or a proxy, which answers 404 to everything."""
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(
            UserError, match=rf"is {address} \(AWS_ENDPOINT_URL\) the address of an S3 service\?"
        ) as told:
            refresh(machine("a"))
        server.shutdown()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("kind", ["unconditional", "hasty"])
def test_a_store_that_does_not_keep_conditions_is_refused(
    kind: str, s3: Server, bucket: Bucket, machine: Callable[[str], Home]
) -> None:
    with s3.being(kind), pytest.raises(UserError, match="does not keep the conditions of a write"):
        refresh(machine("a"))
    assert not (machine("a").root / NOTE).exists()
    assert bucket.list("") == []
    assert refresh(machine("a")) is False  # the same store, keeping them


def test_a_server_that_knows_an_etag_without_its_quotes_only_is_as_good(
    s3: Server, bucket: Bucket, machine: Callable[[str], Home]
) -> None:
    with s3.being("unquoted"):
        refresh(machine("a"))
        first = bucket.put("one", b"1", new=True)
        second = bucket.put("one", b"2", replaces=first)
        with pytest.raises(ChangedError):
            bucket.put("one", b"3", replaces=first)
        assert bucket.put("one", b"4", replaces=second)


def test_over_tls_a_body_comes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3's own way, chunks with a checksum behind them, is refused by servers that want to know how long a body is."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            asked.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Silence."""

    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine, which makes the server's certificate")
    pair = tmp_path / "pair.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += [
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        str(pair),
        "-out",
        str(tmp_path / "certificate.pem"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", pair)
    with ThreadingHTTPServer(("localhost", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"https://localhost:{server.server_port}", "AWS_CA_BUNDLE": str(tmp_path / "certificate.pem"),
            "AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "no-secret", "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        assert open_bucket(Address(BUCKET, "tls")).put("one", b"12345", new=True) == '"1"'
        server.shutdown()
    assert asked[0]["content-length"] == "5"
    assert "aws-chunked" not in asked[0].get("content-encoding", "")


def test_a_home_is_the_copy_of_one_store(
    bucket: Bucket, machine: Callable[[str], Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = machine("a")
    refresh(home)
    monkeypatch.setenv("RLAIF_STORE", f"s3://{BUCKET}/another")
    with pytest.raises(UserError, match=rf"is a copy of {bucket.address}, and RLAIF_STORE is s3://{BUCKET}/another"):
        refresh(home)
    monkeypatch.delenv("RLAIF_STORE")
    with pytest.raises(UserError, match=rf"is a copy of {bucket.address}: set RLAIF_STORE={bucket.address}"):
        refresh(home)


def test_a_home_with_results_of_its_own_is_not_replaced(bucket: Bucket, machine: Callable[[str], Home]) -> None:
    home = machine("a")
    (home.warehouse / "lineage").mkdir(parents=True)
    (home.warehouse / "lineage" / "prompts.parquet").touch()
    with pytest.raises(UserError, match="holds results of its own"):
        refresh(home)
