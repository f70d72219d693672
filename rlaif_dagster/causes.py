"""Root causes: where a change began, and which fields of which file it changed.

What lies between an edited file and a stale asset is no reason for a reader. So where an asset's parent has new content,
its two records (the one that was read then, and the latest) are compared parent by parent, up to the files, whose two
meanings are compared field by field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rlaif_dagster.records import History, Record

MISSING = "missing"  # the cause of a result that was never made, or is gone
REMOVED = "removed"  # the cause of one that gathers cells, of which one has no model's or constitution's file any more
UNANSWERED = "unanswered"  # the cause of one that lacks answers of a judge's provider


@dataclass(frozen=True)
class Change:
    """One field of an input, as it was read then and as it is now; None where the field did not exist."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Reason:
    """Why a partition must run. `cause` is where it began: an input, `code of ASSET`, an asset, or one of the words above;
    `where` is that input's partition, and `changes` are its fields that differ."""

    cause: str
    text: str
    where: str | None = None
    changes: tuple[Change, ...] = ()


def distinct(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """Each reason once, in order."""
    return tuple({(reason.cause, reason.where, reason.text): reason for reason in reasons}.values())


Compare = Callable[[str, str | None, str, str], Sequence[Change]]  # of an input: asset, partition, version then, now


@dataclass(frozen=True)
class Causes:
    """Explains new versions from the records and the remembered meanings of inputs."""

    inputs: frozenset[str]
    history: History
    compare: Compare

    def of(self, asset: str, partition: str | None, before: str | None, now: str) -> list[Reason]:
        """Why this partition's version `now` is not `before`, which is None where it was not read before."""
        if asset in self.inputs:
            return [self._edited(asset, partition, before, now)]
        if before is None:
            return [Reason(asset, f"{asset} is new to it", partition)]
        causes = distinct(self._walk(asset, partition, before, now))
        return list(causes) or [Reason(asset, f"{asset} has new content", partition)]

    def _edited(self, asset: str, partition: str | None, before: str | None, now: str) -> Reason:
        name = f"{asset} {partition}" if partition else asset
        if before is None:
            return Reason(asset, f"{name} is new to it", partition)
        changes = tuple(self.compare(asset, partition, before, now))
        fields = ", ".join(change.field for change in changes[:4]) + (", …" if len(changes) > 4 else "")
        return Reason(asset, f"{name} changed{': ' + fields if fields else ''}", partition, changes)

    def _walk(self, asset: str, partition: str | None, before: str, now: str) -> Iterator[Reason]:
        then, latest = (self._record(asset, partition, version) for version in (before, now))
        if then is None or latest is None:
            return
        if then.code_version != latest.code_version:
            yield Reason(
                f"code of {asset}", f"code of {asset} changed: {then.code_version} became {latest.code_version}"
            )
        read_then = {(v.asset, v.partition): v.version for v in then.upstream}
        for version in latest.upstream:
            old = read_then.get((version.asset, version.partition))
            if old != version.version:
                yield from self.of(version.asset, version.partition, old, version.version)

    def _record(self, asset: str, partition: str | None, version: str) -> Record | None:
        records = self.history.get((asset, partition), ())
        return next((record for record in reversed(records) if record.data_version == version), None)


def changed(before: Any, after: Any, path: str = "") -> list[Change]:
    """The fields in which two meanings differ, by path, such as `principles.0.text`."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted({*before, *after})
        return [c for k in keys for c in changed(before.get(k), after.get(k), f"{path}.{k}" if path else str(k))]
    if isinstance(before, list) and isinstance(after, list) and before != after:
        return list(_changed_items(before, after, path))
    return [] if before == after else [Change(path or "content", before, after)]


def _changed_items(before: list[Any], after: list[Any], path: str) -> Iterator[Change]:
    """Items are compared by their id where they have one, else by position; a place is that in the new list."""
    names = [[item.get("id") if isinstance(item, dict) else None for item in items] for items in (before, after)]
    if None not in names[0] + names[1]:
        old = dict(zip(names[0], before, strict=True))
        for place, (name, item) in enumerate(zip(names[1], after, strict=True)):
            yield from changed(old.get(name), item, f"{path}.{place}")
        gone = [item for name, item in old.items() if name not in names[1]]
    elif len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from changed(one, other, f"{path}.{place}")
        return
    else:
        for place, item in enumerate(after):
            if item not in before:
                yield Change(f"{path}.{place}", None, item)
        gone = [item for item in before if item not in after]
    for item in gone:
        yield Change(path, item, None)
    if not gone and len(before) == len(after) and names[0] != names[1]:
        yield Change(f"{path} (order)", names[0], names[1])
