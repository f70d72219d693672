"""The strict format: every way to miss it, and the name of the part that lacks."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rlaif_dagster.spec.constitution import Constitution, Exemplar, Format, FormatField, Principle

STRICT = Format(
    fields=(
        FormatField(label="Answer"),
        FormatField(label="Confidence", values=("high", "medium", "low")),
        FormatField(label="Reasoning"),
    )
)
RULE = Principle(id="format", text="Respond in the strict format.")


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Answer: Paris — Confidence: high — Reasoning: It is the capital.", None),
        ("  Answer: Paris — Confidence: low — Reasoning: It is.\n", None),
        ("Answer: Wait: what? — Confidence: high — Reasoning: Colons are allowed - hyphens too.", None),
        ("Paris is the capital.", "Answer"),
        ("", "Answer"),
        ("Answer: Paris — Reasoning: It is the capital.", "Confidence"),
        ("Answer: Paris — Confidence: high", "Reasoning"),
        ("Answer: Paris — Confidence: high — Reasoning:", "Reasoning"),
        ("Answer: Paris — Confidence: certain — Reasoning: It is.", "Confidence value"),
        ("Answer: Paris — Confidence: High — Reasoning: It is.", "Confidence value"),
        ("Answer: Paris - Confidence: high - Reasoning: It is.", "separator"),
        ("Answer: Paris—Confidence: high—Reasoning: It is.", "separator"),
        ("Answer: Paris\nConfidence: high\nReasoning: It is.", "separator"),
        ("Confidence: high — Answer: Paris — Reasoning: It is.", "separator"),
        ("Sure! Answer: Paris — Confidence: high — Reasoning: It is.", "separator"),
        ("Answer: Paris — Confidence: high — Reasoning: It is. — Thanks", "separator"),
        ("answer: Paris — confidence: high — reasoning: It is.", "Answer"),
    ],
)
def test_the_first_missing_part(text: str, missing: str | None) -> None:
    assert STRICT.missing(text) == missing


def test_an_exemplar_must_follow_the_constitutions_own_format() -> None:
    good = Exemplar(prompt="p", response="Answer: x — Confidence: low — Reasoning: y")
    Constitution(principles=(RULE,), exemplars=(good,), format=STRICT)
    with pytest.raises(ValidationError, match=r"exemplar 1 does not follow .* Confidence"):
        Constitution(principles=(RULE,), exemplars=(good, Exemplar(prompt="p", response="Answer: x")), format=STRICT)


def test_principle_ids_are_unique() -> None:
    with pytest.raises(ValidationError, match="principle ids must be unique"):
        Constitution(principles=(RULE, RULE))


def test_a_description_changes_no_version_and_a_weight_does() -> None:
    plain = Constitution(principles=(RULE,))
    assert Constitution(principles=(RULE,), description="words").data_version() == plain.data_version()
    heavier = Constitution(principles=(RULE.model_copy(update={"weight": 2.0}),))
    assert heavier.data_version() != plain.data_version()
