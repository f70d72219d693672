"""Which part of the grid a command is about: the options `--model` and `--constitution`, and what they come to.

Without them, data/study.yaml says. `all` is every file in data/models or data/constitutions. An unknown name is the
user's to fix, and the message lists the known ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.errors import UserError

if TYPE_CHECKING:
    from rlaif_dagster.spec.project import Project
    from rlaif_dagster.warehouse.store import Cell

EVERY = "all"

ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", metavar="NAME", help="Base model; repeatable; `all`. Default: data/study.yaml."),
]
ConstitutionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--constitution", "-c", metavar="NAME", help="Constitution; repeatable; `all`. Default: data/study.yaml."
    ),
]


@dataclass(frozen=True)
class Selection:
    """The chosen part of the grid."""

    project: Project
    models: tuple[str, ...]
    constitutions: tuple[str, ...]

    def cells(self) -> Iterator[Cell]:
        from rlaif_dagster.warehouse.store import Cell

        return (Cell(model, constitution) for model, constitution in product(self.models, self.constitutions))

    def one(self, command: str) -> tuple[str, str]:
        """The chosen model and constitution, for a command that works on a single cell."""
        for option, names in (("--model", self.models), ("--constitution", self.constitutions)):
            if len(names) != 1:
                raise UserError(f"`rlaif {command}` works on one cell; choose with {option}: {', '.join(names)}")
        return self.models[0], self.constitutions[0]


def select(models: Sequence[str] | None, constitutions: Sequence[str] | None) -> Selection:
    """The cells that the options name; UserError on a name that has no file."""
    from rlaif_dagster.spec.project import Project

    project = Project.current()
    study = None if models and constitutions else project.study()
    return Selection(
        project,
        _names(project, "models", models or (study.models if study else ())),
        _names(project, "constitutions", constitutions or (study.constitutions if study else ())),
    )


def _names(project: Project, kind: str, given: Sequence[str]) -> tuple[str, ...]:
    known = project.names(kind)
    for name in given:
        if name != EVERY and name not in known:
            option = f"--{kind.removesuffix('s')}"
            raise UserError(
                f"{option}: {name!r} has no file in {project.root / kind}; allowed: {', '.join([*known, EVERY])}"
            )
    if EVERY in given:
        if not known:
            raise UserError(f"{project.root / kind}: no files; put at least one NAME.yaml there")
        return tuple(known)
    return tuple(dict.fromkeys(given))


def cell_name(cell: Cell) -> str:
    """A cell in one word: `model/constitution`, one of the two, or `-` for what belongs to the whole study."""
    return "/".join(part for part in (cell.model, cell.constitution) if part) or "-"


def only_cell(cells: Iterable[Cell]) -> str | None:
    """The one cell that all of these belong to, in one word; None where they are of several, or of none."""
    cells = list(cells)
    models, constitutions = ({getattr(cell, dim) for cell in cells} - {None} for dim in ("model", "constitution"))
    if len(models) > 1 or len(constitutions) > 1:
        return None
    return "/".join([*models, *constitutions]) or None
