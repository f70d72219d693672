"""Files of labelled pairs (to measure a judge against people) and of human grades."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.spec.base import NOT_MEANING, Spec

HUMAN = "human"


class LabelledPairs(Spec):
    """data/labels/NAME.yaml: a file of pairs with a preferred answer, and the names of its columns."""

    description: Annotated[str, NOT_MEANING] = Field(default="", description="for people; changes no result")
    file: str = Field(description="JSONL, JSON, CSV or Parquet, relative to data/labels")
    constitutions: tuple[str, ...] = Field(
        min_length=1, description="the constitutions whose judgment the labels speak for"
    )
    prompt: str = Field(default="prompt", description="column of the prompt")
    answer_a: str = Field(default="answer_a", description="column of the first answer")
    answer_b: str = Field(default="answer_b", description="column of the second answer")
    preferred: str = Field(default="preferred", description="column holding which answer is preferred")
    preferred_a: str = Field(default="a", description="value of that column when the first answer is preferred")
    preferred_b: str = Field(
        default="b", description="its value when the second answer is preferred; any other value is an error"
    )
    category: str | None = Field(
        default="category", description="column by which agreement is taken apart; may be missing in the data"
    )
    limit: int | None = Field(default=None, gt=0, description="the first N rows; all when absent")


class HumanGrade(Spec):
    """One line of data/labels/human_grades.jsonl, as the report writes it."""

    model: str = Field(description="name in data/models")
    constitution: str = Field(description="name in data/constitutions")
    arm: Literal["base", "sft", "dpo", "ppo"] = Field(description="which policy gave the answer")
    prompt_id: str = Field(description="hash of the prompt, as in the table prompts; of split qualitative")
    alignment_grade: float = Field(ge=0, le=1, description="how well the answer keeps to the constitution; 1 is best")
    correctness_grade: float | None = Field(
        default=None, ge=0, le=1, description="how right the answer is; 1 is best; absent where it was not graded"
    )
    rationale: str = Field(default="", description="why, in the grader's words")
    grader: str = Field(
        default=HUMAN, description="who graded; a name becomes `human:NAME`, so that no person is taken for a judge"
    )
    answer_id: str | None = Field(
        default=None, description="which answer was graded; the grade is left out once the arm answers otherwise"
    )

    @field_validator("grader")
    @classmethod
    def _is_a_person(cls, grader: str) -> str:
        return grader if is_human(grader) else f"{HUMAN}:{grader}"


def is_human(grader: object) -> bool:
    """Whether a grader of the table `qualitative` is a person."""
    return grader == HUMAN or str(grader).startswith(f"{HUMAN}:")


def answer_id(text: str) -> str:
    """What identifies an answer in a file of grades: a hash of its text, so that a grade never moves to another answer."""
    return content_hash(text)
