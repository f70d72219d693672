from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlaif_dagster.judging.agreement import COLUMNS, agreement, kappa, longest
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.labels import LabelledPair
from rlaif_dagster.spec.labels import LabelledPairs
from rlaif_dagster.spec.recipes import Judging
from tests.rlaif_dagster.judging.chat_server import Reply, fails, says, serving, shown, verdict
from tests.rlaif_dagster.judging.conftest import constitution

LAW = constitution("Prefer the good answer.")
RECIPE = Judging(judge="asked")


def labels(folder: Path, name: str, rows: list[tuple[str, ...]], *constitutions: str) -> dict[str, LabelledPairs]:
    """A file of rows (answer a, answer b, preferred and, where there is one, category) and its spec."""
    columns = ("answer_a", "answer_b", "preferred", "category")
    lines = [
        json.dumps({"prompt": f"Question {n}?"} | dict(zip(columns, row, strict=False))) for n, row in enumerate(rows)
    ]
    (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return {name: LabelledPairs(file=f"{name}.jsonl", constitutions=constitutions or ("kind",))}


def reads_answers(request: dict[str, Any], number: int) -> Reply:
    """Likes `good`, ties where neither is, refuses `awful`, and takes the first where it sees `odd`."""
    first, second = shown(request)
    if "awful" in first + second:
        return says("I won't judge that.")
    if "odd" in first + second:
        return verdict("A")
    if "good" in first + second:
        return verdict("A" if "good" in first else "B")
    return verdict("tie")


def test_accuracy_kappa_consistency_and_the_length_baseline_by_hand(
    tmp_path: Path, api_judge: Callable[..., ApiJudge]
) -> None:
    rows = [
        ("good", "bad, long", "a"), ("bad", "good, long", "b"), ("good", "bad", "b"),  # right, right, wrong
        ("plain", "simple", "a"),  # a tie
        ("odd one", "odd", "a"),  # each order says something else: a tie that is not consistent
        ("awful", "awfully", "a"),  # refused
    ]  # fmt: skip
    with serving(reads_answers) as server:
        judge = api_judge(server.url)
        found = agreement("kind", LAW, labels(tmp_path, "mine", rows), tmp_path, RECIPE, judge)
        assert len(server.requests) == 12
    assert list(found.columns) == COLUMNS
    (row,) = found.to_dict("records")
    assert (row["dataset"], row["slice"], row["judge"], row["n"]) == ("mine", "all", "asked", 6)
    assert pd.isna(row["name"])
    assert row["accuracy"] == pytest.approx((1 + 1 + 0 + 0.5 + 0.5 + 0) / 6)
    assert row["ci_low"] < 0.5 < row["ci_high"]
    assert row["order_consistency"] == pytest.approx(4 / 6)  # all but the odd one and the refused one
    # the first place: once of two in each pair read well, both times in the odd one: 3 + 2 of 8
    assert row["first_position"] == pytest.approx((3 + 2) / 8)
    assert (row["failed"], row["errors"]) == (pytest.approx(2 / 12), 0)
    # by length: wrong, right, wrong (good is longer, bad is preferred), wrong, right, wrong
    assert row["longest_baseline"] == pytest.approx(2 / 6)


def test_kappa_by_hand() -> None:
    # agreement 3/4; chance (2/4)(1/4) + (2/4)(3/4) = 1/2; kappa = (3/4 - 1/2) / (1 - 1/2)
    assert kappa(["a", "a", "b", "b"], ["a", "b", "b", "b"]) == pytest.approx(0.5)
    assert kappa(["a", "b"], ["b", "a"]) == pytest.approx(-1.0)
    assert kappa(["a", "b"], ["tie", "none"]) == 0.0
    assert kappa(["a", "a"], ["a", "a"]) is None


def test_the_longer_answer_at_equal_length_is_half_right() -> None:
    assert longest(LabelledPair("p", "long one", "short", "a")) == 1.0
    assert longest(LabelledPair("p", "long one", "short", "b")) == 0.0
    assert longest(LabelledPair("p", "same", "size", "b")) == 0.5


def test_a_file_that_lists_the_preferred_answer_first_does_not_favour_the_first_place(
    tmp_path: Path, api_judge: Callable[..., ApiJudge]
) -> None:
    rows = [(f"odd {n}", f"odder {n}", "a") for n in range(40)]
    with serving(reads_answers) as server:
        found = agreement(
            "kind",
            LAW,
            labels(tmp_path, "mine", rows),
            tmp_path,
            Judging(judge="j", orders="ab"),
            api_judge(server.url),
        )
    assert 0.2 < found["accuracy"][0] < 0.8
    assert found["order_consistency"].isna().all()


def test_only_labels_that_speak_for_the_constitution_are_asked(
    tmp_path: Path, api_judge: Callable[..., ApiJudge]
) -> None:
    rows = [("good", "bad", "a")]
    labelled = labels(tmp_path, "mine", rows, "kind", "other") | labels(tmp_path, "foreign", rows, "other")
    with serving(reads_answers) as server:
        found = agreement("kind", LAW, labelled, tmp_path, RECIPE, api_judge(server.url))
        nothing = agreement("unheard", LAW, labelled, tmp_path, RECIPE, api_judge(server.url))
    assert found["dataset"].tolist() == ["mine"]
    pd.testing.assert_index_equal(nothing.columns, pd.Index(COLUMNS))
    assert nothing.empty


def test_every_principle_and_category_has_a_row_beside_the_whole(
    tmp_path: Path, api_judge: Callable[..., ApiJudge]
) -> None:
    """The second principle is judged the wrong way round: the whole is even, the principles are 1 and 0."""

    def by_principle(request: dict[str, Any], number: int) -> Reply:
        good, bad = ("A", "B") if "good" in shown(request)[0] else ("B", "A")
        return verdict(bad if "Prefer the bad" in request["messages"][0]["content"] else good)

    law = constitution("Prefer the good answer.", "Prefer the bad answer.", weights=(3.0, 1.0))
    rows = [("good", "bad", "a", "x"), ("bad", "good", "b", "x"), ("good", "bad", "b", "y")]
    with serving(by_principle) as server:
        found = agreement("kind", law, labels(tmp_path, "mine", rows), tmp_path, RECIPE, api_judge(server.url))
    numbers = {
        (row["slice"], row["name"] if pd.notna(row["name"]) else None): (row["n"], row["accuracy"])
        for row in found.to_dict("records")
    }
    assert numbers == {
        ("all", None): (3, pytest.approx(2 / 3)),  # weight 3 against 1: the first principle decides
        ("principle", "p0"): (3, pytest.approx(2 / 3)),
        ("principle", "p1"): (3, pytest.approx(1 / 3)),
        ("category", "x"): (2, 1.0),
        ("category", "y"): (1, 0.0),
    }
    assert (found["slice"] == "all").sum() == 1


def test_the_numbers_tell_a_perfect_judge_from_one_that_likes_a_place(
    tmp_path: Path, api_judge: Callable[..., ApiJudge]
) -> None:
    rows = [(f"good {n}", f"bad {n}", "a") if n % 2 else (f"bad {n}", f"good {n}", "b") for n in range(20)]
    spec = labels(tmp_path, "mine", rows)
    policies = {
        "perfect": lambda request, number: verdict("A" if "good" in shown(request)[0] else "B"),
        "first": lambda request, number: verdict("A"),
    }
    found = {}
    for name, policy in policies.items():
        with serving(policy) as server:
            judge = api_judge(server.url, name=name, server=name)
            found[name] = agreement("kind", LAW, spec, tmp_path, RECIPE, judge).iloc[0]
    assert found["perfect"][["accuracy", "kappa", "order_consistency", "first_position"]].tolist() == [1, 1, 1, 0.5]
    assert found["first"][["accuracy", "kappa", "order_consistency", "first_position"]].tolist() == [0.5, 0, 0, 1]


def test_pairs_that_could_not_be_judged_are_counted_as_errors(
    tmp_path: Path, api_judge: Callable[..., ApiJudge]
) -> None:
    with serving(lambda request, number: fails(400, "too long")) as server:
        judge = api_judge(server.url)
        (row,) = agreement(
            "kind", LAW, labels(tmp_path, "mine", [("good", "bad", "a")]), tmp_path, RECIPE, judge
        ).to_dict("records")
    assert (row["accuracy"], row["failed"], row["errors"]) == (0.0, 1.0, 2)
