"""`rlaif report`: where the HTML reports lie, the page over the whole grid, and people's grades on their way in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, Selection, cell_name, select


def report(
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
    study: Annotated[
        bool, typer.Option("--study", help="The page over all cells, every model and constitution; written anew.")
    ] = False,
    add_grades: Annotated[
        Path | None,
        typer.Option("--add-grades", metavar="FILE", help="Add the grades that you gave in a report to data/labels."),
    ] = None,
    open: Annotated[bool, typer.Option("--open", help="Open it in the browser too.")] = False,
) -> None:
    """Print the path of the HTML report, one line a cell; `--open` shows it in the browser.

    Beside it lie report.md and the plots as SVG and PDF. With `--add-grades` it only takes grades in.
    """
    from rlaif_dagster.errors import UserError

    if add_grades is not None:
        typer.echo(_added(add_grades))
        return
    paths = [_study_page()] if study else _pages(select(model, constitution))
    import webbrowser

    for path in paths:
        typer.echo(path)
        if open and not webbrowser.open(path.as_uri()):
            raise UserError(f"no browser could be started; open {path} yourself")


def _pages(chosen: Selection) -> list[Path]:
    from rlaif_dagster.bucket.local_copy import fresh_home
    from rlaif_dagster.errors import UserError
    from rlaif_dagster.home import report_path

    home = fresh_home()
    paths = {cell: report_path(home, str(cell.model), str(cell.constitution)) for cell in chosen.cells()}
    missing = [cell_name(cell) for cell, path in paths.items() if not path.exists()]
    if missing:
        raise UserError(f"no report yet for {', '.join(missing)}; run `rlaif up` with the same options to make it")
    return list(paths.values())


def _study_page() -> Path:
    """The page over every cell that the files in data/ span, made from the tables as they are now."""
    from datetime import UTC, datetime

    from rlaif_dagster.bucket.local_copy import fresh_home
    from rlaif_dagster.cli.cells import EVERY
    from rlaif_dagster.report.study import write_study

    return write_study(fresh_home(), list(select([EVERY], [EVERY]).cells()), datetime.now(UTC))


def _added(file: Path) -> str:
    from rlaif_dagster.cli.wording import plural
    from rlaif_dagster.home import data_folder
    from rlaif_dagster.judging.labels import GRADES
    from rlaif_dagster.report.grades import add_grades

    labels = data_folder() / "labels"
    new, replaced = add_grades(file, labels)
    return f"{labels / GRADES}: {plural(new, 'new grade')}, {replaced} replaced; `rlaif up` takes them in"
