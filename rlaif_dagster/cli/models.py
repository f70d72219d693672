"""`rlaif models`: the base models of data/models, and fetching them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.cli.cells import EVERY, select
from rlaif_dagster.cli.screen import results
from rlaif_dagster.model_files import cached_folder

if TYPE_CHECKING:
    from rlaif_dagster.spec.model import ModelSpec

app = typer.Typer(help="The base models of data/models: list them, fetch them.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """Every model file: where its weights come from, at which revision, and whether they are here already."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from rlaif_dagster.home import current_home

    chosen = select([EVERY], [EVERY])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("model", "source", "revision", "dtype", "here", "license"):
        table.add_column(column, overflow="fold", no_wrap=column in ("model", "here"))
    home = current_home()
    for name in chosen.models:
        spec = chosen.project.model(name)
        here = "yes" if cached_folder(spec, home) else "no"
        table.add_row(name, source(spec), spec.revision[:12], spec.dtype, here, Text(spec.license))
    results().print(table)


@app.command("pull")
def pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names in data/models; `all`. Default: data/study.yaml."),
    ] = None,
) -> None:
    """Fetch and verify base models, so that later runs need no network; prints each folder."""
    chosen = select(names, [EVERY])
    from rlaif_dagster.home import current_home
    from rlaif_dagster.language.embedded import pull as fetch

    for name in chosen.models:
        typer.echo(f"{name}: {fetch(name, chosen.project.model(name), current_home())}")


def source(spec: ModelSpec) -> str:
    """Where the weights come from, in a few words."""
    if spec.package:
        return f"package {spec.package.name} {spec.package.version}"
    return f"hub {spec.hub.repo}" if spec.hub else f"folder {spec.folder}"
