"""`rlaif init`: a study of one's own, in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new study's folder.")],
    constitution: Annotated[
        list[str] | None,
        typer.Option(
            "--constitution",
            "-c",
            metavar="NAME",
            help="Of the package, to start from; repeatable. Default: structured.",
        ),
    ] = None,
) -> None:
    """Start a study in DIR: data/ to edit, a workspace.yaml for Dagster, a README. Overwrites nothing."""
    from rlaif_dagster.starter import make_study

    made = make_study(folder, list(dict.fromkeys(constitution or ["structured"])))
    typer.echo(f"A study in {made}: edit what is in data/, then `cd {folder} && rlaif plan`")
