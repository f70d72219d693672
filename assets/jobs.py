"""One job a partition set: a job that mixed them would run unpartitioned assets once a partition."""

import dagster as dg

from assets.graph import made_by
from assets.partitions import BY_DIMS
from rlaif_dagster.lineage.graph import job_name

JOBS = [
    dg.define_asset_job(
        job_name(dims),
        selection=dg.AssetSelection.assets(*made_by(dims)),
        partitions_def=partitions,
        description=f"Every asset made once {'a ' + ' and '.join(dims) if dims else 'for the whole study'}.",
    )
    for dims, partitions in BY_DIMS.items()
]
