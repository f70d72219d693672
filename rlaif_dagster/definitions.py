"""The front door: what Dagster loads. It composes and does nothing else."""

import dagster as dg

from assets.graph import ASSETS, graph_nodes, made_by
from assets.partitions import BY_DIMS
from assets.sensors import watch_inputs
from resources.judge import JudgeResource
from resources.language_model import LanguageModelResource
from resources.model_store import ModelStoreResource
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.lineage import job_name

nodes = graph_nodes()
project, warehouse = ProjectResource(), WarehouseResource()


# One job a partition set: a job that mixed them would run unpartitioned assets once a partition.
jobs = [
    dg.define_asset_job(
        job_name(dims),
        selection=dg.AssetSelection.assets(*made_by(dims)),
        partitions_def=partitions,
        description=f"Every asset made once {'a ' + ' and '.join(dims) if dims else 'for the whole study'}.",
    )
    for dims, partitions in BY_DIMS.items()
]

defs = dg.Definitions(
    assets=ASSETS,
    jobs=jobs,
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
