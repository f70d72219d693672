"""Adherence of answers to a format, row by row."""

from __future__ import annotations

import pandas as pd
import pytest

from rlaif_dagster.evaluation.adherence import COLUMNS, adherence
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, to_arrow

STRICT = Constitution.model_validate(
    {
        "principles": [{"id": "format", "text": "Answer in the strict format."}],
        "format": {
            "fields": [{"label": "Answer"}, {"label": "Confidence", "values": ["high", "low"]}, {"label": "Reasoning"}]
        },
    }
)
PROMPTS = pd.DataFrame({"prompt_id": ["p", "q"], "split": ["eval", "qualitative"]})


def responses(*texts: str) -> pd.DataFrame:
    rows = [("dpo", 1, "p" if i % 2 == 0 else "q", text, 9, "greedy") for i, text in enumerate(texts)]
    return pd.DataFrame(rows, columns=["arm", "seed", "prompt_id", "text", "tokens", "decoding"])


def test_first_missing_part() -> None:
    found = adherence(
        responses(
            "Answer: yes — Confidence: high — Reasoning: it is so",
            "Answer: yes — Confidence: sure — Reasoning: it is so",
            "Answer: yes, Confidence: high, Reasoning: it is so",
            "It is so.",
        ),
        PROMPTS,
        STRICT,
    )
    assert list(found["adherent"]) == [True, False, False, False]
    assert list(found["missing"]) == [None, "Confidence value", "separator", "Answer"]
    assert list(found["split"]) == ["eval", "qualitative"] * 2
    assert to_arrow(TABLES["adherence"], found, Cell("m", "c")).num_rows == 4


def test_no_format_no_rows() -> None:
    plain = Constitution.model_validate({"principles": [{"id": "honest", "text": "Be honest always."}]})
    found = adherence(responses("x"), PROMPTS, plain)
    assert list(found.columns) == COLUMNS
    assert to_arrow(TABLES["adherence"], found, Cell("m", "c")).num_rows == 0


def test_a_response_to_no_prompt_is_an_error() -> None:
    with pytest.raises(KeyError):
        adherence(responses("x"), PROMPTS[1:], STRICT)
