"""Pictures in place: short enough for Dagster's page, well-formed, and what they show is where it must be."""

from __future__ import annotations

import math
import re
from urllib.parse import unquote
from xml.etree import ElementTree

import pandas as pd

from assets.small_pictures import HEIGHT, IN_PLACE, LABEL, LEFT, WIDTH, curves_in_place, levels_in_place
from rlaif_dagster.report.curves import PANELS, Curve

SVG = "{http://www.w3.org/2000/svg}"


def drawn(markdown: str) -> tuple[list[str], list[str]]:
    """The paths and the texts of the drawing, which a page could show in place."""
    assert len(markdown) <= IN_PLACE
    found = re.fullmatch(r"!\[[^\]]*\]\(data:image/svg\+xml,([^\s()<>\"]+)\)", markdown)
    assert found
    root = ElementTree.fromstring(unquote(found[1]))
    return [p.attrib["d"] for p in root.iter(f"{SVG}path")], [str(t.text) for t in root.iter(f"{SVG}text")]


def ends(path: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where a path begins and where it ends."""
    x, y, *moves = (int(number) for number in re.findall(r"-?\d+", path))
    return (x, y), (x + sum(moves[::2]), y + sum(moves[1::2]))


def test_a_curve_falls_from_its_highest_to_its_lowest_value() -> None:
    [path], texts = drawn(curves_in_place(PANELS[0], [Curve("sft", False, [0, 5, 10], [4.0, 2.0, 1.0])]))
    assert ends(path) == ((LEFT, 3), (WIDTH - 4, HEIGHT - 3))
    assert texts == ["4", "1"]


def test_what_rounding_leaves_is_nothing_on_the_scale() -> None:
    _, texts = drawn(curves_in_place(PANELS[0], [Curve("ppo", False, [0, 10], [-9.9e-8, 4.5])]))
    assert texts == ["4.5", "0"]
    _, texts = drawn(curves_in_place(PANELS[0], [Curve("ppo", False, [0, 10], [-9e-8, 1e-7])]))
    assert texts == ["1e-07", "-9e-08"]


def test_training_and_held_out_share_one_scale() -> None:
    training, held_out = Curve("sft", False, [0, 10], [3.0, 1.0]), Curve("sft", True, [10], [2.0])
    paths, texts = drawn(curves_in_place(PANELS[0], [training, held_out]))
    assert texts == ["3", "1"]
    assert ends(paths[0]) == ((LEFT, 3), (WIDTH - 4, HEIGHT - 3))
    assert ends(paths[1]) == ((WIDTH - 4, HEIGHT // 2), (WIDTH - 4, HEIGHT // 2))  # a point in the middle


def test_long_and_flat_curves_fit() -> None:
    steps = list(range(1, 201))
    wild = [1e4 * math.sin(step) for step in steps]
    paths, _ = drawn(curves_in_place(PANELS[0], [Curve("sft", out, steps, wild) for out in (False, False, True)]))
    assert len(paths) == 2  # of the first seed
    [flat], texts = drawn(curves_in_place(PANELS[0], [Curve("sft", False, steps, [0.5] * 200)]))
    assert texts == ["0.5", "0.5"]
    assert ends(flat)[0][1] == ends(flat)[1][1]


def rows(*tasks: str) -> pd.DataFrame:
    row = {"metric": "acc", "value": 0.5, "ci_low": 0.0, "ci_high": 1.0, "seed": 0}
    return pd.DataFrame([row | {"task": task} for task in tasks])


def test_a_level_is_a_dot_in_its_interval_beside_its_name() -> None:
    (frame, intervals, dots), texts = drawn(levels_in_place(rows("mmlu_mini")))
    scale = WIDTH - LABEL - 4
    assert frame.startswith(f"M{LABEL},0")
    assert intervals == f"M{LABEL},7h{scale}"
    assert dots == f"M{LABEL + scale // 2},7h0"
    assert texts == ["mmlu_mini acc"]


def test_what_has_no_interval_is_a_dot_and_what_has_no_value_is_left_out() -> None:
    single = rows("one_item", "no_item", "beyond").assign(ci_low=None, ci_high=None, value=[0.5, None, 40.0])
    (_, intervals, dots), texts = drawn(levels_in_place(single.astype({"ci_low": float, "ci_high": float})))
    assert texts == ["beyond acc", "one_item acc"]
    assert intervals == ""
    assert dots.startswith(f"M{WIDTH - 4},7h0")


def test_names_are_text_and_many_rows_are_cut() -> None:
    _, texts = drawn(levels_in_place(rows("a<b>&'\"", "100% (x)")))
    assert texts == ["100% (x) acc", "a<b>&'\" acc"]
    _, texts = drawn(levels_in_place(rows(*(f"a_task_with_a_long_name_{n:02}" for n in range(40)))))
    assert 3 < len(texts) < 40
    assert texts[0] == "a_task_with_a_long_name_00 acc"
