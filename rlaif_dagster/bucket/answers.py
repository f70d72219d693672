"""Judges' answers that one machine paid for are no other's to pay for: each puts its new ones into the store when a step ends,
well or not, as a part named by its content, and reads the parts of the others before it decides or asks.

A part never changes and is never merged with another, so writers need not know of each other. Answers of a step that was
killed are put when the same home's next step ends.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from dataclasses import asdict

from rlaif_dagster.bucket.objects import Bucket
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.judging.cache import Answer, cache_path, open_cache

log = logging.getLogger(__name__)

FOLDER = "cache/answers/"
ENDING = ".jsonl.gz"


def share_answers(home: Home, bucket: Bucket) -> None:
    """Put the answers that the store lacks. Where it cannot be reached they stay here, and are put later."""
    if not cache_path(home).exists():
        return
    with open_cache(cache_path(home)) as cache:
        answers = cache.unshared()
        if not answers:
            return
        lines = [json.dumps({"key": key} | asdict(answer), ensure_ascii=False) for key, answer in answers.items()]
        body = gzip.compress("\n".join(lines).encode(), mtime=0)
        name = f"{FOLDER}{hashlib.sha256(body).hexdigest()}{ENDING}"
        try:
            bucket.put(name, body)
        except UserError as error:  # a step that failed for another reason must be told of that one
            log.warning("%d answers of judges are not in the store yet: %s", len(answers), error)
            return
        cache.take_part(name, answers)


def fetch_answers(home: Home, bucket: Bucket) -> None:
    """Take in the answers of other machines. Raises UserError on a part that is not what its name says."""
    listed = [one.name for one in bucket.list(FOLDER)]
    if not listed:
        return
    with open_cache(cache_path(home)) as cache:
        for name in sorted(set(listed) - cache.parts()):
            found = bucket.read(name)
            if found is not None:
                cache.take_part(name, _answers(bucket, name, found.body))


def _answers(bucket: Bucket, name: str, body: bytes) -> dict[str, Answer]:
    if name != f"{FOLDER}{hashlib.sha256(body).hexdigest()}{ENDING}":
        raise UserError(
            f"{bucket.address}/{name}: its content is not the one that its name says; remove it from the store"
        )
    rows = [json.loads(line) for line in gzip.decompress(body).decode().splitlines()]
    return {row.pop("key"): Answer(**row) for row in rows}
