"""What counts as having seen a benchmark in training, on texts made for it."""

from __future__ import annotations

import pandas as pd

from rlaif_dagster.evaluation.contamination import contamination, runs, told

LONG = "the slow green turtle crosses the wide river at dawn while three herons watch from the bank"


def items(**texts: str) -> pd.DataFrame:
    rows = [{"task": "quiz", "metric": metric, "item_id": name, "text": text}
            for name, text in texts.items() for metric in ("acc", "acc_norm")]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_run_of_thirteen_words_is_found_whatever_surrounds_it() -> None:
    found = contamination(
        items(seen=f"Question: {LONG.upper()}, isn't it?\nyes", new="Who crosses the wide river at dawn?\nthe turtle"),
        [f"Tell a story. {LONG.title()}!", "Something else entirely."],
    )
    row = found.iloc[0]
    assert (row["items"], row["contaminated"], row["share"], row["examples"]) == (2, 1, 0.5, ["seen"])
    passed, message = told(found, 0.0)
    assert not passed
    assert "quiz: 1 of 2 items, such as seen" in message
    assert told(found, 0.5)[0]


def test_twelve_words_in_common_are_chance() -> None:
    words = LONG.split()
    twelve = " ".join([*words[:12], "and", "then", "something", "quite", "different", "happens"])
    assert contamination(items(a=LONG), [twelve])["contaminated"].item() == 0


def test_a_short_line_counts_when_it_stands_there_whole() -> None:
    short = "What is the capital of Burkina Faso?"
    found = contamination(
        items(same=f"{short}\nOuagadougou", other="What is the capital of Benin?\nPorto-Novo"),
        [f"Please tell me: {short} Thanks.", "What is the capital, of all places, of Benin?"],
    )
    assert found["examples"].item() == ["same"]


def test_an_answer_of_a_few_words_proves_nothing() -> None:
    assert list(runs("Ouagadougou\nThe capital of Burkina Faso")) == []
    assert contamination(items(a="Which?\nOuagadougou is it"), ["Ouagadougou is it"])["contaminated"].item() == 0


def test_a_run_does_not_cross_lines() -> None:
    first, second = LONG.split()[:7], LONG.split()[7:]
    broken = f"{' '.join(first)}\n{' '.join(second[:5])}"
    assert contamination(items(a=LONG), [broken])["contaminated"].item() == 0
