"""For readers: the report of a cell, and every table in one DuckDB file."""

from datetime import UTC, datetime

import dagster as dg

from assets.evaluation import ARMS
from assets.step import Step
from assets.study_asset import study_asset
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster import atomic
from rlaif_dagster.hashing import content_hash

GRID = ("model", "constitution")
EVALUATION = [f"{arm}_benchmarks" for arm in ARMS] + ["adherence", "head_to_head", "qualitative"]
TRAINING = ["sft_model", "reward_model", "dpo_model", "ppo_model"]
CELL_TABLES = [
    "completions", "revisions", "judgments", "preference_pairs", *TRAINING, *(f"{arm}_responses" for arm in ARMS), *EVALUATION,
]  # fmt: skip


@study_asset(
    group="results", dims=GRID, code_version="1", kinds=("html",),
    writes=["report/model={model}/constitution={constitution}/report.html"],
    deps=[*EVALUATION, *(f"{arm}_responses" for arm in ARMS), *TRAINING, "prompts", "judgments", "preference_pairs",
          "judge_agreement", "constitution", "model_spec"],
)  # fmt: skip
def report(
    context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    """One self-contained HTML file: the verdict in a sentence, then the evidence and its lineage."""
    from rlaif_dagster.report.build import build_report, markdown_preview
    from rlaif_dagster.warehouse.cell import cell_tables

    step = Step.begin(context, project, warehouse)
    tables = cell_tables(step.home, step.cell)
    html = build_report(
        tables, model=step.model, constitution=str(step.cell.constitution), constitution_spec=step.constitution,
        model_spec=step.model_spec, generated_at=datetime.now(UTC),
    )  # fmt: skip
    path = step.report_path
    atomic.write_text(path, html)
    return step.finish(
        {},
        version=content_hash([v.version for v in step.upstream]),
        metadata={
            "report": dg.MetadataValue.path(str(path)), "url": dg.MetadataValue.url(path.as_uri()),
            "summary": dg.MetadataValue.md(markdown_preview(tables)),
        },
    )  # fmt: skip


@study_asset(
    group="results", dims=(), code_version="1", kinds=("duckdb",), gathers=True, writes=["results.duckdb"],
    deps=["prompts", *CELL_TABLES, "judge_agreement", "report"],
)  # fmt: skip
def results(
    context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    """results.duckdb: every table with its comments, for any DuckDB client."""
    from rlaif_dagster.warehouse.sql import build_results

    step = Step.begin(context, project, warehouse)
    path = step.home.warehouse / "results.duckdb"
    build_results(step.home, path)
    return step.finish(
        {}, version=content_hash([[v.asset, v.partition, v.version] for v in step.upstream]),
        metadata={"file": dg.MetadataValue.path(str(path))},
    )  # fmt: skip


RESULT_ASSETS: list[dg.AssetsDefinition] = [report, results]
