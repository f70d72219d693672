from __future__ import annotations

import pandas as pd

from rlaif_dagster.judging.judgments import candidate_pairs, orders_of
from rlaif_dagster.spec.recipes import Judging

PROMPTS = pd.DataFrame({"prompt_id": ["p", "q"], "text": ["Why?", "How?"]})


def candidates(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["completion_id", "prompt_id", "text"])


def test_every_two_different_answers_to_a_prompt_meet_once() -> None:
    pairs = candidate_pairs(
        PROMPTS, candidates(("3", "p", "three"), ("1", "p", "one"), ("2", "p", "two"), ("4", "q", "four"))
    )
    assert [(pair.prompt, pair.a, pair.b) for pair in pairs] == [
        ("Why?", "one", "two"), ("Why?", "one", "three"), ("Why?", "two", "three"),
    ]  # fmt: skip


def test_equal_empty_and_foreign_answers_are_left_out() -> None:
    rows = candidates(
        ("1", "p", "one"), ("1", "p", "one"), ("2", "p", " one "), ("3", "p", " "), ("4", "z", "x"), ("5", "z", "y")
    )
    assert candidate_pairs(PROMPTS, rows) == []


def test_pairs_do_not_depend_on_the_order_of_the_rows() -> None:
    rows = candidates(("1", "p", "one"), ("2", "p", "two"), ("3", "q", "three"), ("4", "q", "four"))
    assert candidate_pairs(PROMPTS, rows) == candidate_pairs(PROMPTS[::-1], rows[::-1])


def test_orders_follow_the_recipe() -> None:
    assert orders_of(Judging(judge="j")) == ("ab", "ba")
    assert orders_of(Judging(judge="j", orders="ab")) == ("ab",)
