"""`rlaif`: the commands put together, and the one place where a `UserError` becomes a line and exit status 2."""

from __future__ import annotations

import sys

import typer

from rlaif_dagster.cli import (
    backfill,
    chat,
    compare,
    doctor,
    export,
    gc,
    init,
    judge,
    lineage,
    models,
    plan,
    report,
    sql,
    status,
    ui,
    up,
)
from rlaif_dagster.errors import UserError

app = typer.Typer(
    name="rlaif",
    help="RLAIF on small models: constitution -> preferences -> SFT, DPO and PPO -> what was gained and lost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its tracebacks print local variables, and a local variable may hold a key
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)

STUDY, RESULTS, POLICIES, MACHINE = "The study", "Its results", "Its policies", "This machine"

app.command("init", rich_help_panel=STUDY)(init.init)
app.command("plan", rich_help_panel=STUDY)(plan.plan)
app.command("up", rich_help_panel=STUDY)(up.up)
app.command("status", rich_help_panel=STUDY)(status.status)
app.command("judge", rich_help_panel=STUDY)(judge.judge)
app.command("backfill", rich_help_panel=STUDY)(backfill.backfill)
app.command("ui", rich_help_panel=STUDY)(ui.ui)
app.command("report", rich_help_panel=RESULTS)(report.report)
app.command("sql", rich_help_panel=RESULTS)(sql.sql)
app.command("compare", rich_help_panel=RESULTS)(compare.compare)
app.command("lineage", rich_help_panel=RESULTS)(lineage.lineage)
app.command("chat", rich_help_panel=POLICIES)(chat.chat)
app.command("export", rich_help_panel=POLICIES)(export.export)
app.add_typer(models.app, name="models", rich_help_panel=MACHINE)
app.command("gc", rich_help_panel=MACHINE)(gc.gc)
app.command("doctor", rich_help_panel=MACHINE)(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        from rlaif_dagster import __version__

        typer.echo(f"rlaif {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options that belong to no command."""


def main() -> None:
    """Run the command line. A `UserError` is the user's to fix: one line on stderr, status 2, no traceback."""
    try:
        app()
    except UserError as error:
        print(f"rlaif: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
