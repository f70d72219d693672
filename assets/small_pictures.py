"""Pictures that Dagster's page shows in place.

Its page (1.13.27) draws Markdown where it stands only below 1,000 characters, and puts the rest behind a button. A drawing in
SVG, with whole pixels and few points, fits into that as the address of an image; one from matplotlib never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

import pandas as pd

from rlaif_dagster.report.curves import Curve, Panel

IN_PLACE = 999  # characters at most
WIDTH, HEIGHT, LEFT = 300, 64, 44  # pixels; the curves begin right of their scale
POINTS = (60, 40, 25, 15, 8)  # of a curve: as many as fit
KEPT = "'/:=,.-;!*+@$?"  # of an address, beside letters and digits
ROW, LABEL = 15, 150  # pixels: a level's height, and the width of its name
COLORS = {False: "steelblue", True: "darkorange"}  # training, held out: legible on light and on dark


def curves_in_place(panel: Panel, curves: Sequence[Curve]) -> str:
    """A quantity's curve in training and, beside it, on held-out data; of the first seed. The scale is the whole range."""
    first = {curve.held_out: curve for curve in reversed(curves) if curve.values}
    values = [value for curve in first.values() for value in curve.values]
    last = max(curve.steps[-1] for curve in first.values())
    low, high = min(values), max(values)
    for points in POINTS:
        drawn = [_text(0, 11, _number(high, high - low)), _text(0, HEIGHT - 2, _number(low, high - low))]
        drawn += [
            _stroke(_line(curve, last, low, high, points), COLORS[held_out], 2)
            for held_out, curve in sorted(first.items())
        ]
        picture = _picture(panel.title, WIDTH, HEIGHT, drawn)
        if len(picture) <= IN_PLACE:
            return picture
    return panel.title


def levels_in_place(benchmarks: pd.DataFrame) -> str:
    """A dot and, where there is one, its interval a task and metric, from 0 to 1, over all seeds' means; as many rows as
    fit. What lies beyond is drawn at the edge."""
    columns = ["value", "ci_low", "ci_high"]
    rows = benchmarks.groupby(["task", "metric"], as_index=False, sort=True)[columns].mean().dropna(subset=["value"])
    rows[columns] = rows[columns].clip(0.0, 1.0)
    scale = WIDTH - LABEL - 4
    for shown in range(len(rows), 0, -1):
        intervals = dots = ""
        names = []
        for place, row in enumerate(rows.head(shown).to_dict("records")):
            middle = place * ROW + ROW // 2
            known = {name: LABEL + round(row[name] * scale) for name in columns if not pd.isna(row[name])}
            dot = known["value"]
            if len(known) == len(columns):
                intervals += f"M{known['ci_low']},{middle}h{max(known['ci_high'] - known['ci_low'], 1)}"
            dots += f"M{dot},{middle}h0"
            names.append(_text(0, middle + 4, f"{row['task']} {row['metric']}"))
        frame = f"M{LABEL},0v{shown * ROW}m{scale},0v-{shown * ROW}"
        drawn = [_stroke(frame, "silver"), _stroke(intervals, "silver", 4), _stroke(dots, COLORS[False], 6), *names]
        picture = _picture("benchmarks with 95% intervals, from 0 to 1", WIDTH, shown * ROW, drawn)
        if len(picture) <= IN_PLACE:
            return picture
    return "no level fits here"


def _number(value: float, scale: float) -> str:
    """A value in short; what is nothing on this scale (a KL of -1e-8, from rounding) as 0."""
    return f"{value if abs(value) > scale / 1000 else 0.0:.3g}"


def _line(curve: Curve, last: int, low: float, high: float, points: int) -> str:
    """An SVG path through the means of at most so many runs of neighbours, each at its run's last step."""
    size = -(-len(curve.values) // points)
    runs = [curve.values[start : start + size] for start in range(0, len(curve.values), size)]
    steps = [curve.steps[min(start + size, len(curve.steps)) - 1] for start in range(0, len(curve.steps), size)]
    places = [
        (
            LEFT + round((WIDTH - LEFT - 4) * step / max(last, 1)),
            3 + round((HEIGHT - 6) * (high - sum(run) / len(run)) / ((high - low) or 1.0)),
        )
        for step, run in zip(steps, runs, strict=True)
    ]
    (x, y), path = places[0], f"M{places[0][0]},{places[0][1]}l"
    for right, down in places[1:] or places:
        path += f"{right - x},{down - y},"
        x, y = right, down
    return path.rstrip(",").replace(",-", "-")


def _stroke(path: str, color: str, width: int = 1) -> str:
    thick = f" stroke-width='{width}' stroke-linecap='round'" if width > 1 else ""
    return f"<path d='{path}' fill='none' stroke='{color}'{thick}/>"


def _text(x: int, y: int, text: str) -> str:
    place = f"x='{x}' " if x else ""
    return f"<text {place}y='{y}'>{escape(text)}</text>"


def _picture(label: str, width: int, height: int, drawn: Sequence[str]) -> str:
    """As Markdown, with an address that is the drawing itself."""
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}'>"
        f"<g fill='gray' font-size='11' font-family='sans-serif'>{''.join(drawn)}</g></svg>"
    )
    return f"![{label}](data:image/svg+xml,{quote(svg, safe=KEPT)})"
