"""The study page: every grid cell (constitution x model) with all its arms on one page, and which of DPO and PPO did better in
each. It links to the cells' own reports, which stand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rlaif_dagster import atomic
from rlaif_dagster.home import Home, report_path
from rlaif_dagster.report.arms import ARMS, POLICIES, label
from rlaif_dagster.report.build import Drawing, page_environment, page_frame, when
from rlaif_dagster.report.cost import cost
from rlaif_dagster.report.drawing import Margins, Plot, alone, color, whisker
from rlaif_dagster.report.estimate import Estimate, joined, percent, signed
from rlaif_dagster.report.evidence import Evidence, gather
from rlaif_dagster.report.plots import slug
from rlaif_dagster.report.svg import INK, PAGE, inline
from rlaif_dagster.report.tables import Row, key_numbers
from rlaif_dagster.report.verdict import Standing, Verdict, findings, standing, verdict
from rlaif_dagster.warehouse.cell import cell_tables
from rlaif_dagster.warehouse.store import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINS = "wins"
_GROUP, _ARM_ROW = 22, 15  # height of a cell's name, of one of its arms


@dataclass(frozen=True)
class StudiedCell:
    """One cell of the grid with what was measured in it."""

    model: str
    constitution: str
    evidence: Evidence
    verdict: Verdict
    standing: Standing
    numbers: tuple[Row, ...]
    link: str
    time: str
    cost: str

    @property
    def name(self) -> str:
        return f"{self.constitution} · {self.model}"


def study_path(home: Home) -> Path:
    """Where the page lies: above the cells' reports."""
    return home.warehouse / "report" / "study.html"


def read_study(home: Home, cells: Sequence[Cell]) -> tuple[list[StudiedCell], list[Cell]]:
    """The cells in which a trained arm was measured, by constitution and model, and those where none was yet."""
    studied, missing = [], []
    for cell in sorted(cells, key=lambda cell: (str(cell.constitution), str(cell.model))):
        tables = cell_tables(home, cell)
        evidence = gather(tables)
        arms = {arm for one in (*evidence.adherence, *evidence.suites) for arm in one.estimates} - {"base"}
        if not arms and not evidence.wins:
            missing.append(cell)
            continue
        page = report_path(home, str(cell.model), str(cell.constitution))
        link = quote(str(page.relative_to(study_path(home).parent))) if page.exists() else ""
        bill = cost(tables)
        studied.append(
            StudiedCell(
                model=str(cell.model), constitution=str(cell.constitution), evidence=evidence, verdict=verdict(evidence),
                standing=standing(findings(evidence, *POLICIES)), numbers=tuple(key_numbers(evidence, tables)), link=link,
                time=bill.total if bill else "–", cost=bill.total_cost if bill else "–",
            )
        )  # fmt: skip
    return studied, missing


def summary(cells: Sequence[StudiedCell]) -> str:
    """Which of the two policies did better, over all cells, without adding up what cannot be added up."""
    compared = [cell for cell in cells if cell.standing != "unknown"]
    if not compared:
        return "DPO and PPO were not compared in any cell yet"
    first, second = (label(arm) for arm in POLICIES)
    if len(compared) == 1:
        return compared[0].verdict.claim
    words = {
        "better": f"{first} did better in {{}}", "worse": f"{second} did better in {{}}",
        "split": "either did better on one count in {}", "even": "they are not distinguishable in {}",
    }  # fmt: skip
    counts = {how: sum(cell.standing == how for cell in compared) for how in words}
    parts = [text.format(counts[how]) for how, text in words.items() if counts[how]]
    return f"Of {len(compared)} cells, {joined(parts)}"


def build_study(cells: Sequence[StudiedCell], missing: Sequence[Cell], generated_at: datetime) -> str:
    """The page as HTML. The same arguments give the same bytes."""
    levels = level_plots(cells)
    return (
        page_environment()
        .get_template("study.html.j2")
        .render(
            cells=cells,
            missing=[f"{cell.constitution} · {cell.model}" for cell in missing],
            claim=summary(cells),
            models=sorted({cell.model for cell in cells}),
            constitutions=sorted({cell.constitution for cell in cells}),
            arms=ARMS,
            differences=_drawn(difference_plots(cells)),
            levels=_drawn(levels),
            generated_at=when(generated_at),
            **page_frame(""),
        )
    )


def write_study(home: Home, cells: Sequence[Cell], generated_at: datetime) -> Path:
    """Read all cells and write the page; returns its path."""
    path = study_path(home)
    atomic.write_text(path, build_study(*read_study(home, cells), generated_at))
    return path


def _drawn(plots: Sequence[Plot]) -> list[Drawing]:
    return [Drawing(plot.title, plot.hint, inline(alone(plot), plot.key, plot.words)) for plot in plots]


def level_plots(cells: Sequence[StudiedCell]) -> list[Plot]:
    """A panel a measure: every cell's arms with their intervals."""
    out = []
    for key, name in _measures(cells).items():
        groups = [(cell.name, _levels(cell.evidence, key)) for cell in cells]
        known = [(cell, levels) for cell, levels in groups if levels]
        out.append(_forest(f"study-{slug(key)}", name, known, (0.0, 1.0), 0.5 if key == WINS else None, points=False))
    return out


