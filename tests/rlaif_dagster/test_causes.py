"""Root causes: from an asset whose parent has new content back to the field of the file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rlaif_dagster.causes import Causes, Change, changed
from rlaif_dagster.records import Record, Version

START = datetime(2026, 1, 1, tzinfo=UTC)


def record(asset: str, version: str, *upstream: tuple[str, str], minutes: int = 0, code: str = "1") -> Record:
    read = tuple(Version(name, None, v) for name, v in upstream)
    return Record(asset, None, version, code, read, "run", START + timedelta(minutes=minutes), 1.0, 0.0)


def causes(*records: Record) -> Causes:
    history: dict[tuple[str, str | None], list[Record]] = {}
    for one in records:
        history.setdefault((one.asset, one.partition), []).append(one)
    return Causes(
        frozenset({"law", "recipe"}), history, lambda *_: [Change("principles.0.text", "be short", "be brief")]
    )


def test_the_cause_of_new_content_is_the_file_that_changed_and_nothing_between() -> None:
    found = causes(
        record("a", "a1", ("law", "l1"), ("recipe", "r1")), record("b", "b1", ("a", "a1")),
        record("a", "a2", ("law", "l2"), ("recipe", "r1"), minutes=1), record("b", "b2", ("a", "a2"), minutes=2),
    ).of("b", None, "b1", "b2")  # fmt: skip
    assert [(reason.cause, reason.text) for reason in found] == [("law", "law changed: principles.0.text")]
    assert found[0].changes == (Change("principles.0.text", "be short", "be brief"),)


def test_code_is_a_cause_too_and_two_ways_to_one_file_are_one_cause() -> None:
    found = causes(
        record("a", "a1", ("law", "l1")), record("b", "b1", ("a", "a1"), ("law", "l1")),
        record("a", "a2", ("law", "l2"), minutes=1, code="2"), record("b", "b2", ("a", "a2"), ("law", "l2"), minutes=2),
    ).of("b", None, "b1", "b2")  # fmt: skip
    assert [reason.cause for reason in found] == ["code of a", "law"]


def test_what_the_records_cannot_explain_is_new_content() -> None:
    lost = causes(record("b", "b2", minutes=2)).of("b", None, "b1", "b2")
    assert [reason.text for reason in lost] == ["b has new content"]
    assert [reason.text for reason in causes().of("b", None, None, "b2")] == ["b is new to it"]
    assert [reason.text for reason in causes().of("law", "x", None, "l2")] == ["law x is new to it"]


def test_fields_are_compared_by_path_and_items_by_id() -> None:
    before = {"weight": 1, "principles": [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}], "gone": True}
    after = {"weight": 1, "principles": [{"id": "b", "text": "z"}, {"id": "c", "text": "w"}], "new": 2}
    assert changed(before, after) == [
        Change("gone", True, None),
        Change("new", None, 2),
        Change("principles.0.text", "y", "z"),
        Change("principles.1", None, {"id": "c", "text": "w"}),
        Change("principles", {"id": "a", "text": "x"}, None),
    ]
    assert changed(before, before) == []
    assert changed([1, 2, 3], [1, 5, 3]) == [Change(".1", 2, 5)]
    assert changed({"l": ["x", "y"]}, {"l": ["y"]}) == [Change("l", "x", None)]


def test_a_new_order_alone_is_a_change() -> None:
    a, b = {"id": "a"}, {"id": "b"}
    assert changed({"p": [a, b]}, {"p": [b, a]}) == [Change("p (order)", ["a", "b"], ["b", "a"])]
