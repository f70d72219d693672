"""What a plan looks like, and the real plan of a fresh study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from rlaif_dagster import memory_places
from rlaif_dagster.cli.plan import memory_lines, model_warnings, plan_table, totals
from rlaif_dagster.home import Home
from rlaif_dagster.memory_places import Place
from rlaif_dagster.planning import Plan, Step
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell
from tests.rlaif_dagster.cli.conftest import Process

GRID = Cell("tiny", "structured")
JUDGE = Step("judgments", GRID, 2, True, ("constitution structured changed: principles.0.text",), 96, 41_000, 0.5, 120)
PAIRS = Step("preference_pairs", GRID, 3, False, ("judgments may come out different",), seconds=30)
DPO = Step("dpo_model", GRID, 4, False, ("preference_pairs may come out different",))


def text_of(table: object) -> list[list[str]]:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in captured.get().splitlines()]
    return [row for row in rows if row]


def test_a_row_a_step_with_its_root_cause_and_its_price() -> None:
    title, header, _, *rows = text_of(plan_table(Plan((JUDGE, PAIRS))))
    assert title == ["tiny/structured"]
    assert header == ["asset", "runs", "because", "calls", "tokens", "price", "time"]
    assert rows == [
        ["1", "judgments", "yes", JUDGE.reasons[0], "96", "41.0k", "$0.5000", "2 min"],
        ["2", "preference_pairs", "maybe", PAIRS.reasons[0], "-", "-", "-", "30 s"],
    ]


def test_of_several_cells_each_row_names_its_own() -> None:
    other = Step("judgments", Cell("tiny", "honesty"), 0, True, ("never made",))
    header, _, *rows = text_of(plan_table(Plan((PAIRS, other))))
    assert header == ["asset", "cell", "runs", "because", "time"]
    assert [row[2] for row in rows] == ["tiny/structured", "tiny/honesty"]


def test_a_plan_of_one_cell_fits_a_terminal_of_eighty_columns() -> None:
    steps = [Step("preference_pairs", GRID, 0, True, ("never made",), tokens=106_300, memory_bytes=3 * 2**30)] * 11
    console = Console(width=80)
    with console.capture() as captured:
        console.print(plan_table(Plan(tuple(steps))))
    assert len(captured.get().splitlines()) == 3 + len(steps)  # title, header, rule, and no row is broken


def test_a_step_that_exceeds_the_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Step("dpo_model", Cell("big", "honesty"), 0, True, ("never made",), memory_bytes=3 * 2**30)
    assert text_of(plan_table(Plan((large, PAIRS))))[2][-1] == "3.0 GiB"
    monkeypatch.setattr(memory_places, "machine", lambda: Place("cpu", 2**31))
    assert memory_lines(Plan((PAIRS, large))) == [
        "Too large for this machine: dpo_model (big/honesty) needs some 3.0 GiB; it has 2.0 GiB memory; "
        "`rlaif doctor --model big` says what of."
    ]
    monkeypatch.setattr(memory_places, "machine", lambda: Place("cpu", 2**32))
    assert memory_lines(Plan((PAIRS, large))) == []


def test_memory_is_compared_where_a_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    train = Step("dpo_model", GRID, 0, True, ("never made",), memory_bytes=3 * 2**30)
    answer = Step("dpo_responses", GRID, 1, True, ("never made",), memory_bytes=2 * 2**30)
    monkeypatch.setattr(memory_places, "machine", lambda: Place("cpu", 2**31 - 1))
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("RLAIF_SHARDS", "4")
    (line,) = memory_lines(Plan((answer,)))
    assert "dpo_responses (tiny/structured) needs some 2.0 GiB; it has 2.0 GiB memory for 4 processes" in line
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    here, elsewhere = memory_lines(Plan((train, answer)))
    assert here.startswith("Too large for this machine: dpo_model")
    assert elsewhere == "Memory of sampling and evaluation: on the cluster; not compared with this machine."
    monkeypatch.setenv("RLAIF_STEPS", "ray")
    assert memory_lines(Plan((train, answer))) == ["Memory: on the cluster; not compared with this machine."]
    assert memory_lines(Plan((PAIRS,))) == []


def test_a_folder_without_its_model_is_told(data: Path, tiny_model_folder: Path) -> None:
    project = Project(data)
    (line,) = model_warnings(Plan((DPO,)), project)
    assert line == (
        "Model tiny cannot be loaded: folder /nowhere/tiny holds no whole model: no config.json, *.safetensors, tokenizer*."
    )
    assert model_warnings(Plan((Step("prompts", Cell(), 0, True, ("never made",)),)), project) == []
    large = Cell("large", "structured")  # which is on the hub, and fetched when it is loaded; its judge reads with tiny
    assert model_warnings(Plan((Step("dpo_model", large, 0, True, ("never made",)),)), project) == []
    assert model_warnings(Plan((Step("judgments", large, 0, True, ("never made",)),)), project) == [line]
    (data / "models/tiny.yaml").write_text(f"folder: {tiny_model_folder}\n")
    assert model_warnings(Plan((DPO, JUDGE)), Project(data)) == []


def test_reasons_are_text_and_no_markup() -> None:
    odd = Step("prompts", Cell(), 0, True, ("file [red]x[/red] changed", "[0] is new"))
    assert text_of(plan_table(Plan((odd,))))[2][4] == "file [red]x[/red] changed; [0] is new"


def test_totals_tell_the_certain_from_the_possible() -> None:
    assert totals(Plan((JUDGE,))) == ["Certain: 1 step, 96 judge calls, 41.0k tokens, $0.5000, 2 min."]
    certain, most = totals(Plan((JUDGE, PAIRS, DPO)))
    assert certain.startswith("Certain: 1 step")
    assert most == (
        "At most: 3 steps, 96 judge calls, 41.0k tokens, $0.5000, 2 min and 1 step of unknown length. "
        "A step marked maybe runs only if what it reads comes out different."
    )
    assert totals(Plan((DPO,)))[0].startswith("At most: 1 step, no judge calls, $0, time unknown.")


class TestFreshStudy:
    """Nothing was ever made: everything is to be, parents first, and asking writes nothing."""

    def test_every_asset_is_planned_once_a_cell_parents_first(self, rlaif_process: Process, home: Home) -> None:
        done = rlaif_process("plan", "--json", "--model", "all", "--constitution", "all")
        steps = [
            (step["asset"], step["cell"]["model"], step["cell"]["constitution"]) for step in json.loads(done.stdout)
        ]
        assets = [asset for asset, _, _ in steps]
        assert len(set(steps)) == len(steps)
        counted = {asset: assets.count(asset) for asset in ("prompts", "completions", "judgments", "judge_agreement")}
        assert counted == {"prompts": 1, "completions": 2, "judgments": 4, "judge_agreement": 2}
        cell = [asset for asset, *of in steps if of in (["tiny", "structured"], ["tiny", None], [None, None])]
        chain = [
            "prompts",
            "completions",
            "revisions",
            "judgments",
            "preference_pairs",
            "dpo_model",
            "dpo_responses",
            "report",
        ]
        assert sorted(chain, key=cell.index) == chain
        assert done.stderr == ""
        assert not home.root.exists()

    def test_without_options_it_is_the_studys_own_cell_as_a_table(self, rlaif_process: Process) -> None:
        text = rlaif_process("plan").stdout
        assert "tiny/structured" in text
        assert "large" not in text
        assert "harmless" not in text
        assert "Certain: " in text
        assert "Model tiny cannot be loaded: folder /nowhere/tiny holds no whole model: no config.json" in text

    def test_a_selection_names_assets(self, rlaif_process: Process) -> None:
        done = rlaif_process("plan", "--json", "--select", "prompts")
        assert [step["asset"] for step in json.loads(done.stdout)] == ["prompts"]
        wrong = rlaif_process("plan", "--select", "nonsense")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert wrong.stderr.startswith("rlaif: --select 'nonsense': no such asset; assets are: ")
