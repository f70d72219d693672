"""Two arms or cells side by side: levels, paired differences, and what is not comparable."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import Result

from rlaif_dagster.cli.arms import arms_table
from rlaif_dagster.cli.cells import select
from rlaif_dagster.cli.compare import Measured, Side, sides
from rlaif_dagster.errors import UserError
from rlaif_dagster.history import keep
from rlaif_dagster.home import Home
from rlaif_dagster.records import Record, append_record, partition_key
from rlaif_dagster.report.evidence import difference
from rlaif_dagster.statistics import discordant_interval, over_seeds
from rlaif_dagster.warehouse.store import Cell
from tests.warehouse_samples import CELL, write_measurements

Command = Callable[..., Result]


def lines(text: str) -> dict[str, list[str]]:
    """Cells of a printed table by the first cell of their row."""
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def test_the_table_of_the_arms_says_what_the_tables_say(home: Home) -> None:
    write_measurements(home.warehouse)
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(arms_table(home, CELL))
    found = lines(console.export_text())
    assert [cell.split()[0] for cell in found["greedy adherence"]] == ["0%", "50%", "100%", "100%"]
    assert [cell.split()[0] for cell in found["MMLU mini"]] == ["50%", "50%", "75%", "25%"]
    assert [cell.split()[0] for cell in found["win rate against base"]] == ["–", "50%", "100%", "75%"]


def test_a_cell_without_measurements_has_no_table(home: Home) -> None:
    write_measurements(home.warehouse)
    assert arms_table(home, Cell("tiny", "structured")) is not None
    assert arms_table(Home(home.root / "other"), CELL) is None


def test_a_difference_is_paired_item_by_item() -> None:
    a = np.array([[1.0, 1.0, 0.0]]), pd.Index(["p1", "p2", "p3"])
    b = np.array([[0.0, 0.0, 1.0]]), pd.Index(["p2", "p3", "p4"])
    found = difference(a, b)
    assert found is not None
    assert (found.value, found.n) == (0.5, 2)  # p2: 1 - 0, p3: 0 - 0; the others have no partner
    assert (found.low, found.high) == discordant_interval(1, 0, 2)[1:]
    assert difference(a, (np.array([[1.0]]), pd.Index(["p1"]))) is None


def test_a_difference_holds_the_seeds(rlaif: Command, home: Home) -> None:
    """A second training of dpo that never follows the format: two seeds that differ say little about the method."""
    warehouse = write_measurements(home.warehouse)
    rows = warehouse.read("adherence", CELL).drop(columns=["model", "constitution"])
    again = rows[rows["arm"] == "dpo"].assign(seed=1, adherent=False)
    warehouse.write("adherence", pd.concat([rows, again]), CELL)
    found = lines(rlaif("compare", "dpo", "sft").stdout)
    dpo, sft = np.array([[1.0] * 4, [0.0] * 4]), np.array([[1.0, 1.0, 0.0, 0.0]])
    low, high = over_seeds(dpo, sft)[1:3]
    assert found["greedy adherence"][2:] == ["0 points", f"−{-100 * low:.0f} to +{100 * high:.0f}", "4"]


def test_levels_carry_the_items_they_are_made_of(home: Home) -> None:
    write_measurements(home.warehouse)
    found = Measured.read(home, CELL).levels
    values, names = found["sft"]["adherence-greedy"].scores
    assert dict(zip(names, values[0], strict=True)) == {"p0": 1.0, "p1": 1.0, "p2": 0.0, "p3": 0.0}
    assert found["sft"]["mmlu_mini:acc"].estimate.value == 0.5
    assert set(found) == {"base", "sft", "dpo", "ppo"}


def test_arms_of_a_cell_are_compared_with_the_judges_preference(rlaif: Command, home: Home) -> None:
    write_measurements(home.warehouse)
    found = lines(rlaif("compare", "sft", "base").stdout)
    assert found["measure"] == ["sft", "base", "difference", "95% interval", "items"]
    assert found["greedy adherence"][2:] == ["+50 points", "−23 to +85", "4"]
    assert found["MMLU mini"][2:] == ["0 points", "−49 to +49", "4"]
    assert [cell.split()[0] for cell in found["preferred by the judge"]] == ["50%", "50%", "4"]


def test_cells_are_compared_arm_by_arm(rlaif: Command, home: Home) -> None:
    warehouse = write_measurements(home.warehouse)
    other = warehouse.read("adherence", CELL).drop(columns=["model", "constitution"])
    warehouse.write("adherence", other[other["arm"] == "dpo"].assign(adherent=False), Cell("tiny", "harmless"))
    text = rlaif("compare", "tiny/structured", "tiny/harmless").stdout
    assert text.count("95% interval") == 2  # dpo by adherence; base by its benchmarks, which both cells share
    found = lines(text)
    assert found["greedy adherence"][2:] == ["+100 points", "+2 to +100", "4"]
    assert "preferred" not in text
    for arm in ("sft", "ppo"):
        assert f"{arm} is left out: nothing was measured of tiny/harmless/{arm}." in text


def test_names_of_sides(data: object) -> None:
    chosen = select(None, None)
    here, there = Cell("tiny", "structured"), Cell("large", "harmless")
    assert sides("dpo", "ppo", chosen) == [(Side(here, "dpo"), Side(here, "ppo"))]
    assert sides("large/harmless/ppo", "dpo", chosen) == [(Side(there, "ppo"), Side(here, "dpo"))]
    assert [one.arm for one, _ in sides("tiny/structured", "tiny/harmless", chosen)] == ["base", "sft", "dpo", "ppo"]
    for a, b, part in (
        ("tiny/structured", "dpo", "name an arm on both sides"),
        ("tiny/structured/gpt", "dpo", "unknown arm 'gpt'"),
        ("tiny/nowhere", "tiny/structured", "'nowhere' has no file"),
        ("a/b/c/d", "dpo", "neither an arm"),
    ):
        with pytest.raises(UserError, match=part):
            sides(a, b, chosen)


def test_a_cell_before_its_last_edit_beside_itself(rlaif: Command, data: object, home: Home) -> None:
    """DPO's answers and adherence of two reports: levels then and now, and the answers that changed."""
    warehouse = write_measurements(home.warehouse)
    now = datetime.now(UTC)
    adherence = "adherence/model=tiny/constitution=structured/all.parquet"
    responses = "responses/model=tiny/constitution=structured/dpo.parquet"

    def stood(hours_ago: int, ending: str) -> None:
        written = (("adherence", [adherence]), ("dpo_responses", [responses]), ("report", []))
        for number, (asset, files) in enumerate(written):
            version = f"{number}{ending}"
            keep(warehouse, asset, CELL, version, files)
            at = now - timedelta(hours=hours_ago)
            append_record(warehouse, Record(asset, partition_key(CELL), version, "1", (), "run", at, 1.0, 0.0))

    prompts = [{"prompt_id": f"p{n}", "split": "eval", "category": "factual", "text": f"Question {n}?", "reference": None,
                "source": "s"} for n in range(4)]  # fmt: skip
    warehouse.write("prompts", pd.DataFrame(prompts))
    append_record(warehouse, Record("prompts", None, "p", "1", (), "run", now - timedelta(hours=9), 1.0, 0.0))
    answers = pd.DataFrame(
        [
            {"arm": "dpo", "seed": 0, "prompt_id": f"p{n}", "text": f"old {n}", "tokens": 2, "decoding": "greedy"}
            for n in range(4)
        ]
    )
    warehouse.write("responses", answers, CELL, "dpo")
    before = warehouse.read("adherence", CELL).drop(columns=["model", "constitution"])
    warehouse.write("adherence", before.assign(adherent=False), CELL)
    stood(3, "d0e01")
    warehouse.write("responses", answers.assign(text=["old 0", "new 1", "new 2", "old 3"]), CELL, "dpo")
    warehouse.write("adherence", before.assign(adherent=True), CELL)
    stood(1, "d0e02")

    # another cell, whose version of that time is gone: it is no part of this comparison
    for version, hours_ago in (("b0", 5), ("b1", 0)):
        at = now - timedelta(hours=hours_ago)
        append_record(warehouse, Record("adherence", "brief|tiny", version, "1", (), "run", at, 1.0, 0.0))

    for then in ("previous", "2 hours ago", "1d0e01"):  # the last is the version of DPO's answers
        text = rlaif("compare", f"dpo@{then}", "dpo", "--examples", "1").stdout
        assert lines(text)["greedy adherence"][2] == "−100 points"
        assert "dpo: 2 greedy answers differ." in text
        shown = [line.strip() for line in text.splitlines() if line.startswith("  ")][-3:]
        assert shown == ["Question 1?", "- old 1", "+ new 1"]
    with pytest.raises(UserError, match="nothing was measured on both sides"):
        rlaif("compare", "dpo@2 days ago", "dpo")
