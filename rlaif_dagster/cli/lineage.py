"""`rlaif lineage`: the tree of versions behind a model or a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, select
from rlaif_dagster.cli.moments import AtOption, moment
from rlaif_dagster.cli.screen import results
from rlaif_dagster.cli.study import open_study

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from rlaif_dagster.planning import Node


def lineage(
    asset: Annotated[str, typer.Argument(help="Asset, such as `dpo_model`, `head_to_head` or `report`.")],
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
    at: AtOption = None,
) -> None:
    """The tree of versions that an asset was made from, down to the files in data/, one tree a cell."""
    chosen = select(model, constitution)
    when = moment(at) if at else None
    study, console = open_study(chosen), results()
    trees = {node.label: node for node in (study.tree(asset, cell, when) for cell in chosen.cells())}
    for node in trees.values():  # an asset that many cells share has one tree
        console.print(tree(node))


def tree(node: Node) -> Tree:
    """The tree; what appears a second time is named but not opened again."""
    from rich.tree import Tree

    root = Tree(_line(node, again=False))
    seen: set[tuple[str, str | None]] = set()

    def add_children(node: Node, branch: Tree) -> None:
        seen.add((node.label, node.version))
        for child in node.children:
            again = bool(child.children) and (child.label, child.version) in seen
            below = branch.add(_line(child, again))
            if not again:
                add_children(child, below)

    add_children(node, root)
    return root


def _line(node: Node, again: bool) -> Text:
    from rich.text import Text

    line = Text(node.label)
    line.append(f"  {node.version or 'never made'}", style="dim")
    if node.made_at:
        line.append(f"  {node.made_at.astimezone():%Y-%m-%d %H:%M}", style="dim")
    if again:
        line.append("  (see above)", style="dim")
    return line
