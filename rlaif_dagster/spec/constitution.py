"""A constitution: principles in plain language, with optional exemplars and an optional format that a program can check."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from rlaif_dagster.spec.base import NOT_MEANING, Spec


class Principle(Spec):
    """One rule that the judge applies by itself."""

    id: str = Field(pattern=r"^[a-z0-9_]+$", description="stable name; judgments are kept by it")
    text: str = Field(min_length=10, description="the rule, as the judge and the reviser read it")
    weight: float = Field(default=1.0, gt=0, description="its share in the aggregated preference")


class Exemplar(Spec):
    """A prompt and an answer that follows the constitution, shown when the model revises, and to a likelihood judge."""

    prompt: str = Field(min_length=1, description="what is asked")
    response: str = Field(
        min_length=1, description="the answer; where the constitution has a format, it must keep to it"
    )


class FormatField(Spec):
    """One labelled part of a strict format, `Label: value`."""

    label: str = Field(min_length=1, description="what stands before the colon, letter by letter")
    values: tuple[str, ...] | None = Field(default=None, description="allowed values; free text when absent")


class Format(Spec):
    """A strict answer format: fields in order, joined by a separator, and nothing around them."""

    fields: tuple[FormatField, ...] = Field(min_length=1, description="in the order in which an answer must have them")
    separator: str = Field(default=" — ", min_length=1, description="what stands between two fields, letter by letter")

    def missing(self, text: str) -> str | None:
        """The first part of the format that `text` lacks, or None when it adheres.

        A part is a field's label, `"LABEL value"` when the label is there but its value is empty or not allowed, or
        `"separator"` when every label is in place but they are not joined as prescribed.
        """
        rest = text.strip()
        positions = []
        for field in self.fields:
            found = re.search(rf"(?:^|\W){re.escape(field.label)}: ", rest)
            if found is None:
                return field.label
            positions.append(found.start())
        if self.pattern.fullmatch(rest):
            return None
        parts = rest.split(self.separator)
        if positions != sorted(positions) or len(parts) != len(self.fields):
            return "separator"
        for part, field in zip(parts, self.fields, strict=True):
            if not part.startswith(f"{field.label}: "):
                return "separator"
            value = part.removeprefix(f"{field.label}: ")
            if not value.strip() or (field.values and value not in field.values):
                return f"{field.label} value"
        return "separator"

    @property
    def pattern(self) -> re.Pattern[str]:
        """The whole format as one regular expression, to be matched against the stripped text."""
        parts = []
        for field in self.fields:
            value = (
                "|".join(map(re.escape, field.values))
                if field.values
                else rf"(?:(?!{re.escape(self.separator)})[^\n])*?\S"
            )
            parts.append(rf"{re.escape(field.label)}: (?:{value})")
        return re.compile(re.escape(self.separator).join(parts))


class Constitution(Spec):
    """data/constitutions/NAME.yaml"""

    description: Annotated[str, NOT_MEANING] = Field(default="", description="for people; changes no result")
    principles: tuple[Principle, ...] = Field(min_length=1, description="the rules, each with an id of its own")
    exemplars: tuple[Exemplar, ...] = Field(
        default=(),
        description="answers that follow the principles; recipe generation and a likelihood judge say how many they show, and the "
        "rest is that judge's yardstick for grades",
    )
    format: Format | None = Field(default=None, description="set when adherence can be checked by a program")

    @field_validator("principles")
    @classmethod
    def _unique_ids(cls, principles: tuple[Principle, ...]) -> tuple[Principle, ...]:
        ids = [principle.id for principle in principles]
        if len(set(ids)) < len(ids):
            raise ValueError(f"principle ids must be unique, found {ids}")
        return principles

    @model_validator(mode="after")
    def _exemplars_adhere(self) -> Constitution:
        for number, exemplar in enumerate(self.exemplars):
            if self.format and (lacks := self.format.missing(exemplar.response)):
                raise ValueError(f"exemplar {number} does not follow the constitution's own format: {lacks}")
        return self
