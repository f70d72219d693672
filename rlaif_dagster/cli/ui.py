"""`rlaif ui`: Dagster's UI on this project, with its storage set up."""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated

import typer

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def ui(
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Port of the web page.")] = 3000,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 127.0.0.1 is this machine only.")
    ] = "127.0.0.1",
) -> None:
    """Start Dagster's UI, its daemon and this project; Ctrl-C ends them. Runs and history live in RLAIF_HOME/dagster."""
    from rlaif_dagster.bucket.local_copy import fresh_home
    from rlaif_dagster.errors import UserError
    from rlaif_dagster.home import study_folder
    from rlaif_dagster.instance_config import prepare_dagster_home
    from rlaif_dagster.spec.project import Project

    folder = study_folder()
    workspace = folder / "workspace.yaml"
    if not workspace.exists():
        raise UserError(f"{workspace}: no such file; start the UI in the checkout or in a study made by `rlaif init`")
    Project.current().check()
    if host not in LOOPBACK:
        typer.echo(
            f"The UI asks for no password: everyone who reaches {host} can read the results and start runs. Put a proxy that "
            "asks in front of it, or use the default address and a tunnel (ssh -L).", err=True,
        )  # fmt: skip
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None
    environment = os.environ | {"DAGSTER_HOME": str(prepare_dagster_home(fresh_home()))}
    typer.echo(f"Dagster's UI: http://{host}:{port} (storage {environment['DAGSTER_HOME']}; Ctrl-C ends it)")
    sys.stdout.flush()
    os.chdir(
        folder
    )  # its processes find the study by it, and workspace.yaml names its working directory relative to itself
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "-h", host, "-p", str(port)]
    os.execve(sys.executable, command, environment)
