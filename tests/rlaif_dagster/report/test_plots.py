from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest

from rlaif_dagster.report import plots
from rlaif_dagster.report.arms import ARMS, DARK, LIGHT
from rlaif_dagster.report.curves import PANELS, Curve
from rlaif_dagster.report.drawing import alone
from rlaif_dagster.report.estimate import Estimate
from rlaif_dagster.report.evidence import Measure, gather
from rlaif_dagster.report.svg import inline
from rlaif_dagster.report.training_plots import learning
from tests.rlaif_dagster.report.study import study_tables

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(color: str) -> np.ndarray:
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("palette", [LIGHT, DARK])
@pytest.mark.parametrize("vision", VISION)
def test_arm_colours_stay_apart_for_every_eye(palette: dict[str, str], vision: str) -> None:
    seen = {arm: lab(VISION[vision] @ linear(palette[arm])) for arm in ARMS}
    assert min(float(np.linalg.norm(seen[a] - seen[b])) for a, b in combinations(ARMS, 2)) > 20


@pytest.mark.parametrize(("palette", "page"), [(LIGHT, "#ffffff"), (DARK, "#14171c")])
def test_arm_colours_stand_out_from_the_page(palette: dict[str, str], page: str) -> None:
    def luminance(color: str) -> float:
        return float(linear(color) @ np.array([0.2126, 0.7152, 0.0722])) + 0.05

    ratios = [luminance(color) / luminance(page) for color in palette.values()]
    assert min(max(ratio, 1 / ratio) for ratio in ratios) >= 3


@pytest.fixture
def measure() -> Measure:
    return gather(study_tables()).suites[0]


def test_an_inline_figure_is_deterministic_themed_and_well_formed(measure: Measure) -> None:
    first, second = (inline(alone(plots.levels(measure)), "one", plots.describe(measure)) for _ in range(2))
    assert first == second
    ElementTree.fromstring(first.replace("xlink:href", "href"))
    assert "var(--dpo)" in first
    assert "currentColor" in first
    assert not re.findall(r"#[0-9a-f]{6}", first)
    assert "DejaVu" not in first
    assert 'aria-label="PKU-SafeRLHF mini: base 58% (46 to 69%)' in first


def test_figures_share_no_id(measure: Measure) -> None:
    one, two = (
        inline(alone(plots.levels(measure)), "one", ""),
        inline(alone(plots.differences(measure, 0.2)), "two", ""),
    )
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in (one, two)]
    assert ids[0]
    assert ids[1]
    assert not set(ids[0]) & set(ids[1])
    for svg, own in zip((one, two), ids, strict=True):
        assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)) <= {(name, "") for name in own} | {
            ("", name) for name in own
        }


def test_a_hostile_name_stays_text(measure: Measure) -> None:
    svg = inline(alone(plots.levels(measure)), "key", '"><script>alert(1)</script>')
    assert "<script>" not in svg


def test_a_level_without_an_interval_is_drawn_without_whiskers() -> None:
    lonely = Measure("k", "K", "capability", {"base": Estimate(0.5, float("nan"), float("nan"), 1)})
    assert "50%" in inline(alone(plots.levels(lonely)), "k", "")


def test_difference_panels_share_the_widest_interval_in_steps_of_five_points() -> None:
    wide = Measure(
        "k",
        "K",
        "capability",
        {},
        {("dpo", "base"): Estimate(-0.05, -0.17, 0.07, 9), ("dpo", "sft"): Estimate(0, -1, 1, 9)},
    )
    assert plots.difference_limit([wide]) == pytest.approx(0.2)
    assert plots.difference_limit([]) == 0.05


def test_a_single_held_out_value_is_visible_as_a_dot() -> None:
    svg = inline(alone(learning(PANELS[0], [Curve("sft", True, [24], [0.9])])), "k", "")
    assert svg.count("<use") >= 1
