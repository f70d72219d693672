"""Half a checkpoint is none."""

from __future__ import annotations

from pathlib import Path

from rlaif_dagster.training.checkpoints import discard_incomplete, latest, mark_complete


def test_the_latest_whole_one_is_found_and_half_ones_go(tmp_path: Path) -> None:
    assert latest(tmp_path / "never") is None
    for step in (5, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-old").mkdir()
    assert latest(tmp_path) is None
    mark_complete(tmp_path / "checkpoint-5", 1.5)
    mark_complete(tmp_path / "checkpoint-10", 3.5)
    found = latest(tmp_path)
    assert found is not None
    assert (found.path.name, found.step, found.seconds) == ("checkpoint-10", 10, 3.5)
    discard_incomplete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-5"]
