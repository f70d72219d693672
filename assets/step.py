"""The frame around every asset's one function call: what it read, what it remembers, what it reports.

A step notes the versions of its parents *before* it reads them (an edit in between makes it stale again, never silently
fresh), computes through a memo keyed by what it really reads, writes its tables, and records its lineage only when every
check passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from assets.partitions import cell_of
from assets.shown import column_lineage, columns_of, plots, preview
from resources.model_store import ModelStoreResource
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.bucket.sharing import shared_results
from rlaif_dagster.committing import commit
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.home import Home, report_path
from rlaif_dagster.inputs import INPUTS
from rlaif_dagster.judging.ledger import account, outcomes, spent_usd, unsure_usd
from rlaif_dagster.lineage.graph import WRITES
from rlaif_dagster.lineage.runs import REFRESH_TAG
from rlaif_dagster.records import Record, Version, partition_key, remember_meaning
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.project import Project
from rlaif_dagster.training.trained import Check
from rlaif_dagster.warehouse.memo import Memo
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, Warehouse, table_version, to_arrow
from rlaif_dagster.work import Chunks

Frames = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Adapter:
    """A trained adapter in the model store."""

    path: Path
    digest: str


def path_of(adapter: Adapter | None) -> Path | None:
    """Where the adapter lies; None for the base model itself."""
    return adapter.path if adapter else None


def digest_of(adapter: Adapter | None) -> str | None:
    """What identifies the policy beside its base model."""
    return adapter.digest if adapter else None


@dataclass(frozen=True)
class Step:
    """One materialization in progress."""

    context: dg.AssetExecutionContext
    cell: Cell
    project: Project
    warehouse: Warehouse
    home: Home
    started: float
    upstream: tuple[Version, ...]
    spent_before: float  # US dollars that this process has paid judges, and
    unsure_before: float  # may have been billed for besides
    asked_before: dict[str, int]  # its requests by outcome
    recalled: list[str] = field(default_factory=list)  # keys of the remembered results that this step used

    @classmethod
    def begin(cls, context: dg.AssetExecutionContext, project: ProjectResource, warehouse: WarehouseResource) -> Step:
        """Open the user's files and the warehouse, and note the parents' versions."""
        files, tables, cell = project.open(), warehouse.open(), cell_of(context)
        upstream = tuple(_parent_versions(context.asset_key.to_user_string(), cell, files, tables, warehouse.home))
        home = warehouse.home
        return cls(
            context, cell, files, tables, home, time.time(), upstream, spent_usd(home), unsure_usd(home), outcomes(home)
        )

    @property
    def asset(self) -> str:
        return self.context.asset_key.to_user_string()

    @property
    def committed_before(self) -> float:
        """What a budget of this step does not count: US dollars paid, or perhaps billed, before it began."""
        return self.spent_before + self.unsure_before

    @property
    def model(self) -> str:
        return str(self.cell.model)

    @property
    def model_spec(self) -> ModelSpec:
        return self.project.model(self.model)

    @property
    def base_reference(self) -> str:
        """What a model card names as its base."""
        return self.model_spec.hub.repo if self.model_spec.hub else self.model

    @property
    def constitution(self) -> Constitution:
        return self.project.constitution(str(self.cell.constitution))

    @property
    def files(self) -> list[str]:
        """What this step writes, relative to the warehouse."""
        names = self.context.assets_def.metadata_by_key[self.context.asset_key][WRITES]
        return [name.format(model=self.cell.model, constitution=self.cell.constitution) for name in names]

    @property
    def report_path(self) -> Path:
        return report_path(self.home, self.model, str(self.cell.constitution))

    @property
    def code_version(self) -> str:
        return str(self.context.assets_def.code_versions_by_key[self.context.asset_key])

    @property
    def memo(self) -> Memo:
        return Memo(self.home.cache / "results", shared_results(self.home))

    @property
    def refresh(self) -> str | None:
        """The backfill that asks for results to be computed again although nothing they read has changed."""
        return self.context.run.tags.get(REFRESH_TAG)

    def key(self, *reads: Any) -> str:
        """Name of this asset's result for what it reads."""
        return content_hash(self.asset, self.code_version, reads)

    def recall(
        self, reads: Any, compute: Callable[[], Frames], final: Callable[[Frames], bool] = lambda frames: True
    ) -> Frames:
        """The tables for these inputs: remembered, or computed and, when they are `final`, remembered."""
        key = self.key(self.cell.model, self.cell.constitution, reads)
        self.recalled.append(key)
        frames, known = self.memo.get_or_compute(
            self.asset, key, self.cell, compute, final, anew=self.refresh is not None
        )
        if known:
            self.context.log.info("Nothing that this asset reads has changed: the stored result is used.")
        return frames

    def chunks(self, *identity: Any) -> Chunks:
        """Resumable chunks of work done by one model, shared by whatever asks it the same."""
        anew = [self.refresh] if self.refresh else []  # a refresh resumes its own work, and nobody else's
        return Chunks(self.home.cache / "chunks" / content_hash(self.asset, self.code_version, identity, *anew))

    def read(self, table: str, part: str = "all") -> pd.DataFrame:
        """A table's part for this cell; only as much of the cell as the table has."""
        return self.warehouse.read(table, self.cell, part)

    def version(self, table: str, part: str = "all") -> str:
        """Content version of what `read` returns."""
        return self.warehouse.version(table, self.cell, part)

    def training_prompts(self) -> pd.DataFrame:
        frame = self.read("prompts")
        return frame[frame["split"] == "train"].reset_index(drop=True)

    def evaluation_prompts(self) -> pd.DataFrame:
        frame = self.read("prompts")
        return frame[frame["split"] != "train"].reset_index(drop=True)

    def candidates(self) -> pd.DataFrame:
        """Completions and revisions together: what the judge compares."""
        frames = [self.read("completions"), self.read("revisions")]
        return pd.concat(frames, ignore_index=True).drop_duplicates("completion_id", ignore_index=True)

    def judged_principles(self, mode: str = "per_principle") -> list[Any]:
        """What of the constitution the judge reads. Weights are not, unless principles are drawn by them: they come in when
        pairs are built."""
        c = self.constitution
        if mode == "sampled":
            return [[p.id, p.text, p.weight] for p in c.principles] + [e.meaning() for e in c.exemplars]
        return [[p.id, p.text] for p in c.principles] + [e.meaning() for e in c.exemplars]

    def responses(self, arms: Sequence[str]) -> pd.DataFrame:
        """The arms' answers together; base answers belong to the model, not to a constitution."""
        return pd.concat(
            [self.warehouse.read("responses", self._arm_cell(arm), arm) for arm in arms], ignore_index=True
        )

    def response_versions(self, arms: Sequence[str]) -> list[str]:
        return [self.warehouse.version("responses", self._arm_cell(arm), arm) for arm in arms]

    def _arm_cell(self, arm: str) -> Cell:
        return Cell(self.cell.model) if arm == "base" else self.cell

    def policies(self, store: ModelStoreResource, arm: str) -> list[tuple[int, Adapter | None]]:
        """The arm's adapters by seed; base is the model without one."""
        return [(0, None)] if arm == "base" else [*self.adapters(store, arm)]

    def adapters(self, store: ModelStoreResource, arm: str) -> list[tuple[int, Adapter]]:
        """The adapters of a trained arm by seed."""
        rows, models = self.read("models", arm).to_dict("records"), store.open()
        return [(row["seed"], Adapter(models.here(row["path"], row["digest"]), row["digest"])) for row in rows]

    def adapter(self, store: ModelStoreResource, arm: str) -> Adapter:
        """The adapter of an arm's first seed."""
        return self.adapters(store, arm)[0][1]

    def start_adapter(self, store: ModelStoreResource, start: str) -> Adapter | None:
        """Where a policy starts. From base, the SFT adapter is not read at all, so its changes retrain nothing."""
        return None if start == "base" else self.adapter(store, start)

    @staticmethod
    def combined(digests: Iterable[str]) -> str:
        """One data version for the adapters of all seeds."""
        return content_hash(list(digests))

    def finish(
        self,
        frames: Frames,
        *,
        part: str = "all",
        checks: Sequence[Check] = (),
        warnings: Sequence[Check] = (),
        metadata: dict[str, Any] | None = None,
        version: str | None = None,
        unanswered: int = 0,
    ) -> dg.MaterializeResult:
        """Write the tables, record the lineage, and tell Dagster. A failed check leaves neither (a warning both): what
        depends on this asset waits, readers keep what was good before, and the next run tries again from what is
        remembered. `unanswered` counts questions to which a judge's provider gave no answer: the next `rlaif up` asks them
        again. The cost is what the judge's answers since the step began were paid for."""
        data_version = version or content_hash(
            {
                name: table_version(TABLES[name], to_arrow(TABLES[name], frame, self.cell))
                for name, frame in frames.items()
            }
        )
        seconds, cost_usd = time.time() - self.started, spent_usd(self.home) - self.spent_before
        pictures = plots(frames)  # before the record: what is recorded has ended well
        if all(check.passed for check in checks):
            record = Record(
                self.asset, partition_key(self.cell), data_version, self.code_version, self.upstream,
                self.context.run_id, datetime.fromtimestamp(self.started, UTC), seconds, cost_usd, unanswered,
            )  # fmt: skip
            commit(self.warehouse, self.cell, part, frames, self.files, record)
            for key in self.recalled:
                self.memo.became(self.asset, key, data_version)
        shown: dict[str, Any] = {f"rows of {name}": len(frame) for name, frame in frames.items()}
        shown |= {f"preview of {name}": dg.MetadataValue.md(preview(frame)) for name, frame in frames.items()}
        shown |= self._table_metadata(frames) | pictures
        shown |= {"seconds": round(seconds, 1), "cost_usd": cost_usd}
        shown |= account(self.home, self.asked_before, self.unsure_before) | (metadata or {})
        return dg.MaterializeResult(
            data_version=dg.DataVersion(data_version),
            metadata=shown,
            check_results=[
                dg.AssetCheckResult(
                    check_name=c.name, passed=c.passed, metadata={"numbers": c.message},
                    severity=dg.AssetCheckSeverity.WARN if c in warnings else dg.AssetCheckSeverity.ERROR,
                )
                for c in (*checks, *warnings)
            ],
        )  # fmt: skip

    def _table_metadata(self, frames: Frames) -> dict[str, Any]:
        """Rows, columns and their origin in the places where the UI looks for them; of the first table, an asset's main."""
        if not frames:
            return {}
        from assets.graph import graph_nodes  # the graph imports every asset module

        table, frame = next(iter(frames.items()))
        nodes = graph_nodes()
        makers: dict[str, list[str]] = {}
        for parent in nodes[self.asset].parents:
            for file in nodes[parent].writes:
                makers.setdefault(file.split("/")[0], []).append(parent)
        known = {name: assets for name, assets in makers.items() if name in TABLES}
        return {
            "dagster/row_count": len(frame),
            "dagster/column_schema": columns_of(table),
            "dagster/column_lineage": column_lineage(table, known),
        }


def _parent_versions(asset: str, cell: Cell, project: Project, warehouse: Warehouse, home: Home) -> list[Version]:
    """Current versions of everything the asset's partition reads."""
    from assets.graph import graph_state  # the graph imports every asset module

    state = graph_state(project, warehouse)
    node = state.nodes[asset]
    versions = []
    for name in node.parents:
        parent = state.nodes[name]
        grid = (project.names("models"), project.names("constitutions"))
        for parent_cell in state.parent_cells(node, cell, parent, *grid):
            version = state.current_version(name, parent_cell)
            if version is not None:
                versions.append(Version(name, partition_key(parent_cell), version))
            if name in INPUTS:
                remember_meaning(home, str(version), INPUTS[name].shown(project, parent_cell))
    return versions
