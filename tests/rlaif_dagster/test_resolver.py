"""The resolver on a small graph: file -> a -> b -> c on one cell, and a gathering asset over two."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from rlaif_dagster.records import Record, Version, partition_key
from rlaif_dagster.resolver import Node, State, resolve
from rlaif_dagster.warehouse.store import Cell

M = Cell("m")
GRID = ("model", "constitution")
NODES = {
    "file": Node("file", ("model",), (), None),
    "law": Node("law", ("constitution",), (), None),
    "a": Node("a", ("model",), ("file",), "1"),
    "b": Node("b", GRID, ("a", "law"), "1"),
    "c": Node("c", GRID, ("b",), "1"),
    "all": Node("all", (), ("c",), "1"),
}


def record(asset, cell, version, upstream, code="1"):
    parents = tuple(Version(name, partition_key(parent), v) for name, parent, v in upstream)
    return Record(asset, partition_key(cell), version, code, parents, "run", datetime(2026, 1, 1, tzinfo=UTC), 1.0, 0.0)


def fresh(constitutions=("x",)):
    records = [record("a", M, "a1", [("file", M, "f1")])]
    for law in constitutions:
        cell = Cell("m", law)
        records.append(record("b", cell, "b1", [("a", M, "a1"), ("law", Cell(None, law), "l1")]))
        records.append(record("c", cell, "c1", [("b", cell, "b1")]))
    records.append(record("all", Cell(), "z", [("c", Cell("m", law), "c1") for law in constitutions]))
    versions = {("file", M): "f1"} | {("law", Cell(None, law)): "l1" for law in constitutions}
    return State(NODES, {(r.asset, r.partition): r for r in records}, lambda asset, cell: versions[asset, cell])


def with_input(state, asset, cell, version):
    old = state.input_version
    return replace(state, input_version=lambda a, c: version if (a, c) == (asset, cell) else old(a, c))


def with_record(state, new):
    return replace(state, records={**state.records, (new.asset, new.partition): new})


def names(stale):
    return [(item.asset, partition_key(item.cell), item.certain, item.ready) for item in stale]


def test_nothing_is_stale_when_nothing_changed():
    assert resolve(fresh(), ["m"], ["x"]) == []


def test_what_a_judge_left_unanswered_is_asked_again_once_a_command():
    """Made before the command began, it is stale; made by the command itself, or looked at by the daemon, it is not."""
    state = fresh()
    lacking = with_record(state, replace(state.record("b", Cell("m", "x")), unanswered=3))
    assert resolve(lacking, ["m"], ["x"]) == []
    made = state.record("b", Cell("m", "x")).started_at
    assert resolve(replace(lacking, retry_before=made), ["m"], ["x"]) == []
    later = made + timedelta(seconds=1)
    stale = resolve(replace(lacking, retry_before=later), ["m"], ["x"])
    assert names(stale) == [("b", "x|m", True, True), ("c", "x|m", False, False), ("all", None, False, False)]
    assert {reason.text for item in stale for reason in item.reasons} == {"3 questions to the judge got no answer"}
    assert resolve(replace(state, retry_before=later), ["m"], ["x"]) == []


def test_an_edited_file_makes_its_child_certain_and_what_follows_possible():
    stale = resolve(with_input(fresh(), "file", M, "f2"), ["m"], ["x"])
    assert names(stale) == [
        ("a", "m", True, True),
        ("b", "x|m", False, False),
        ("c", "x|m", False, False),
        ("all", None, False, False),
    ]
    assert {reason.cause for item in stale for reason in item.reasons} == {"file"}


def test_an_edit_of_one_constitution_leaves_the_other_alone():
    state = with_input(fresh(("x", "y")), "law", Cell(None, "y"), "l2")
    assert [key[:2] for key in names(resolve(state, ["m"], ["x", "y"]))] == [("b", "y|m"), ("c", "y|m"), ("all", None)]


def test_equal_content_stops_the_edit():
    state = with_input(fresh(), "file", M, "f2")
    state = with_record(state, record("a", M, "a1", [("file", M, "f2")]))
    assert resolve(state, ["m"], ["x"]) == []


def test_new_content_goes_on_step_by_step():
    state = with_record(with_input(fresh(), "file", M, "f2"), record("a", M, "a2", [("file", M, "f2")]))
    assert names(resolve(state, ["m"], ["x"])) == [
        ("b", "x|m", True, True),
        ("c", "x|m", False, False),
        ("all", None, False, False),
    ]


def test_never_made_is_certain_but_waits_for_its_parents():
    stale = resolve(replace(fresh(), records={}), ["m"], ["x"])
    assert [item.ready for item in stale] == [True, False, False, False]
    assert all(item.certain for item in stale)


def test_a_new_code_version_makes_stale_without_any_edit():
    nodes = NODES | {"b": replace(NODES["b"], code_version="2")}
    stale = resolve(replace(fresh(), nodes=nodes), ["m"], ["x"])
    assert names(stale)[0] == ("b", "x|m", True, True)
    assert "code version 1 is now 2" in stale[0].reasons[0].text


def test_a_failed_run_leaves_no_record_and_stays_stale():
    state = with_input(fresh(), "law", Cell(None, "x"), "l2")
    assert names(resolve(state, ["m"], ["x"]))[0] == ("b", "x|m", True, True)
    assert names(resolve(state, ["m"], ["x"]))[0] == ("b", "x|m", True, True)


def test_lost_tables_are_made_again():
    state = replace(fresh(), artifact_missing=lambda asset, cell: asset == "c")
    assert names(resolve(state, ["m"], ["x"]))[0] == ("c", "x|m", True, True)


def test_only_limits_the_plan_to_the_selection():
    stale = resolve(with_input(fresh(), "file", M, "f2"), ["m"], ["x"], {"b"})
    assert stale == []
    stale = resolve(with_input(fresh(), "file", M, "f2"), ["m"], ["x"], {"a"})
    assert [item.asset for item in stale] == ["a"]


def test_what_gathered_a_cell_that_was_removed_is_made_without_it():
    state = replace(fresh(("x", "y")), has_files=lambda cell: cell.constitution != "y")
    [stale] = resolve(state, ["m"], ["x"])
    assert (stale.asset, stale.certain, stale.ready) == ("all", True, True)
    assert [reason.text for reason in stale.reasons] == ["y|m was removed"]
    assert resolve(with_record(state, record("all", Cell(), "z", [("c", Cell("m", "x"), "c1")])), ["m"], ["x"]) == []


def test_a_cell_that_is_only_not_chosen_is_not_removed():
    assert resolve(fresh(("x", "y")), ["m"], ["x"]) == []
