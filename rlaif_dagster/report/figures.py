"""All plots of one grid cell, by topic: what the page shows panel by panel and a paper takes sheet by sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from rlaif_dagster.report import plots
from rlaif_dagster.report.arms import ARMS
from rlaif_dagster.report.categories import safety_measures
from rlaif_dagster.report.contest import contest_plot
from rlaif_dagster.report.curves import panels
from rlaif_dagster.report.drawing import Plot
from rlaif_dagster.report.evidence import Evidence, table
from rlaif_dagster.report.length import length_plots
from rlaif_dagster.report.suites import suites_of
from rlaif_dagster.report.training_plots import learning, reward_against_kl, reward_paths


@dataclass(frozen=True)
class Figures:
    """The plots by topic; a topic about which nothing is known has none."""

    alignment: tuple[Plot, ...]
    capability: tuple[Plot, ...]
    differences: tuple[Plot, ...]
    safety: tuple[Plot, ...]
    adherence: tuple[Plot, ...]
    head_to_head: tuple[Plot, ...]
    length: tuple[Plot, ...]
    reward_kl: tuple[Plot, ...]
    learning: tuple[Plot, ...]


def draw(evidence: Evidence, tables: Mapping[str, pd.DataFrame]) -> Figures:
    """Every plot that the cell's tables have numbers for."""
    metrics = table(tables, "training_metrics")
    compared = [measure for measure in evidence.headlines if measure.compared(ARMS)]
    limit = plots.difference_limit(compared)
    suites = suites_of(table(tables, "benchmarks"), table(tables, "benchmark_items"))
    contest, paths = contest_plot(evidence), reward_paths(metrics)
    return Figures(
        alignment=tuple(plots.levels(one) for one in evidence.headlines if one.kind == "alignment"),
        capability=tuple(plots.levels(one) for one in evidence.headlines if one.kind == "capability"),
        differences=tuple(plots.differences(one, limit) for one in compared),
        safety=tuple(plots.levels(one) for one in safety_measures(suites)),
        adherence=tuple(plots.levels(one) for one in evidence.adherence),
        head_to_head=(contest,) if contest else (),
        length=tuple(length_plots(table(tables, "responses"))),
        reward_kl=(reward_against_kl(paths),) if paths else (),
        learning=tuple(learning(panel, curves) for panel, curves in panels(metrics)),
    )
