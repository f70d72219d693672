"""For readers: the report of a cell, and every table in one DuckDB file."""

from datetime import UTC, datetime
from itertools import product

import dagster as dg

from assets.evaluation import ARMS
from assets.step import Step
from assets.study_asset import study_asset
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.warehouse.store import Cell

GRID = ("model", "constitution")
EVALUATION = [f"{arm}_benchmarks" for arm in ARMS] + ["adherence", "head_to_head", "qualitative"]
TRAINING = ["sft_model", "reward_model", "dpo_model", "ppo_model"]
CELL_TABLES = [
    "completions", "revisions", "judgments", "preference_pairs", *TRAINING, *(f"{arm}_responses" for arm in ARMS), *EVALUATION,
]  # fmt: skip


@study_asset(
    group="results", dims=GRID, code_version="3", kinds=("html",),
    writes=["report/model={model}/constitution={constitution}/report.html"],
    deps=[*EVALUATION, *(f"{arm}_responses" for arm in ARMS), *TRAINING, "prompts", "judgments", "preference_pairs",
          "judge_agreement", "constitution", "model_spec"],
)  # fmt: skip
def report(
    context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    """One self-contained HTML file (the verdict, then the evidence and its lineage); beside it report.md and the plots."""
    from rlaif_dagster.report.build import markdown_preview
    from rlaif_dagster.report.cell import CellReport
    from rlaif_dagster.report.files import write_report
    from rlaif_dagster.report.serving import address_of
    from rlaif_dagster.warehouse.cell import cell_tables

    step = Step.begin(context, project, warehouse)
    cell = CellReport(
        cell_tables(step.home, step.cell), step.model, str(step.cell.constitution), step.constitution, step.model_spec,
        datetime.now(UTC),
    )  # fmt: skip
    path = step.report_path
    write_report(path, cell)
    return step.finish(
        {},
        version=content_hash([v.version for v in step.upstream]),
        metadata={
            "report": dg.MetadataValue.path(str(path)), "url": dg.MetadataValue.url(address_of(path, step.home)),
            "summary": dg.MetadataValue.md(markdown_preview(cell)),
        },
    )  # fmt: skip


@study_asset(
    group="results", dims=(), code_version="3", kinds=("duckdb",), gathers=True, writes=["results.duckdb", "report/study.html"],
    deps=["prompts", *CELL_TABLES, "judge_agreement", "report"],
)  # fmt: skip
def results(
    context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource
) -> dg.MaterializeResult:
    """results.duckdb: every table with its comments, for any DuckDB client; and the study page over all cells."""
    from rlaif_dagster.report.serving import address_of
    from rlaif_dagster.report.study import write_study
    from rlaif_dagster.warehouse.sql import build_results

    step = Step.begin(context, project, warehouse)
    path = step.home.warehouse / "results.duckdb"
    models, constitutions = step.project.names("models"), step.project.names("constitutions")
    build_results(step.home, path, models, constitutions)
    page = write_study(step.home, [Cell(*names) for names in product(models, constitutions)], datetime.now(UTC))
    return step.finish(
        {}, version=content_hash([[v.asset, v.partition, v.version] for v in step.upstream]),
        metadata={"file": dg.MetadataValue.path(str(path)), "study": dg.MetadataValue.url(address_of(page, step.home))},
    )  # fmt: skip


RESULT_ASSETS: list[dg.AssetsDefinition] = [report, results]
