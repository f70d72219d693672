"""The user's files as observable assets: Dagster sees their versions, and only an observed change makes anything stale."""

import dagster as dg

from assets.partitions import BY_DIMS
from resources.project import ProjectResource
from rlaif_dagster.inputs import INPUTS, Input
from rlaif_dagster.lineage.graph import DIMS
from rlaif_dagster.warehouse.store import Cell


def _observable(item: Input) -> dg.SourceAsset:
    partitions = BY_DIMS[item.dims]

    @dg.observable_source_asset(
        name=item.name,
        group_name="inputs",
        description=f"{item.description} Files: {item.files}",
        partitions_def=partitions,
        metadata={DIMS: list(item.dims)},
        tags={"dagster/kind/yaml": ""},
    )
    def observe(project: ProjectResource) -> dg.DataVersion | dg.DataVersionsByPartition:
        files = project.open()
        if partitions is None:
            return dg.DataVersion(item.version(files, Cell()))
        (dim,) = item.dims
        return dg.DataVersionsByPartition(
            {key: item.version(files, Cell(**{dim: key})) for key in partitions.get_partition_keys()}
        )

    return observe


INPUT_ASSETS = [_observable(item) for item in INPUTS.values()]
