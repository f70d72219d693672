"""The front door: what Dagster loads. It composes and does nothing else."""

import dagster as dg

from assets.executors import executor
from assets.graph import ASSETS, graph_nodes
from assets.jobs import JOBS
from assets.schedules import every_night, every_week
from assets.sensors import follow_edits
from resources.judge import JudgeResource
from resources.language_model import LanguageModelResource
from resources.model_store import ModelStoreResource
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource

nodes = graph_nodes()
warehouse = WarehouseResource()

defs = dg.Definitions(
    assets=ASSETS,
    jobs=JOBS,
    resources={
        "project": ProjectResource(),
        "warehouse": warehouse,
        "language_model": LanguageModelResource(warehouse=warehouse),
        "judge": JudgeResource(warehouse=warehouse),
        "model_store": ModelStoreResource(warehouse=warehouse),
    },
    sensors=[follow_edits],
    schedules=[every_night, every_week],
    executor=executor(),
)
