"""The few operations on objects that everything else is made of, and their errors in one line.

A PUT is atomic in S3: a reader gets the old object or the new one. A conditional PUT (`If-Match` with the ETag that was
read, or `If-None-Match: *`) fails when somebody else was quicker: that is all that concurrent writers need.
"""

from __future__ import annotations

import email.utils
import os
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from rlaif_dagster.bucket.address import STORE, Address
from rlaif_dagster.errors import UserError

LARGE = 8 << 20  # bytes: from here on transfers go in parts, several at once
ATTEMPTS = 4  # at one request, with growing pauses between them
SECONDS_TO_CONNECT = 5
DELETED_AT_ONCE = 1000  # S3's own limit

CHANGED = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
GONE = {"NoSuchKey", "404", "NotFound"}  # a bucket that is not there has a code of its own
NO_BUCKET = {"NoSuchBucket"}
DENIED = {
    "AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    "InvalidClientTokenId", "AuthorizationHeaderMalformed",
}  # fmt: skip


class ChangedError(Exception):
    """A conditional write met another object than the one it was meant to replace."""


@dataclass(frozen=True)
class Object:
    """What a listing says of an object; `age` in seconds, by the server's clock alone."""

    name: str
    etag: str
    size: int
    age: float


@dataclass(frozen=True)
class Content:
    """An object as it was read."""

    body: bytes
    etag: str
    age: float


