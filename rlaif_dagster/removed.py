"""Cells of the warehouse whose model or constitution has no file in data/ any more: what was made of them, and where it lies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlaif_dagster.home import Home
from rlaif_dagster.records import History, cell_of_key
from rlaif_dagster.resolver import Node


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
        if asset not in nodes:
            continue
        cell = cell_of_key(nodes[asset].dims, partition)
        if cell.model not in (None, *models) or cell.constitution not in (None, *constitutions):
            partitions.add((asset, partition))
            for name in nodes[asset].writes:
                file = home.warehouse / name.format(model=cell.model, constitution=cell.constitution)
                files |= {*file.parent.rglob("*")} if file.suffix == ".html" else {file}  # a page has plots beside it
    return Removed(frozenset(partitions), frozenset(file for file in files if file.is_file()))
