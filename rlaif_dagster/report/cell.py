"""One grid cell as the report sees it: its tables and what is computed from them once for page, Markdown and plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import pandas as pd

from rlaif_dagster.report.caveats import caveats
from rlaif_dagster.report.cost import Cost, cost
from rlaif_dagster.report.evidence import Evidence, gather, table
from rlaif_dagster.report.figures import Figures, draw
from rlaif_dagster.report.method import Stage, method
from rlaif_dagster.report.sections import Asked, side_by_side
from rlaif_dagster.report.verdict import Verdict, verdict
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.model import ModelSpec


@dataclass(frozen=True)
class CellReport:
    """What a report is about. `tables` holds the cell's rows of the warehouse's tables, under the columns of
    `warehouse.schemas`; any may be empty or absent. The same content gives the same bytes."""

    tables: Mapping[str, pd.DataFrame]
    model: str
    constitution: str
    constitution_spec: Constitution
    model_spec: ModelSpec
    generated_at: datetime

    def table(self, name: str) -> pd.DataFrame:
        """A table, without rows where the cell has none."""
        return table(self.tables, name)

    @cached_property
    def evidence(self) -> Evidence:
        return gather(self.tables)

    @cached_property
    def verdict(self) -> Verdict:
        return verdict(self.evidence)

    @cached_property
    def caveats(self) -> list[str]:
        return caveats(self.evidence, self.tables)

    @cached_property
    def figures(self) -> Figures:
        return draw(self.evidence, self.tables)

    @cached_property
    def method(self) -> list[Stage]:
        return method(self.evidence, self.tables, self.constitution_spec, self.model, self.model_spec)

    @cached_property
    def cost(self) -> Cost | None:
        return cost(self.tables)

    @cached_property
    def asked(self) -> list[Asked]:
        """The qualitative prompts with every arm's answer."""
        return side_by_side(self.table("qualitative"), self.table("prompts"))
