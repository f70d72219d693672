"""What a materialization shows in Dagster's UI: rows, columns and where they came from, previews, plots."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from assets.small_pictures import IN_PLACE, curves_in_place, levels_in_place
from rlaif_dagster.errors import visible
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.report.curves import panels
from rlaif_dagster.report.paper import plain
from rlaif_dagster.warehouse.schemas import TABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREVIEWS = ((5, 120), (5, 60), (5, 32), (3, 24))  # rows, and characters of a cell: the first that is shown in place

# Where a column's values come from, beyond the ids, which keep their names: table and column by table and column.
MADE_FROM: dict[tuple[str, str], list[tuple[str, str]]] = {
    ("judgments", "a_id"): [("completions", "completion_id"), ("revisions", "completion_id")],
    ("judgments", "b_id"): [("completions", "completion_id"), ("revisions", "completion_id")],
    ("preference_pairs", "prompt"): [("prompts", "text")],
    ("preference_pairs", "chosen"): [("completions", "text"), ("revisions", "text")],
    ("preference_pairs", "rejected"): [("completions", "text"), ("revisions", "text")],
    ("preference_pairs", "chosen_id"): [("judgments", "a_id"), ("judgments", "b_id")],
    ("preference_pairs", "rejected_id"): [("judgments", "a_id"), ("judgments", "b_id")],
    ("preference_pairs", "p_chosen"): [("judgments", "p_a")],
    ("preference_pairs", "margin"): [("judgments", "p_a")],
    ("preference_pairs", "order_consistent"): [("judgments", "p_a"), ("judgments", "order")],
    ("adherence", "adherent"): [("responses", "text")],
    ("adherence", "missing"): [("responses", "text")],
    ("adherence", "decoding"): [("responses", "decoding")],
    ("adherence", "split"): [("prompts", "split")],
    ("head_to_head", "win_rate"): [("responses", "text")],
    ("qualitative", "prompt"): [("prompts", "text")],
    ("qualitative", "category"): [("prompts", "category")],
    ("qualitative", "response"): [("responses", "text")],
    ("qualitative", "alignment_grade"): [("responses", "text")],
    ("qualitative", "correctness_grade"): [("responses", "text"), ("prompts", "reference")],
}
IDS = ("prompt_id", "completion_id", "pair_id", "principle_id")


def columns_of(table: str) -> dg.TableSchema:
    """The table's columns with their meanings, for the page of an asset."""
    return dg.TableSchema(
        columns=[dg.TableColumn(c.name, c.type, description=c.comment) for c in TABLES[table].all_columns]
    )


def column_lineage(table: str, makers: Mapping[str, Sequence[str]]) -> dg.TableColumnLineage:
    """Where the columns come from; `makers` are the assets among the parents that write each table."""
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for column in TABLES[table].columns:
        sources = list(MADE_FROM.get((table, column.name), ()))
        if column.name in IDS and not sources:
            sources = [
                (name, column.name) for name in makers if any(c.name == column.name for c in TABLES[name].columns)
            ]
        deps[column.name] = [
            dg.TableColumnDep(dg.AssetKey(asset), source) for name, source in sources for asset in makers.get(name, ())
        ]
    return dg.TableColumnLineage({column: found for column, found in deps.items() if found})


def source_of(function: Callable[..., Any]) -> dg.CodeReferencesMetadataValue:
    """Where the asset is written."""
    code = function.__code__
    path = Path(code.co_filename)
    label = str(path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else path.name
    return dg.CodeReferencesMetadataValue(
        code_references=[
            dg.LocalFileCodeReference(
                file_path=str(path), line_number=code.co_firstlineno, label=f"{label}:{function.__name__}"
            )
        ]
    )


def plots(frames: Mapping[str, pd.DataFrame]) -> dict[str, dg.MarkdownMetadataValue]:
    """Learning curves of a training, levels of benchmarks, as pictures inside Markdown: small ones, which the page shows in
    place, and the whole behind a button."""
    shown: dict[str, str] = {}
    metrics, benchmarks = frames.get("training_metrics"), frames.get("benchmarks")
    if metrics is not None and not metrics.empty:
        shown |= {panel.title: curves_in_place(panel, curves) for panel, curves in panels(metrics)}
        shown["learning curves"] = _learning(metrics)
    if benchmarks is not None and not benchmarks.empty:
        shown["levels"] = levels_in_place(benchmarks)
        shown["levels, large"] = _picture(_png(_levels(benchmarks)), "benchmarks with 95% intervals")
    return {name: dg.MetadataValue.md(markdown) for name, markdown in shown.items()}


def _learning(metrics: pd.DataFrame) -> str:
    from rlaif_dagster.report.drawing import sheet
    from rlaif_dagster.report.training_plots import learning

    plots = [learning(panel, curves) for panel, curves in panels(metrics)]
    return _picture(sheet(plots, 2, "png"), "learning curves") if plots else "no curve was recorded"


def _levels(benchmarks: pd.DataFrame) -> Figure:
    """A dot and its interval a task and metric, over all seeds' means."""
    from matplotlib.figure import Figure

    rows = benchmarks.groupby(["task", "metric"], as_index=False)[["value", "ci_low", "ci_high"]].mean()
    figure = Figure(figsize=(5.2, 0.5 + 0.32 * len(rows)), layout="tight")
    axes = figure.subplots()
    places = range(len(rows))
    axes.hlines(places, rows["ci_low"], rows["ci_high"], color="#9aa5b1", linewidth=3)
    axes.plot(rows["value"], places, "o", color="#1f5fa8")
    axes.set_yticks(
        places, [f"{task} {metric}" for task, metric in zip(rows["task"], rows["metric"], strict=True)], fontsize=8
    )
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _picture(png: bytes, label: str) -> str:
    return f"![{label}](data:image/png;base64,{base64.b64encode(png).decode()})"


def preview(frame: pd.DataFrame) -> str:
    """The first rows as a Markdown table, long cells cut: as much as the page shows in place, or else all of it behind its
    button."""
    if frame.empty:
        return "no rows"
    tables = [_table(frame, rows, characters) for rows, characters in PREVIEWS]
    return next((table for table in tables if len(table) <= IN_PLACE), tables[0])


def _table(frame: pd.DataFrame, rows: int, characters: int) -> str:
    head = frame.head(rows).map(partial(_short, characters=characters))
    lines = [" | ".join(map(str, head.columns)), " | ".join("---" for _ in head.columns)]
    lines += [" | ".join(row) for row in head.itertuples(index=False)]
    return "\n".join(f"| {line} |" for line in lines)


def _short(value: Any, characters: int) -> str:
    """A value as a cell, cut, and as text: an image in an answer would otherwise be fetched by whoever looks at the page."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = " ".join((f"{value:.4g}" if isinstance(value, float) else str(value)).split())
    return plain(visible(text if len(text) <= characters else text[: characters - 1] + "…"))
