"""Every asset of one cell of the tiny study by Dagster's own runs, with the executor of the code location.

python -m tests.study.executed
"""

from __future__ import annotations

import sys

from dagster import AssetKey, execute_job
from dagster._core.definitions.reconstruct import ReconstructableRepository

from assets.graph import made_by
from rlaif_dagster.home import current_home
from rlaif_dagster.lineage.graph import job_name
from rlaif_dagster.lineage.runs import open_instance

RUNS: list[tuple[tuple[str, ...], str | None, set[str]]] = [
    ((), None, {"prompts"}),
    (("model",), "tiny", set(made_by(("model",)))),
    (("constitution",), "brief", set(made_by(("constitution",)))),
    (("model", "constitution"), "brief|tiny", set(made_by(("model", "constitution")))),
    ((), None, {"results"}),
]


def main() -> int:
    """A run a partition set, each step where the executor has it; the exit status."""
    repository = ReconstructableRepository.for_module("rlaif_dagster.definitions", "defs", None)
    with open_instance(current_home()) as instance:
        for dims, partition, names in RUNS:
            result = execute_job(
                repository.get_reconstructable_job(job_name(dims)),
                instance,
                asset_selection=[AssetKey(name) for name in sorted(names)],
                tags={"dagster/partition": partition} if partition else {},
            )
            if not result.success:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
