"""The versions behind a version, down to the files, now or at a date."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rlaif_dagster.planning import Node
from rlaif_dagster.records import History, Record


def tree(asset: str, partition: str | None, history: History, at: datetime | None = None) -> Node:
    """The version that stood `at` a time (None: now) and, below it, what that very version was made from."""
    records = [record for record in history.get((asset, partition), ()) if at is None or record.ended_at <= at]
    return _node(asset, partition, None, records, history)


def _node(asset: str, partition: str | None, version: str | None, made: Sequence[Record], history: History) -> Node:
    label = f"{asset} {partition}" if partition else asset
    if not made:
        return Node(label, version)
    last = made[-1]
    children = []
    for read in last.upstream:
        before = [  # what a version was made from was there before it, whatever was made since
            record for record in history.get((read.asset, read.partition), ())
            if record.data_version == read.version and record.started_at <= last.started_at
        ]  # fmt: skip
        children.append(_node(read.asset, read.partition, read.version, before, history))
    return Node(label, last.data_version, tuple(children), last.started_at)
