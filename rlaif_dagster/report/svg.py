"""Matplotlib figures as inline SVG that belongs to the page.

Text stays text (selectable, in the page's own font), ink and rules take the page's colours and an arm its CSS variable, so
one drawing serves light, dark and print. The bytes are deterministic, and no two figures share an id.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from rlaif_dagster.report.arms import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#101112"  # stands for the page's text colour
FAINT = "#a0a1a2"  # stands for the page's colour of rules and grids
PAGE = "#fdfefd"  # stands for the page itself, behind a text that lines would cross

_VARIABLES = {INK: "currentColor", FAINT: "var(--rule)", PAGE: "var(--page)"} | {
    color: f"var(--{arm})" for arm, color in LIGHT.items()
}

STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a task's name may hold a dollar sign
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout on every machine
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
}


def inline(figure: Figure, key: str, label: str) -> Markup:
    """The figure as an `<svg>` element. `key` is unique on the page; `label` is what a screen reader says."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    view = re.search(r'viewBox="([^"]+)"', text)
    body = re.search(r"<svg[^>]*>(.*)</svg>", text, re.S)
    if view is None or body is None:
        raise ValueError(f"figure {key}: matplotlib wrote no SVG")
    content = re.sub(r"\s*<metadata>.*?</metadata>", "", body[1], flags=re.S)
    content = _own_ids(_page_font(_page_colors(content)), key)
    return Markup(f'<svg role="img" aria-label="{escape(label)}" viewBox="{view[1]}">{content}</svg>')


def _page_colors(content: str) -> str:
    for color, variable in _VARIABLES.items():
        content = content.replace(color, variable)
    return content


def _page_font(content: str) -> str:
    """Sizes and weights stay, the family is the page's."""
    return re.sub(r"font-family: [^;\"]*;? ?", "", content)


def _own_ids(content: str, key: str) -> str:
    """Ids that something refers to get the figure's key in front; the others go."""
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', content))
    names = {name for pair in used for name in pair if name}
    content = re.sub(r' id="([^"]+)"', lambda match: f' id="{key}-{match[1]}"' if match[1] in names else "", content)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", content)
