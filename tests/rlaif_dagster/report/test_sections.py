from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from rlaif_dagster.report.sections import (
    Answer,
    Asked,
    agreement_rows,
    anchor,
    contest_notes,
    duration,
    lineage_rows,
    pair_samples,
    side_by_side,
    sources,
    verdict_kinds,
    within,
)
from tests.rlaif_dagster.report.study import study_tables


def record(asset: str, version: str, hour: int, *parents: tuple[str, str]) -> dict[str, object]:
    upstream = [{"asset": name, "partition": None, "version": of} for name, of in parents]
    return {
        "asset": asset, "partition": None, "data_version": version, "code_version": "1", "upstream": upstream, "run_id": "r",
        "started_at": datetime(2026, 1, 1, hour), "seconds": 30.0, "cost_usd": 0.5,
    }  # fmt: skip


def test_lineage_shows_the_latest_of_each_asset_parents_first() -> None:
    lineage = pd.DataFrame([
        record("pairs", "v2", 3, ("judgments", "v1")), record("judgments", "v0", 1), record("judgments", "v1", 2),
        record("report", "x", 4, ("pairs", "v2")),
    ])  # fmt: skip
    rows = lineage_rows(lineage)
    assert [(row.asset, row.data_version) for row in rows] == [("judgments", "v1"), ("pairs", "v2")]
    assert rows[1].upstream[0].anchor == rows[0].anchor
    assert not rows[1].upstream[0].replaced


def test_lineage_says_when_a_parent_was_replaced_and_links_only_what_is_there() -> None:
    lineage = pd.DataFrame(
        [record("judgments", "v9", 5), record("pairs", "v2", 3, ("judgments", "v1"), ("recipe", "r1"))]
    )
    parents = {parent.asset: parent for parent in lineage_rows(lineage)[1].upstream}
    assert parents["judgments"].replaced
    assert (parents["recipe"].anchor, parents["recipe"].replaced) == ("", False)


def test_an_anchor_is_a_plain_word_whatever_the_partition() -> None:
    assert anchor("ppo_model", "structured|smollm2-135m") == "lineage-ppo-model-structured-smollm2-135m"


def test_sources_follow_the_order_asked_for() -> None:
    rows = lineage_rows(study_tables()["lineage"])
    assert [row.asset for row in sources(rows, ["qualitative", "adherence", "nothing"])] == ["qualitative", "adherence"]


def test_pair_samples_reach_from_the_clearest_to_the_closest() -> None:
    margins = [0.1, 0.9, 0.5, 0.3, 0.7, 0.2, 0.8]
    pairs = pd.DataFrame({"margin": margins, "pair_id": [str(m) for m in margins], "p_chosen": 0.5}).assign(
        prompt="?", chosen="c", rejected="r", split="held_out"
    )
    assert [sample["margin"] for sample in pair_samples(pairs)] == ["0.90", "0.70", "0.30", "0.10"]
    assert pair_samples(pairs)[0]["split"] == "held out"
    assert len(pair_samples(pairs.head(1))) == 1
    assert pair_samples(pairs.head(0)) == []


def test_answers_stand_side_by_side_with_references_and_every_grade() -> None:
    rows = [("dpo", "likelihood", 0.9), ("dpo", "human", 0.4), ("base", "likelihood", np.nan)]
    qualitative = pd.DataFrame(rows, columns=["arm", "grader", "alignment_grade"]).assign(
        prompt_id="p",
        category="factual",
        prompt="Where?",
        response="Here.",
        correctness_grade=1.0,
        rationale=None,
        seed=0,
    )
    prompts = pd.DataFrame({"prompt_id": ["p", "q"], "reference": [np.array(["here", "there"], dtype=object), None]})
    (asked,) = side_by_side(qualitative, prompts)
    assert asked.references == ("here", "there")
    assert [answer.arm for answer in asked.answers] == ["base", "dpo"]
    assert asked.answers[1].grades == (("likelihood", "0.90", "1.00", ""), ("human", "0.40", "1.00", ""))
    assert asked.answers[0].alignment == ""


def test_a_judge_is_trusted_only_above_the_longer_answer() -> None:
    base = {
        "judge": "j",
        "n": 60,
        "accuracy": 0.73,
        "ci_low": 0.6,
        "ci_high": 0.83,
        "kappa": np.nan,
        "order_consistency": None,
    }
    frame = pd.DataFrame(
        [base | {"dataset": "a", "longest_baseline": 0.45}, base | {"dataset": "b", "longest_baseline": 0.65}]
    )
    assert [(row["dataset"], row["trusted"], row["kappa"]) for row in agreement_rows(frame)] == [
        ("a", True, ""),
        ("b", False, ""),
    ]


def test_verdict_kinds_are_shares_of_a_principles_verdicts() -> None:
    frame = pd.DataFrame({"principle_id": "truth", "verdict": ["a", "a", "tie", "refused"]})
    assert verdict_kinds(frame) == [("truth", 4, ["50%", "", "25%", "25%", "", ""])]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.2, "4.2 s"), (42, "42 s"), (59.9, "1 min 00 s"), (207, "3 min 27 s"), (7500, "2 h 05 min"), (None, "–")],
)
def test_durations_read_like_a_clock(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_contests_are_qualified_by_orders_format_and_missing_verdicts() -> None:
    frame = pd.DataFrame({
        "order_consistent": [0.9, 0.7], "format_n": [30, 10], "format_agreement": [1.0, 0.6], "unjudged": [0, 3],
    })  # fmt: skip
    assert contest_notes(frame) == [
        "Both orders of the two answers gave the same preference in 80% of meetings.",
        "Of 40 meetings in which exactly one answer has the constitution's format, the judge prefers that one in 90%.",
        "3 meetings have no verdict and count for nobody.",
    ]
    assert contest_notes(frame.assign(order_consistent=None, format_n=0, unjudged=0)) == []
    assert contest_notes(pd.DataFrame({"wins_a": [1]})) == []


def test_prompts_are_left_out_evenly_when_there_is_no_room() -> None:
    def asked(name: str, category: str) -> Asked:
        return Asked(name, category, "?", (), (Answer("dpo", "x" * 99, ()),))

    every = [asked("a", "factual"), asked("b", "factual"), asked("c", "factual"), asked("d", "adversarial")]
    assert [one.prompt_id for one in within(every, 200)] == ["a", "d"]
    assert within(every, 400) == every
