"""What all assets of the study share: group, partitions, code version, checks, owners, one maker at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dagster as dg

from assets.checks import CHECKS
from assets.executors import tags_of
from assets.making import guarded
from assets.partitions import BY_DIMS
from assets.shown import source_of
from rlaif_dagster.behaviour import Behaviour
from rlaif_dagster.behaviour import code_version as with_behaviours
from rlaif_dagster.lineage.graph import DIMS, WRITES
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, relative_path

OWNER = "team:alignment"
GATHERING = dg.AllPartitionMapping()


def study_asset(
    *,
    group: str,
    dims: tuple[str, ...],
    deps: Sequence[str],
    code_version: str,
    behaviours: Sequence[Behaviour] = (),
    writes: Sequence[str],
    part: str = "all",
    name: str | None = None,
    description: str | None = None,
    kinds: Sequence[str] = ("duckdb",),
    checks: Sequence[str] = (),
    warnings: Sequence[str] = (),
    pool: str | None = None,
    gathers: bool = False,
) -> Callable[[Callable[..., dg.MaterializeResult]], dg.AssetsDefinition]:
    """An asset of the study. `dims` are its partition dimensions; `writes` the tables (of which it writes `part`) or other
    files of the warehouse; `behaviours` what of the code its content rests on beside its own; `checks` are blocking,
    `warnings` are checks that are not; an asset that `gathers` reads all partitions of its parents."""

    def decorate(function: Callable[..., dg.MaterializeResult]) -> dg.AssetsDefinition:
        key = name or function.__name__
        return dg.asset(
            name=key,
            group_name=group,
            description=description or function.__doc__,
            partitions_def=BY_DIMS[dims],
            metadata={
                DIMS: list(dims),
                WRITES: [_file(item, dims, part) for item in writes],
                "dagster/code_references": source_of(function),
            },
            deps=[dg.AssetDep(dep, partition_mapping=GATHERING if gathers else None) for dep in deps],
            code_version=with_behaviours(code_version, *behaviours),
            check_specs=[
                dg.AssetCheckSpec(check, asset=key, blocking=check in checks, description=CHECKS[check])
                for check in (*checks, *warnings)
            ],
            owners=[OWNER],
            kinds=set(kinds),
            pool=pool,
            op_tags=tags_of(pool, group),
        )(guarded(key, function, checks, warnings))

    return decorate


def _file(item: str, dims: tuple[str, ...], part: str) -> str:
    placeholders = {dim: f"{{{dim}}}" for dim in dims}
    return relative_path(item, Cell(**placeholders), part) if item in TABLES else item
