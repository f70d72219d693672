"""Every asset of one cell of the tiny study by Dagster's own runs, with the executor of the code location.

python -m tests.study.executed            all of them
python -m tests.study.executed 2          those of the first two partition sets
"""

from __future__ import annotations

import sys

from dagster import AssetKey, execute_job
from dagster._core.code_pointer import CodePointer
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.origin import get_python_environment_entry_point

from assets.graph import made_by
from rlaif_dagster.home import CHECKOUT, current_home
from rlaif_dagster.lineage.graph import job_name
from rlaif_dagster.lineage.runs import open_instance

PARTITION = "dagster/partition"
CELL = {PARTITION: "brief|tiny", f"{PARTITION}/model": "tiny", f"{PARTITION}/constitution": "brief"}
RUNS: list[tuple[tuple[str, ...], dict[str, str], set[str]]] = [
    ((), {}, {"prompts"}),
    (("model",), {PARTITION: "tiny"}, set(made_by(("model",)))),
    (("constitution",), {PARTITION: "brief"}, set(made_by(("constitution",)))),
    (("model", "constitution"), CELL, set(made_by(("model", "constitution")))),
    ((), {}, {"results"}),
]


def main() -> int:
    """A run a partition set, each step where the executor has it; the exit status."""
    place = CodePointer.from_module("rlaif_dagster.definitions", "defs", str(CHECKOUT))
    # as the code server of workspace.yaml has it: steps run by this very Python
    repository = ReconstructableRepository(place, entry_point=get_python_environment_entry_point(sys.executable))
    wanted = RUNS[: int(sys.argv[1])] if sys.argv[1:] else RUNS
    with open_instance(current_home()) as instance:
        for dims, partition, names in wanted:
            result = execute_job(
                repository.get_reconstructable_job(job_name(dims)),
                instance,
                asset_selection=[AssetKey(name) for name in sorted(names)],
                tags=partition,
            )
            if not result.success:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
