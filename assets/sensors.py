"""What watches the user's files: an edit on disk becomes an observation, and an observation is what automation goes by."""

from collections.abc import Iterator

import dagster as dg

from assets.graph import graph_nodes
from resources.project import ProjectResource
from rlaif_dagster.inputs import INPUTS
from rlaif_dagster.lineage import DATA_VERSION_TAG, last_observed
from rlaif_dagster.records import partition_key
from rlaif_dagster.spec.project import Project

SECONDS_BETWEEN_LOOKS = 30


@dg.sensor(minimum_interval_seconds=SECONDS_BETWEEN_LOOKS, description="Reports edited files in data/ as observations.")
def watch_inputs(context: dg.SensorEvaluationContext, project: ProjectResource) -> dg.SensorResult:
    """Off until it is switched on in the UI. It starts nothing itself."""
    files = project.open()
    files.check()
    return dg.SensorResult(asset_events=list(_edits(context.instance, files)))


def _edits(instance: dg.DagsterInstance, files: Project) -> Iterator[dg.AssetObservation]:
    for name, item in INPUTS.items():
        for cell in graph_nodes()[name].cells(files.names("models"), files.names("constitutions")):
            version = item.version(files, cell)
            if last_observed(instance, name, cell) != version:
                yield dg.AssetObservation(name, partition=partition_key(cell), tags={DATA_VERSION_TAG: version})
