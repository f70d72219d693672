"""Every asset of one cell by Dagster's own runs, with the executor of the code location.

python -m tests.study.executed brief tiny          all of them, under the constitution `brief`, of the model `tiny`
python -m tests.study.executed brief tiny 2        those of the first two partition sets
"""

from __future__ import annotations

import subprocess
import sys

from dagster import AssetKey, execute_job
from dagster._core.code_pointer import CodePointer
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.origin import get_python_environment_entry_point

from assets.graph import made_by
from rlaif_dagster.home import CHECKOUT, current_home
from rlaif_dagster.lineage.graph import job_name
from rlaif_dagster.lineage.runs import open_instance
from tests.checkout import Checkout

PARTITION = "dagster/partition"
DIMENSIONS: list[tuple[str, ...]] = [("model",), ("constitution",), ("model", "constitution")]
Run = tuple[tuple[str, ...], dict[str, str], set[str]]


def runs(constitution: str, model: str) -> list[Run]:
    """Dimensions, tags and assets of each, in the order in which they can be made."""
    cell = {
        PARTITION: f"{constitution}|{model}",
        f"{PARTITION}/model": model,
        f"{PARTITION}/constitution": constitution,
    }
    tags = ({PARTITION: model}, {PARTITION: constitution}, cell)
    made = [(dims, tag, set(made_by(dims))) for dims, tag in zip(DIMENSIONS, tags, strict=True)]
    return [((), {}, {"prompts"}), *made, ((), {}, {"results"})]


def executed(study: Checkout, *arguments: str) -> str:
    """What Dagster told of the runs, which all must succeed; for arguments see above."""
    command = [sys.executable, "-m", "tests.study.executed", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, env=study.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def main() -> int:
    """A run a partition set, each step where the executor has it; the exit status."""
    place = CodePointer.from_module("rlaif_dagster.definitions", "defs", str(CHECKOUT))
    # as the code server of workspace.yaml has it: steps run by this very Python
    repository = ReconstructableRepository(place, entry_point=get_python_environment_entry_point(sys.executable))
    constitution, model, *first = sys.argv[1:]
    wanted = runs(constitution, model)[: int(first[0]) if first else None]
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
