"""What `rlaif up` says while it works and when it ends."""

from __future__ import annotations

import pytest
from rich.console import Console
from typer.main import get_command

from rlaif_dagster.cli.cells import select
from rlaif_dagster.cli.made import Progress
from rlaif_dagster.cli.main import app
from rlaif_dagster.cli.up import again, print_failures, print_results
from rlaif_dagster.home import Home, report_path
from rlaif_dagster.planning import Event, Outcome, Step
from tests.warehouse_samples import CELL, write_measurements

A = Step("revisions", CELL, 1, True, ("changed",), seconds=40)
B = Step("judgments", CELL, 2, False, ("may change",), usd=0.25)
C = Step("dpo_model", CELL, 3, False, ("may change",))


def told(events: list[Event]) -> list[str]:
    console = Console(width=200, highlight=False)
    with console.capture() as captured:
        progress = Progress(console)
        for event in events:
            progress(event)
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_each_step_is_announced_with_its_number_and_ends_with_a_sign() -> None:
    assert told(
        [
            Event("planned", remaining=3),
            Event("started", A, remaining=3),
            Event("made", A, seconds=42),
            Event("planned", remaining=2),
            Event("started", B, remaining=2),
            Event("failed", B, "judge [x] refused"),
            Event("planned", remaining=0),
            Event("blocked", C),
        ]
    ) == [
        "3 steps at most",
        "1/3 revisions tiny/structured, about 40 s …",
        "✓ revisions tiny/structured 42 s",
        "2/3 judgments tiny/structured, $0.2500 …",
        "✗ judgments tiny/structured judge [x] refused",
        "- dpo_model tiny/structured",
    ]


def test_an_early_stop_is_told_where_it_happens() -> None:
    lines = told(
        [Event("planned", remaining=2), Event("started", A), Event("made", A, "unchanged: what follows stays")]
    )
    assert lines[-1] == "✓ revisions tiny/structured unchanged: what follows stays"


def test_nothing_to_do_announces_nothing() -> None:
    assert told([Event("planned", remaining=0)]) == []


def test_failures_are_listed_with_what_waits_for_them() -> None:
    console = Console(width=300, highlight=False)
    with console.capture() as captured:
        assert print_failures(Outcome((A,), ((B, "judge [x] refused"),), (C,)), console)
        assert not print_failures(Outcome((A,)), console)
    assert [" ".join(line.split()) for line in captured.get().splitlines()] == [
        "failed judgments tiny/structured: judge [x] refused",
        "not run for that dpo_model tiny/structured",
    ]


@pytest.mark.usefixtures("data")
def test_the_end_is_the_table_of_the_arms_and_the_reports_path(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    write_measurements(home.warehouse)
    report = report_path(home, "tiny", "structured")
    report.parent.mkdir(parents=True)
    report.write_text("<html>")
    print_results(select(None, None))
    out = capsys.readouterr().out
    assert "tiny/structured" in out
    assert all(arm in out for arm in ("base", "SFT", "DPO", "PPO"))
    assert out.rstrip().splitlines()[-1] == f"Report: {report}"


@pytest.mark.usefixtures("data", "home")
def test_a_cell_without_results_is_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(select(["all"], ["all"]))
    assert capsys.readouterr().out == ""


def test_what_is_made_after_an_edit_has_what_is_left_of_the_budget() -> None:
    given = ["up", "-w", "--model", "tiny", "--budget=5", "--watch"]
    assert again(given, None) == ["up", "--model", "tiny", "--budget=5"]
    command = get_command(app)
    made = command.commands["up"].make_context("up", again(given, 3.5)[1:])  # type: ignore[attr-defined]
    assert (made.params["budget"], made.params["watch"]) == (3.5, False)
