"""`rlaif report`: where the HTML report lies."""

from __future__ import annotations

from typing import Annotated

import typer

from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, cell_name, select


def report(
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
    open: Annotated[bool, typer.Option("--open", help="Open it in the browser too.")] = False,
) -> None:
    """Print the path of the HTML report, one line a cell; `--open` shows it in the browser."""
    import webbrowser

    from rlaif_dagster.errors import UserError
    from rlaif_dagster.home import current_home, report_path

    home = current_home()
    paths = {
        cell: report_path(home, str(cell.model), str(cell.constitution)) for cell in select(model, constitution).cells()
    }
    missing = [cell_name(cell) for cell, path in paths.items() if not path.exists()]
    if missing:
        raise UserError(f"no report yet for {', '.join(missing)}; run `rlaif up` with the same options to make it")
    for path in paths.values():
        typer.echo(path)
        if open and not webbrowser.open(path.as_uri()):
            raise UserError(f"no browser could be started; open {path} yourself")