@dataclass(frozen=True)
class Bucket:
    """Objects below the prefix, by their names there. Safe to use from several threads."""

    address: Address
    client: Any

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders right below a prefix that ends with a slash."""
        start = self.address.key(prefix)
        with told(self.address):
            pages = self.client.get_paginator("list_objects_v2")
            found = [
                item["Prefix"]
                for page in pages.paginate(Bucket=self.address.bucket, Prefix=start, Delimiter="/")
                for item in page.get("CommonPrefixes", ())
            ]
        return [key.removeprefix(start).rstrip("/") for key in found]

    def list(self, prefix: str) -> list[Object]:
        """Every object whose name begins so, in order of their names."""
        found: list[tuple[str, dict[str, Any]]] = []
        now = datetime.now(UTC)
        start = self.address.key("")
        with told(self.address):
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.address.bucket, Prefix=self.address.key(prefix)):
                now = _moment(page)
                found += [(item["Key"].removeprefix(start), item) for item in page.get("Contents", ())]
        for name, _ in found:
            if {"", ".", ".."} & set(name.split("/")):  # they become files here
                raise UserError(f"{self.address}: an object called {name!r}, which is no file's name; remove it")
        return [
            Object(name, item["ETag"], item["Size"], (now - item["LastModified"]).total_seconds())
            for name, item in found
        ]

    def read(self, name: str) -> Content | None:
        """An object; None where there is none."""
        with told(self.address):
            try:
                answer = self.client.get_object(**self._at(name))
            except self.client.exceptions.NoSuchKey:
                return None
            body = answer["Body"].read()
        return Content(body, answer["ETag"], (_moment(answer) - answer["LastModified"]).total_seconds())

    def exists(self, name: str) -> bool:
        return any(found.name == name for found in self.list(name))

    def put(self, name: str, body: bytes, *, replaces: str | None = None, new: bool = False) -> str:
        """Write an object; its ETag. With `replaces` only over the object of that ETag, with `new` only where there is
        none: otherwise ChangedError is raised, and nothing was written."""
        if replaces is None:
            return self._put(name, body, CHANGED if new else set(), **({"IfNoneMatch": "*"} if new else {}))
        try:
            return self._put(name, body, CHANGED | GONE, IfMatch=replaces)
        except ChangedError:  # some servers (Ceph's gateway) know an ETag without its quotes only
            return self._put(name, body, CHANGED | GONE, IfMatch=replaces.strip('"'))

    def _put(self, name: str, body: bytes, changed: Set[str], **condition: str) -> str:
        with told(self.address, changed=changed):
            return str(self.client.put_object(**self._at(name), Body=body, **condition)["ETag"])

    def upload(self, path: Path, name: str) -> None:
        """A file as an object. It appears whole, however large it is."""
        with told(self.address):
            if path.stat().st_size < LARGE:
                self.client.put_object(**self._at(name), Body=path.read_bytes())
            else:
                self.client.upload_file(str(path), **self._at(name))

    def download(self, found: Object, path: Path) -> None:
        """An object as a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with told(self.address, changed=GONE):
                if found.size < LARGE:
                    path.write_bytes(self.client.get_object(**self._at(found.name))["Body"].read())
                else:
                    self.client.download_file(**self._at(found.name), Filename=str(path))
        except ChangedError:
            raise UserError(f"{self.address}/{found.name}: removed while it was fetched; try again") from None

    def copy(self, source: str, target: str) -> None:
        """A copy inside the store."""
        try:
            with told(self.address, changed=GONE):
                self.client.copy_object(**self._at(target), CopySource=self._at(source))
        except ChangedError:
            raise UserError(f"{self.address}/{source}: removed while it was copied; run `rlaif up` again") from None

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; what is gone already is passed over."""
        left = [{"Key": self.address.key(name)} for name in names]
        for start in range(0, len(left), DELETED_AT_ONCE):
            some = {"Objects": left[start : start + DELETED_AT_ONCE], "Quiet": True}
            with told(self.address):
                self.client.delete_objects(Bucket=self.address.bucket, Delete=some)

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self.address.bucket, "Key": self.address.key(name)}


@contextmanager
def told(address: Address, *, changed: Set[str] = frozenset()) -> Iterator[None]:
    """What boto3 raises, as the user's to fix and in one line; ChangedError for codes that say an object is not as it was
    seen."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in changed:
            raise ChangedError(code) from None
        raise UserError(_refusal(address, code, error)) from None
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise UserError(
            f"{STORE}={address}: no credentials ({error}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from None
    except (BotoCoreError, Boto3Error) as error:
        raise UserError(
            f"{STORE}={address}: {error}; is the store at {_endpoint()} (AWS_ENDPOINT_URL) there, and can it be reached from "
            "here?"
        ) from None


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"


def _refusal(address: Address, code: str, error: Exception) -> str:
    if code in DENIED:
        return (
            f"{STORE}={address}: the store refuses these credentials ({error}); they need to list, read, write and delete "
            "objects there"
        )
    if code in NO_BUCKET:
        return f"{STORE}={address}: there is no bucket {address.bucket!r} ({error}); create it, or correct {STORE}"
    if code in GONE:
        return f"{STORE}={address}: {error}; is {_endpoint()} (AWS_ENDPOINT_URL) the address of an S3 service?"
    if code in {"NotImplemented", "501"}:
        return f"{STORE}={address}: the store lacks an operation that is needed ({error}); use one that has conditional writes"
    return f"{STORE}={address}: {error}"


def open_bucket(address: Address) -> Bucket:
    """The store, through a client that this process keeps. Raises UserError without boto3."""
    return _opened(address, os.environ.get("AWS_ENDPOINT_URL", ""), os.getpid())


@lru_cache(maxsize=4)
def _opened(address: Address, endpoint: str, pid: int) -> Bucket:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise UserError(f"{STORE} needs boto3: pip install -c requirements.lock -e '.[s3]'") from None
    retries: Any = {"mode": "standard", "max_attempts": ATTEMPTS}
    # over TLS boto3 would send bodies in chunks with a checksum behind, which servers other than AWS's may refuse
    checksums: Any = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    config = Config(retries=retries, connect_timeout=SECONDS_TO_CONNECT, max_pool_connections=32, **checksums)
    with told(address):
        return Bucket(address, boto3.session.Session().client("s3", config=config))


def _moment(answer: dict[str, Any]) -> datetime:
    """The server's time when it answered: ages are told by one clock, whatever those of the machines say."""
    return email.utils.parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
