"""A real S3 server, and machines: a home each, one store between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlaif_dagster.bucket.address import store_address
from rlaif_dagster.bucket.objects import Bucket, open_bucket
from rlaif_dagster.home import Home
from tests.s3_server import Server, server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(s3: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A prefix of the test's own, which the environment names."""
    for name, value in s3.environment(prefix=re.sub(r"\W+", "-", request.node.name)).items():
        monkeypatch.setenv(name, value)
    address = store_address()
    assert address
    return open_bucket(address)


@pytest.fixture
def machine(bucket: Bucket, tmp_path: Path) -> Callable[[str], Home]:
    """The home of a machine by its name."""
    return lambda name: Home(tmp_path / name)