def difference_plots(cells: Sequence[StudiedCell]) -> list[Plot]:
    """A panel a measure: DPO minus PPO in every cell, paired item by item; to the right DPO is ahead."""
    first, second = POLICIES
    out = []
    for key, name in _measures(cells).items():
        groups = []
        for cell in cells:
            found = _difference(cell.evidence, key, first, second)
            if found:
                groups.append((cell.name, {first if found.value >= 0 else second: found}))
        if groups:
            widest = max(abs(bound) for _, one in groups for e in one.values() for bound in (e.low, e.high, e.value))
            limit = max(0.05, -(-widest * 1.02 // 0.05) * 0.05)
            out.append(_forest(f"study-difference-{slug(key)}", name, groups, (-limit, limit), 0.0, points=True))
    return out


def _measures(cells: Sequence[StudiedCell]) -> dict[str, str]:
    """Names of all measures of all cells by key: the target first, then the judge, then the suites."""
    adherence = {one.key: one.name for cell in cells for one in cell.evidence.adherence}
    wins = {WINS: "win rate against base"} if any(cell.evidence.wins for cell in cells) else {}
    suites = {one.key: one.name for cell in cells for one in cell.evidence.headlines}
    return {**adherence, **wins, **suites}


def _levels(evidence: Evidence, key: str) -> dict[str, Estimate]:
    if key == WINS:
        return {arm: evidence.wins[arm, "base"].rate for arm in ARMS if (arm, "base") in evidence.wins}
    found = next((one for one in (*evidence.adherence, *evidence.headlines) if one.key == key), None)
    return {arm: found.estimates[arm] for arm in ARMS if arm in found.estimates} if found else {}


def _difference(evidence: Evidence, key: str, arm: str, other: str) -> Estimate | None:
    """For the judge, the win rate's distance from one half."""
    if key == WINS:
        win = evidence.wins.get((arm, other))
        if win is None:
            return None
        rate = win.rate
        return replace(rate, value=rate.value - 0.5, low=rate.low - 0.5, high=rate.high - 0.5)
    found = next((one for one in (*evidence.adherence, *evidence.headlines) if one.key == key), None)
    return found.differences.get((arm, other)) if found else None


def _forest(
    key: str,
    name: str,
    groups: Sequence[tuple[str, dict[str, Estimate]]],
    limits: tuple[float, float],
    line: float | None,
    *,
    points: bool,
) -> Plot:
    """Points with intervals, a block of rows a cell, its name above it; a value's text stands at the right."""
    rows = sum(len(estimates) for _, estimates in groups)
    height = _GROUP * len(groups) + _ARM_ROW * rows + 30

    def draw(axes: Axes) -> None:
        y = 0.0
        for cell, estimates in groups:
            axes.annotate(
                cell, (0, y + _GROUP * 0.62), (-36, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                fontsize=9, va="center", ha="left", annotation_clip=False, fontweight="bold", zorder=4,
                bbox={"facecolor": PAGE, "linewidth": 0, "pad": 1.5},
            )  # fmt: skip
            y += _GROUP
            for arm, estimate in estimates.items():
                middle = y + _ARM_ROW / 2
                solid = bool(estimate.sign()) if points else True
                axes.errorbar(
                    estimate.value, middle, xerr=whisker(estimate), fmt="o", markersize=6, color=color(arm), capsize=2.5,
                    markerfacecolor=color(arm) if solid else "none", markeredgewidth=1.5, elinewidth=1.5, zorder=3, clip_on=False,
                )  # fmt: skip
                text = signed(100 * estimate.value, estimate.n) if points else estimate.share
                for at, ha, said in ((0, "right", "" if points else label(arm)), (1, "left", text)):
                    axes.annotate(
                        said, (at, middle), (-8 if at == 0 else 8, 0), xycoords=("axes fraction", "data"),
                        textcoords="offset points", fontsize=9, va="center", ha=ha, annotation_clip=False,
                    )  # fmt: skip
                y += _ARM_ROW
        axes.set_ylim(y + 4, 0)
        axes.set_xlim(*limits)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        if points:
            axes.locator_params(axis="x", nbins=5)
            axes.xaxis.set_major_formatter(lambda value, _: signed(100 * value))
        else:
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1], [percent(tick) for tick in (0, 0.25, 0.5, 0.75, 1)])
        if line is not None:
            axes.axvline(line, color=INK, linewidth=1, zorder=1.8)
        axes.grid(axis="x", zorder=0)

    tell = partial(_tell, points)
    words = f"{name}: {'; '.join(f'{cell}, {joined([*map(tell, one.items())])}' for cell, one in groups)}"
    title = name[:1].upper() + name[1:]
    hint = "DPO minus PPO, in points" if points else ""
    if points and key.endswith(WINS):
        title, hint = "The judge's choice", "win rate of DPO over PPO, less one half, in points"
    return Plot(key, title, hint, words, 340, height, Margins(40, 44, 22, 2), draw)


def _tell(points: bool, of: tuple[str, Estimate]) -> str:
    arm, estimate = of
    if points:
        return f"{estimate.points} ({estimate.points_range})"
    return f"{label(arm)} {estimate.share} ({estimate.share_range})"
