"""What judging has cost so far: the prices of all answers in the judge's cache, in the order in which they were paid.

The cache is the one place through which every paid answer goes, whichever step asked and however the step ended, so a
budget is held against it.
"""

from __future__ import annotations

import sqlite3

from rlaif_dagster.home import Home
from rlaif_dagster.judging.cache import cache_path


def spent_usd(home: Home) -> float:
    """US dollars paid for all answers under this home; 0 where no judge was ever asked."""
    path = cache_path(home)
    if not path.exists():
        return 0.0
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        (total,) = connection.execute("SELECT coalesce(sum(cost_usd), 0) FROM answers").fetchone()
    finally:
        connection.close()
    return float(total)
