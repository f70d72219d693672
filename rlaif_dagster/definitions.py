"""The front door: what Dagster loads. It composes and does nothing else."""

import dagster as dg

from assets.graph import ASSETS, graph_nodes
from assets.partitions import BY_DIMS
from assets.sensors import watch_inputs
from resources.judge import JudgeResource
from resources.language_model import LanguageModelResource
from resources.model_store import ModelStoreResource
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.lineage import job_name

project, warehouse = ProjectResource(), WarehouseResource()


def _job(dims: tuple[str, ...]) -> object:
    names = [node.asset for node in graph_nodes().values() if node.dims == dims and node.code_version]
    return dg.define_asset_job(
        job_name(dims),
        selection=dg.AssetSelection.assets(*names),
        partitions_def=BY_DIMS[dims],
        description=f"Every asset made once {'a ' + ' and '.join(dims) if dims else 'for the whole study'}.",
    )


defs = dg.Definitions(
    assets=ASSETS,
    jobs=[_job(dims) for dims in BY_DIMS],
    resources={
        "project": project,
        "warehouse": warehouse,
        "language_model": LanguageModelResource(project=project, warehouse=warehouse),
        "judge": JudgeResource(project=project, warehouse=warehouse),
        "model_store": ModelStoreResource(warehouse=warehouse),
    },
    sensors=[
        watch_inputs,
        dg.AutomationConditionSensorDefinition("run_what_changed", target=dg.AssetSelection.all()),
    ],
)
