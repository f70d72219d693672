"""Dagster's command line, whose web server is behind a guard against other sites' pages (`same_origin`).

    python -m rlaif_dagster.dagster_ui dev -w workspace.yaml -h 127.0.0.1 -p 3000      what `rlaif ui` becomes
    python -m rlaif_dagster.dagster_ui webserver --host 127.0.0.1 ...                  what `dagster dev` then starts

Dagster has no setting for either, so two of its functions are replaced, in these processes alone. Where a later release has no
such functions, nothing is started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from rlaif_dagster.loopback import LOOPBACK
from rlaif_dagster.same_origin import SameOrigin

NAMES = "RLAIF_UI_NAMES"
WEBSERVER = "webserver"


def guard(host: str) -> dict[str, frozenset[str]]:
    """Under which names the UI may be called: where it listens on this machine alone, under this machine's and those that the
    environment adds (for a proxy in front); else under those of the environment, or any."""
    added = frozenset(os.environ.get(NAMES, "").replace(",", " ").split())
    return {"here": frozenset(LOOPBACK) if host in LOOPBACK else frozenset(), "added": added}


def guarded(command: Sequence[str]) -> list[str]:
    """The command that starts Dagster's web server, behind the guard; any other as it is."""
    if [*command[1:3]] != ["-m", "dagster_webserver"]:
        return [*command]
    return [command[0], "-m", "rlaif_dagster.dagster_ui", WEBSERVER, *command[3:]]


def serve(arguments: Sequence[str]) -> None:
    """Dagster's web server with its own arguments."""
    from dagster_webserver import cli
    from dagster_webserver.webserver import DagsterWebserver
    from starlette.middleware import Middleware

    host = arguments[arguments.index("--host") + 1] if "--host" in arguments else LOOPBACK[0]
    before: Any = Middleware(SameOrigin, **guard(host))
    plain = DagsterWebserver.build_middleware
    DagsterWebserver.build_middleware = lambda self: [before, *plain(self)]  # type: ignore[method-assign]
    sys.argv = ["dagster-webserver", *arguments]
    cli.main()


def main(arguments: Sequence[str]) -> None:
    if arguments[0] == WEBSERVER:
        return serve(arguments[1:])
    from dagster import _cli
    from dagster._cli import dev

    plain = dev.open_ipc_subprocess
    dev.open_ipc_subprocess = lambda command, **keywords: plain(guarded(command), **keywords)
    sys.argv = ["dagster", *arguments]
    return _cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
