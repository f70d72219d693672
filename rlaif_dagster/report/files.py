"""The report's files of one grid cell: report.html, report.md, and the plots in plots/, all beside each other."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rlaif_dagster import atomic
from rlaif_dagster.report.build import build_report
from rlaif_dagster.report.cell import CellReport
from rlaif_dagster.report.paper import FORMS, build_markdown, paper_plots


def write_report(page: Path, cell: CellReport) -> None:
    """Write the page and, beside it, report.md and plots/. Each file is replaced whole, the page last: who finds a new page
    finds everything else new as well. Plots that the cell no longer has are removed."""
    plots, drawn = page.parent / "plots", paper_plots(cell)
    for name, content in drawn.items():
        atomic.write_file(plots / name, partial(_write, content))
    for old in [file for form in FORMS for file in plots.glob(f"*.{form}")]:
        if old.name not in drawn:
            old.unlink()
    atomic.write_text(page.with_suffix(".md"), build_markdown(cell))
    atomic.write_text(page, build_report(cell))


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)
