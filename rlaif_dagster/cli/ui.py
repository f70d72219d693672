"""`rlaif ui`: Dagster's UI on this project, with its storage set up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

NEXT_PORTS = 20  # after its own that the UI looks at for one to serve reports on


def ui(
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Port of the web page.")] = 3000,
    reports_port: Annotated[
        int | None,
        typer.Option("--reports-port", min=1, max=65535, help="Port of the reports; by default the next free one."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 127.0.0.1 is this machine only.")
    ] = "127.0.0.1",
) -> None:
    """Start Dagster's UI, its daemon and this project; Ctrl-C ends them. Runs and history live in RLAIF_HOME/dagster."""
    from rlaif_dagster.bucket.local_copy import fresh_home
    from rlaif_dagster.errors import UserError
    from rlaif_dagster.home import report_folder, study_folder
    from rlaif_dagster.instance_config import prepare_dagster_home
    from rlaif_dagster.loopback import LOOPBACK
    from rlaif_dagster.report.serving import REPORTS, base_address
    from rlaif_dagster.spec.project import Project

    folder = study_folder()
    workspace = folder / "workspace.yaml"
    if not workspace.exists():
        raise UserError(f"{workspace}: no such file; start the UI in the checkout or in a study made by `rlaif init`")
    Project.current().check()
    if host not in LOOPBACK:
        typer.echo(
            f"The UI asks for no password: everyone who reaches {host} can read the results and start runs. Put a proxy that "
            "asks in front of it, or use the default address and a tunnel (ssh -L) of its port and that of "
            "the reports.", err=True,
        )  # fmt: skip
    _check_free(host, port, "--port")
    reports = _next_free(host, port) if reports_port is None else reports_port
    if reports == port:
        raise UserError(f"--reports-port {reports}: that is the port of the web page; choose another")
    _check_free(host, reports, "--reports-port")
    home = fresh_home()
    address = os.environ.get(REPORTS) or base_address(host, reports)
    environment = os.environ | {REPORTS: address, "DAGSTER_HOME": str(prepare_dagster_home(home))}
    _serve_reports(report_folder(home), host, reports)
    typer.echo(f"Dagster's UI: {base_address(host, port)} (storage {environment['DAGSTER_HOME']}; Ctrl-C ends it)")
    typer.echo(f"Reports: {address}")
    sys.stdout.flush()
    os.chdir(
        folder
    )  # its processes find the study by it, and workspace.yaml names its working directory relative to itself
    dev = ["dev", "-w", str(workspace), "-h", host, "-p", str(port)]
    command = [sys.executable, "-m", "rlaif_dagster.dagster_ui", *dev]
    os.execve(sys.executable, command, environment)


def _next_free(host: str, port: int) -> int:
    """The port after it, or the first one after that on which nobody listens; the one after it where there is none."""
    from rlaif_dagster.errors import UserError

    for number in range(port + 1, min(port + NEXT_PORTS, 65536)):
        with suppress(UserError):
            _check_free(host, number, "--reports-port")
            return number
    return port % 65535 + 1


def _check_free(host: str, port: int, option: str) -> None:
    from rlaif_dagster.errors import UserError

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another with {option}"
            ) from None


def _serve_reports(folder: Path, host: str, port: int) -> None:
    """Beside Dagster, which this process becomes, and for as long: the server reads from a pipe whose other end stays open here."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    command = [sys.executable, "-m", "rlaif_dagster.report.serving", str(folder), host, str(port)]
    subprocess.Popen(command, stdin=reading, start_new_session=True)
    os.close(reading)
