"""The process of one step that `rlaif up` makes beside others: `python -m rlaif_dagster.cli.apart PARENT DESCRIPTOR`.

It is given its errand over the descriptor, says there what happens and how it ended, and ends with the command line that
started it, even where that was killed: nobody would know of what it went on to spend.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection

from rlaif_dagster.cli.cells import Selection
from rlaif_dagster.cli.study import open_study
from rlaif_dagster.errors import UserError

SECONDS_BETWEEN_LOOKS = 0.5


def main() -> None:
    """Make the one step."""
    parent, descriptor = (int(argument) for argument in sys.argv[1:])
    _end_with(parent)
    connection = Connection(descriptor)
    try:
        _run(connection)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(connection: Connection) -> None:
    from rlaif_dagster.judging.ledger import act_for
    from rlaif_dagster.lineage.apart import Ending, Errand
    from rlaif_dagster.spec.project import Project

    errand: Errand = connection.recv()
    act_for(errand.payer)
    try:
        study = open_study(Selection(Project.current(), errand.models, errand.constitutions))
        from rlaif_dagster.lineage.carrying import make_one

        connection.send(make_one(replace(study, began=errand.began), errand, connection.send))
    except UserError as error:
        connection.send(Ending(wrong=str(error)))


def _end_with(parent: int) -> None:
    """The parent says who it is: if it was killed while this process was loading, another one is the parent by now."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    main()
