"""When Dagster's daemon runs an asset by itself: when the content of what it reads has changed, and never otherwise.

`eager()` runs again although content is equal. This condition latches on a parent's changed data version until the asset
was requested, so an edit whose run failed is not lost, and waits while parents are in progress or missing.
"""

from __future__ import annotations

import dagster as dg

_A = dg.AutomationCondition

_PARENT_CHANGED = _A.any_deps_match(_A.data_version_changed()).since(_A.newly_requested() | _A.initial_evaluation())

CONTENT_CHANGED = (
    ~_A.in_progress()
    & ~_A.any_deps_in_progress()
    & ~_A.any_deps_missing()
    & (_PARENT_CHANGED | _A.code_version_changed() | _A.newly_missing() | _A.execution_failed().newly_true())
).with_label("content of a dependency changed")
