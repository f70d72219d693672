"""Cells of the warehouse whose model or constitution has no file in data/ any more: what was made of them, and where it lies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlaif_dagster.home import Home
from rlaif_dagster.records import History, cell_of_key
from rlaif_dagster.resolver import Node
from rlaif_dagster.warehouse.store import Cell


@dataclass(frozen=True)
class Removed:
    """Assets' partitions of such cells, and their current files."""

    partitions: frozenset[tuple[str, str | None]] = frozenset()
    files: frozenset[Path] = frozenset()


def removed_cells(
    home: Home, history: History, nodes: Mapping[str, Node], models: Collection[str], constitutions: Collection[str]
) -> Removed:
    """What was ever made for others than these models and constitutions; assets that the graph no longer has are passed over."""
    partitions, files = set(), set()
    for asset, partition in history:
        cell = cell_of_key(nodes[asset].dims, partition) if asset in nodes else Cell()
        if cell.model not in (None, *models) or cell.constitution not in (None, *constitutions):
            partitions.add((asset, partition))
            names = (name.format(model=cell.model, constitution=cell.constitution) for name in nodes[asset].writes)
            files |= {home.warehouse / name for name in names}
    return Removed(frozenset(partitions), frozenset(file for file in files if file.exists()))
