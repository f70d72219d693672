"""The comparison of judges: the same questions on both sides, our own run for real, and how the figures are put together."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench.judge import _run, asked, pairs_of, server, summary
from bench.measurement import WrongResult


def test_the_peer_is_asked_what_we_ask() -> None:
    questions = asked(4)
    assert len(questions) == 4
    assert questions[0]["system_prompt"] == questions[1]["system_prompt"]
    first, second = (question["instruction"] for question in questions[:2])
    assert (first.index("A good") < first.index("A bad")) != (second.index("A good") < second.index("A bad"))
    assert len({one.pair_id for one in pairs_of(100)}) == 50


def test_our_side_answers_everything(tmp_path: Path) -> None:
    with server(0.05) as url:
        taken = _run([sys.executable, "-m", "bench.judge_run", url, str(tmp_path), "8", "8", "32"], "ours")
    assert len(taken["answers"]) == 32
    assert {json.loads(answer)["verdict"] for answer in taken["answers"]} == {"A", "B"}
    assert taken["wall"] >= 32 / 8 * 0.05
    assert 0 < taken["cpu"] < taken["wall"] * 4


def test_figures_by_hand() -> None:
    content = json.loads(
        summary(
            {"wall": 32.0, "cpu": 4.0, "answers": ["x"] * 1920}, {"wall": 40.0, "cpu": 8.0, "answers": ["x"] * 1920},
            verdicts=1920, concurrency=64, latency=1.0,
        ).line()
    )  # fmt: skip
    assert content["ratios"] == {"of_ideal": 0.9375, "cpu_per_request": 0.5}
    assert (content["ours"]["verdicts_per_second"], content["peer"]["verdicts_per_second"]) == (60.0, 48.0)
    assert content["peer"]["of_ideal"] == 0.75


@pytest.mark.parametrize("theirs", [["x"], ["x", "y"]])
def test_a_lost_or_other_answer_stops_the_comparison(theirs: list[str]) -> None:
    taken = {"wall": 1.0, "cpu": 1.0}
    with pytest.raises(WrongResult, match="of 2 answers ours has 2 and the peer"):
        summary({**taken, "answers": ["x", "x"]}, {**taken, "answers": theirs}, verdicts=2, concurrency=1, latency=1.0)
