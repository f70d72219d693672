"""The study that the commands work on: the definitions, the user's files and the results, put together once.

Importing this is quick; opening the study loads Dagster and the asset graph, about a second.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlaif_dagster.cli.cells import Selection
    from rlaif_dagster.lineage.study import Study
    from rlaif_dagster.resolver import Node


@contextmanager
def loading() -> Iterator[None]:
    """Modules are loaded without Python's collector of cycles, and left out of its later passes. They stay until the
    process ends, and to look through them again and again, at the end once more, took two fifths of a plan's time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if "duckdb" not in sys.modules:  # what it has made must be collected: it complains at the end otherwise
            gc.freeze()


def graph() -> Mapping[str, Node]:
    """The asset graph as plain values."""
    with loading(), warnings.catch_warnings():
        # which parts of Dagster are beta is the developer's concern, and every command would print it
        warnings.filterwarnings("ignore", message=".* is currently in (beta|preview)")
        from rlaif_dagster.definitions import nodes
    return nodes


def open_study(chosen: Selection) -> Study:
    """The study behind a selection. Every file in data/ is checked first: with a wrong one nothing runs."""
    with loading():
        from rlaif_dagster.bucket.local_copy import fresh_home
        from rlaif_dagster.estimates import estimator
        from rlaif_dagster.inputs import check_inputs

    check_inputs(chosen.project)

    nodes = graph()
    from rlaif_dagster.lineage.study import Study

    home = fresh_home()
    return Study(definitions(), nodes, chosen.project, home, estimator(chosen.project, home), load=definitions)


def definitions() -> Any:
    """What Dagster loads."""
    from rlaif_dagster.definitions import defs

    return defs
