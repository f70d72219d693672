"""The notebooks in docs/ run from their first cell to their last on a study that was really made."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from rlaif_dagster.home import CHECKOUT
from tests.checkout import Checkout

NOTEBOOKS = sorted((CHECKOUT / "docs" / "notebooks").glob("*.ipynb"))


def outputs(notebook: nbformat.NotebookNode) -> str:
    """All that the cells printed and showed, as text."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            found.append(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(found)


@pytest.fixture(scope="module")
def made(tiny_study: Checkout) -> Checkout:
    tiny_study.up()
    return tiny_study


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_the_study(path: Path, made: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_DATA", str(made.data))
    monkeypatch.setenv("RLAIF_HOME", str(made.home))
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(CHECKOUT)}}).execute()
    shown = outputs(notebook)
    for arm in ("base", "dpo"):
        assert re.search(rf"\b{arm}\b", shown)
    if path.stem == "reading_results":
        [count] = made.rows("select count(*) as n from lineage")
        assert f"\n{count['n'] - 1} " in shown  # the last row of the lineage
        assert "Empty DataFrame" not in shown
    else:
        assert re.search(r"dpo - base: [+-]0\.\d{3} \([+-]\d\.\d{3} to [+-]\d\.\d{3}\), n = 2", shown)
        [pairs] = made.rows("select count(*) as n from preference_pairs")
        assert f"of {pairs['n']} pairs" in shown


def test_notebooks_are_committed_without_their_outputs() -> None:
    """Outputs are somebody's results, and make every difference unreadable."""
    assert len(NOTEBOOKS) == 2
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None
