from __future__ import annotations

from datetime import datetime

import pandas as pd

from rlaif_dagster.report.cost import STAGES, cost
from tests.rlaif_dagster.report.study import study_tables


def lineage(*rows: tuple[str, int, float, float]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=["asset", "hour", "seconds", "cost_usd"])
    frame["started_at"] = [datetime(2026, 1, 1, hour) for hour in frame["hour"]]
    return frame.assign(partition=None, data_version="v", code_version="1", upstream=None, run_id="r")


def test_stages_add_up_the_latest_run_of_their_assets() -> None:
    rows = lineage(
        ("judgments", 1, 500, 9.0), ("judgments", 2, 30, 1.5), ("preference_pairs", 2, 10, 0), ("sft_model", 3, 60, 0)
    )
    judgments = pd.DataFrame({"tokens_in": [900, 100], "tokens_out": [5, 5], "cost_usd": [1.0, 0.5]})
    found = cost({"lineage": rows, "judgments": judgments})
    assert found is not None
    assert [(stage.name, stage.duration, stage.share, stage.cost) for stage in found.stages] == [
        ("Judging the pairs", "40 s", 0.4, "$1.50"), ("SFT", "1 min 00 s", 0.6, "$0.00"),
    ]  # fmt: skip
    assert (found.total, found.total_cost) == ("1 min 40 s", "$1.50")
    assert found.notes == (
        "The training pairs took 2 verdicts: 1,000 tokens read, 10 written, $1.50 at the price when they were asked, which is "
        "$750.00 a thousand.",
    )


def test_nothing_recorded_is_no_bill() -> None:
    assert cost({}) is None


def test_every_made_asset_of_a_study_belongs_to_one_stage() -> None:
    named = [asset for assets in STAGES.values() for asset in assets]
    assert len(named) == len(set(named))
    inputs = {"prompts"}  # made, not given
    made = set(study_tables()["lineage"]["asset"]) | inputs
    assert made <= set(named)
